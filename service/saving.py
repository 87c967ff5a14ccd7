"""Checkpoints that are asked for: now and then, and a last one, tried until it is there."""

from __future__ import annotations

import time
from collections.abc import Callable
from typing import Final

from service.checkpointer import Checkpointer
from service.dispatcher import Dispatcher
from service.errors import PipelineFailed, StorageBusy, StorageFull
from service.intake import Intake

SAVE_AGAIN: Final = 1.0
"""Seconds until a last checkpoint that could not be taken is tried again."""

_LOOK: Final = 0.05
"""Seconds between two looks whether to go on waiting."""


class Saving:
    """Has barriers placed, and waits for the checkpoints there."""

    def __init__(
        self,
        intake: Intake,
        dispatcher: Dispatcher,
        checkpointer: Checkpointer,
        failed: Callable[[str], None],
    ) -> None:
        """Report to ``failed`` what trying again does not mend."""
        self._intake = intake
        self._dispatcher = dispatcher
        self._checkpointer = checkpointer
        self._failed = failed
        self.locked = False
        """Whether the last barrier could not be placed because another process holds a lock."""

    @property
    def done(self) -> bool:
        """Say whether the last checkpoint holds everything that was accepted."""
        return self._checkpointer.block >= self._intake.last_block

    @property
    def waits_for(self) -> str:
        """Say in a few words why the last checkpoint is not there yet."""
        problem = self._checkpointer.problem
        return "the last checkpoint" + ("" if problem is None else f": {problem}")

    def held_back(self) -> float:
        """Return for how many seconds all that is left to do has been a checkpoint that fails."""
        if self._dispatcher.last_settled < self._intake.last_block:
            return 0.0
        return self._checkpointer.held_back()

    def ask(self) -> bool:
        """Have a checkpoint taken now, unless nothing is new; False: no barrier could be placed."""
        if not self._intake.recovered.is_set():
            return True
        problem, last = self._checkpointer.problem, self._intake.last_block
        again = problem is not None and self._checkpointer.wait_for(last, 0)
        self.locked = False
        began = time.monotonic()
        try:
            self._intake.place_barrier(again=again)
        except StorageFull as error:
            self.locked = isinstance(error, StorageBusy)
            self._checkpointer.cannot(f"no checkpoint: {error}", since=began)
            return False
        except PipelineFailed as error:
            self._failed(str(error))
            return False
        return True

    def wait(self, placed: bool, go_on: Callable[[], bool], limit: float) -> None:
        """Wait for a checkpoint at the last block; what could not be taken is tried again.

        ``placed``: what ``ask`` said last.
        """
        now = time.monotonic()
        until, again = now + limit, now + SAVE_AGAIN
        while not self.done and go_on():
            tried = self._checkpointer.wait_for(self._intake.last_block, _LOOK)
            now = time.monotonic()
            if self.done or now >= until:
                return
            if placed and not tried:
                continue  # it is under way
            if now >= again:
                placed, again = self.ask(), time.monotonic() + SAVE_AGAIN
            else:
                self._dispatcher.wait_for_progress(_LOOK)
