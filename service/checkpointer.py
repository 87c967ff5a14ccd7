"""The checkpointer: saves a checkpoint whenever a barrier has passed everything.

The stream does not stop for it: each shared step took its snapshot right after the barrier's block,
and the emitter its mark. What remains is to gather, sync and write them, here, in a thread.
"""

from __future__ import annotations

import logging
import time
from collections.abc import Callable
from threading import Condition, Thread
from typing import Final

from service.checkpoint import Checkpoint, CheckpointFiles
from service.dispatcher import Barrier, Dispatcher
from service.emitter import Emitter, Mark
from service.errors import OutcomeUnknown, PipelineFailed, ProcessLost, SnapshotHeldBack
from service.journal.entry import Configuration
from service.journal.journal import Journal
from service.snapshot import Encoded
from service.threads import ended, start_thread

log = logging.getLogger(__name__)

PAUSE: Final = 0.1
"""Seconds at most until a state host that could not be asked for its snapshot is asked again."""


class Checkpointer:
    """Takes checkpoints in a thread of its own; without files only the memory of the host."""

    def __init__(
        self,
        dispatcher: Dispatcher,
        emitter: Emitter,
        journal: Journal,
        files: CheckpointFiles | None,
        configuration: Configuration,
        fetch: Callable[[str, int], Encoded] | None,
    ) -> None:
        """``fetch`` gets a snapshot by the state host's address and block; None: there are none."""
        self._dispatcher = dispatcher
        self._emitter = emitter
        self._journal = journal
        self._files = files
        self._configuration = configuration
        self._fetch = fetch
        self._changed = Condition()
        self._thread: Thread | None = None
        self._tried = dispatcher.last_settled
        self.block = dispatcher.last_settled
        """The block of the last checkpoint on the disk."""
        self.problem: str | None = None
        """Why no later one could be written; None once one was."""
        self._since = 0.0

    def start(self, failed: Callable[[str], None]) -> None:
        """Begin; what cannot be mended is reported to ``failed``."""
        self._thread = start_thread("checkpointer", self._run, failed)

    def join(self, limit: float) -> bool:
        """Wait for the last checkpoint, the dispatcher being closed; False if that took longer."""
        return ended(self._thread, limit)

    def wait_for(self, block: int, limit: float) -> bool:
        """Wait until a checkpoint at ``block`` or after was tried; False if that took too long.

        Whether it is there, ``self.block`` tells.
        """
        with self._changed:
            return self._changed.wait_for(lambda: self._tried >= block, limit)

    def describe(self) -> dict[str, int | str] | None:
        """Return the journal's ``bytes`` and the block of the ``checkpoint``; None without files.

        And the ``problem``, while there is one.
        """
        if self._files is None:
            return None
        described = {"bytes": self._journal.size, "checkpoint": self.block}
        return described | ({} if self.problem is None else {"problem": self.problem})

    def cannot(self, problem: str, since: float | None = None) -> None:
        """Take note of why no checkpoint can be written now; that is told once.

        ``since``: when that began on the monotonic clock, now if None.
        """
        if self.problem is None:
            self._since = time.monotonic() if since is None else since
            log.error("%s; the one before it holds", problem)
        self.problem = problem

    def held_back(self) -> float:
        """Return for how many seconds no checkpoint could be written, 0 while they can."""
        return 0.0 if self.problem is None else time.monotonic() - self._since

    def begin(self, mark: Mark, memory: Encoded | None) -> None:
        """Save the state before anything comes; raises PipelineFailed: no start goes on without.

        It may not be saved where the emitter was stopped first.
        """
        if not self.save(mark, memory) and not self._emitter.stopped:
            message = f"{self.problem}: no start goes on without it; make room, then start again"
            raise PipelineFailed(message)

    def save(self, mark: Mark, memory: Encoded | None) -> bool:
        """Make the state at a mark the one to start from, in this order.

        1. The journal is synced: a checkpoint is never ahead of it.
        2. The sinks and dead letters are: what a start will not write again must be there.
        3. The checkpoint is written: from now on a start begins here.
        4. Only now the journal may forget what came before.

        Says whether it was written. If not, the one before it holds, the journal keeps all since,
        and ``problem`` tells why. Raises OutcomeUnknown when the disk does not say what it kept.
        """
        if self._files is None:
            self._can_again()
            return True
        checkpoint = Checkpoint(
            block=mark.block.number,
            sequence=mark.block.sequence,
            chain=mark.block.chain,
            configuration=self._configuration,
            memory=None if memory is None else memoryview(memory),
            sinks=mark.sinks,
            dead_letters=mark.dead_letters,
            origins=mark.origins,
            statistics=mark.statistics,
        )
        self._journal.sync()
        try:
            if not self._emitter.flush():
                self.problem = "the daemon stopped before every sink was flushed"
                return False
        except OSError as error:
            message = (
                f"the dead letters may not be on the disk ({error}): the daemon stops; its next "
                "start writes everything since the last checkpoint again"
            )
            raise OutcomeUnknown(message) from error
        try:
            self._files.save(checkpoint)
        except OSError as error:
            self.cannot(f"the checkpoint at block {mark.block.number} cannot be written: {error}")
            return False
        self._can_again()
        self._journal.trim(self._files.needed, time.time())
        return True

    def take(self, barrier: Barrier, memory: Encoded | None) -> None:
        """Save the state at a barrier, and let the memory be the one to start state hosts from.

        The memory holds also where the disk did not take it: the journal has all that a start
        needs, and the next barrier tries again. A barrier that was saved before passes again when
        the state host died too soon after.
        """
        saved = False
        if barrier.block > self._tried:
            saved = self.save(self._emitter.mark(barrier.block), memory)
        self._dispatcher.adopt_snapshot(barrier, memory)
        with self._changed:
            if saved:
                self.block = barrier.block
            self._tried = max(self._tried, barrier.block)
            self._changed.notify_all()

    def _can_again(self) -> None:
        if self.problem is not None:
            self.problem = None
            log.warning("checkpoints can be written again")

    def _run(self) -> None:
        while (barrier := self._dispatcher.next_barrier()) is not None:
            try:
                memory = self._memory(barrier)
            except (ProcessLost, SnapshotHeldBack) as error:
                if isinstance(error, SnapshotHeldBack):
                    self.cannot(f"no checkpoint at block {barrier.block}: {error}")
                # If it is dead, the next one passes this barrier again. If it could only not be
                # asked, nobody would: and what is kept until a barrier may leave no room for one.
                self._dispatcher.pass_again(barrier)
                self._dispatcher.wait_for_progress(PAUSE)
                continue
            self.take(barrier, memory)

    def _memory(self, barrier: Barrier) -> Encoded | None:
        if self._fetch is None:
            return None
        return self._fetch(barrier.state_address, barrier.block)
