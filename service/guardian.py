"""The guardian: kills what hangs, and replaces the state host.

Only the oldest block in flight can be late: every other one may be waiting for it. So one look at
its worker, and at the state host if the worker is asking it, shows whether the stream still moves.
"""

from __future__ import annotations

import logging
import time
from collections.abc import Callable
from threading import Event, Thread
from typing import Final

from service.dispatcher import Dispatcher
from service.errors import ProcessLost
from service.own_code import culprit, doing, doing_and_ways_on, handling
from service.progress import ASKING, NOTHING, RAISED
from service.state_host import BATCH_RAISED, StateHost
from service.threads import Backoff, ended, start_thread
from service.worker_pool import MOST_STARTS, WorkerLink

log = logging.getLogger(__name__)

LOOKS: Final = 4
"""How often the guardian looks within one deadline."""

_LOOK: Final = 0.05

MOST_IN_OWN_CODE: Final = 3
"""So many ends in a row while a step is opened, keeps or restores its memory are no accident."""


class DeadlineGuard:
    """Kills a worker or the state host when one call takes longer than the deadline."""

    def __init__(
        self,
        dispatcher: Dispatcher,
        links: list[WorkerLink],
        host: StateHost,
        deadline: float,
        failed: Callable[[str], None],
    ) -> None:
        """Report a defect of its own to ``failed``."""
        self._dispatcher = dispatcher
        self._links = links
        self._host = host
        self._deadline = deadline
        self._failed = failed
        self._stopping = Event()
        self._thread: Thread | None = None

    def start(self) -> None:
        """Begin to look."""
        self._thread = start_thread("deadline-guard", self._run, self._failed)

    def stop(self, limit: float) -> bool:
        """Stop looking; say whether that was done within ``limit`` seconds."""
        self._stopping.set()
        return ended(self._thread, limit)

    def _run(self) -> None:
        seen: object = None
        since = 0.0
        while not self._stopping.wait(self._deadline / LOOKS):
            oldest = self._dispatcher.oldest()
            if oldest is None:
                seen = None
                continue
            link, number = oldest
            assert isinstance(link, WorkerLink)  # noqa: S101 - the dispatcher's links are ours
            state = (number, link.pid, self._host.pid, link.places(), self._host.places())
            now = time.monotonic()
            if state != seen:
                seen, since = state, now
            elif now - since >= self._deadline:
                self._kill(link, number)
                seen = None

    def _kill(self, link: WorkerLink, number: int) -> None:
        why = f"took longer than the deadline of {self._deadline:g} s"
        log.error(
            "block %s: a call %s; its process is killed, and the block is done again", number, why
        )
        if not any(place.position == ASKING for place in link.places()):
            link.kill(why)
            return
        self._host.kill()
        if all(place.position == NOTHING for place in self._host.places()):
            # The state host was not busy either: one of the two is stopped, it shows on neither.
            link.kill(why)


class StateKeeper:
    """Starts the state host, and another one whenever it dies."""

    def __init__(
        self,
        dispatcher: Dispatcher,
        host: StateHost,
        deadline: float,
        failed: Callable[[str], None],
    ) -> None:
        """Report what cannot be mended to ``failed``."""
        self._dispatcher = dispatcher
        self._host = host
        self._deadline = deadline
        self._failed = failed
        self.restarts = 0
        self.ready = Event()
        self._stopping = Event()
        self._thread: Thread | None = None

    def start(self) -> None:
        """Start the first state host, without waiting for it."""
        self._thread = start_thread("state-keeper", self._run, self._failed)

    def stop(self, limit: float) -> bool:
        """End the state host; say whether that was done within ``limit`` seconds.

        Call it when nobody asks the state host any more.
        """
        self._stopping.set()
        self._host.kill()
        until = time.monotonic() + limit
        while not ended(self._thread, _LOOK) and time.monotonic() < until:
            self._host.kill()  # again: it may have been about to start
        return ended(self._thread, 0)

    def _run(self) -> None:
        backoff = Backoff()
        died = in_own_code = 0
        while not self._stopping.wait(backoff.pause):
            try:
                self._host.start(self._dispatcher.snapshot)
            except OSError as error:  # too many processes, or files: it may pass
                log.warning("the state host cannot be started: %s; it is tried again", error)
                backoff.grow_at_once()
                continue
            except ProcessLost as error:
                if self._stopping.is_set():
                    return  # it was killed to be gone
                died += 1
                places, steps = self._host.places(), self._host.steps
                if died == MOST_STARTS:
                    what = doing_and_ways_on(places, steps)
                    self._failed(f"{error}, {died} in a row{what}")
                    return
                log.warning(
                    "%s%s; attempt %s of %s, nothing is lost",
                    error,
                    doing(places, steps),
                    died,
                    MOST_STARTS,
                )
                backoff.grow()
                continue
            backoff.reset()
            died = 0
            self._dispatcher.state_ready(self._host.generation, self._host.address)
            self.ready.set()
            if self._stopping.is_set():
                self._host.kill()
            code = self._host.wait()
            end = f"the state host ended (exit code {code})"
            self.ready.clear()
            if self._stopping.is_set():
                return
            places, steps = self._host.places(), self._host.steps
            in_own_code = in_own_code + 1 if culprit(places, steps) else 0
            if in_own_code == MOST_IN_OWN_CODE:
                what = doing_and_ways_on(places, steps)
                self._failed(f"{end}, {in_own_code} in a row{what}")
                return
            if code != BATCH_RAISED or all(place.position != RAISED for place in places):
                log.warning(  # else it has said so itself, and why
                    "%s%s; another one starts from the last snapshot and is asked again, "
                    "nothing is lost",
                    end,
                    doing(places, steps) or handling(places, steps),
                )
            self.restarts += 1
            how = f"ended the state host, or took longer than the deadline of {self._deadline:g} s"
            self._dispatcher.state_died(places, how)
