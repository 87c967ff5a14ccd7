"""The worker pool: one thread per worker process, which feeds it, listens to it and replaces it.

Measured, the pools of the standard library and its relatives lose or strand the work of a killed
worker. Here each process has a pipe of its own, so a death is the end of that pipe and of nothing
else, and its thread takes back the blocks it had.
"""

from __future__ import annotations

import contextlib
import logging
import socket
from collections.abc import Callable
from dataclasses import replace
from multiprocessing import connection
from multiprocessing.connection import Connection
from pathlib import Path
from threading import Event, Thread
from typing import TYPE_CHECKING, Final

from service.child import end_child, start_child
from service.dispatcher import WINDOW, Dispatcher
from service.own_code import doing, doing_and_ways_on, speaks
from service.progress import Place, Progress
from service.slots import Slots
from service.threads import Backoff, ended, start_thread
from service.worker import Done, Failed, Ready, StateLost, WorkerPlan

if TYPE_CHECKING:
    from multiprocessing.context import ForkServerProcess

log = logging.getLogger(__name__)

START_LIMIT: Final = 60.0
"""Seconds a worker may take to open its steps before it is replaced."""

STOP_LIMIT: Final = 5.0
"""Seconds a worker may take to close its steps before it is killed."""

MOST_STARTS: Final = 6
"""So many deaths in a row before it was ready are no accident."""


class WorkerLink:
    """One worker of the pool, whichever process it is at present."""

    def __init__(
        self,
        index: int,
        dispatcher: Dispatcher,
        folder: Path,
        plan: Callable[[], WorkerPlan],
        slot_size: int,
        state_lost: Callable[[], None],
        failed: Callable[[str], None],
    ) -> None:
        """Report a dead state host to ``state_lost`` and what cannot be mended to ``failed``.

        ``folder`` is the runtime directory, ``plan`` what a new process is to know,
        ``slot_size`` how many bytes of kept lines it hands over in memory.
        """
        self.index = index
        self.in_flight: dict[int, int] = {}
        self.restarts = 0
        self.ready = Event()
        self._dispatcher = dispatcher
        self._folder = folder
        self._plan = plan
        self._slot_size = slot_size
        self._state_lost = state_lost
        self._failed = failed
        self._process: ForkServerProcess | None = None
        self._progress = Progress(1)
        self._why = ""
        self._bell, self._ring = socket.socketpair()
        self._ring.setblocking(False)
        self._stopping = Event()
        self._thread: Thread | None = None

    def start(self) -> None:
        """Start the first process, without waiting for it."""
        self._thread = start_thread(f"worker-{self.index}", self._run, self._failed)

    def wake(self) -> None:
        """Make the thread ask the dispatcher for a task."""
        with contextlib.suppress(OSError):  # full: it has yet to hear the earlier ones; or closed
            self._ring.send(b"!")

    def kill(self, why: str = "") -> None:
        """End the present process at once; ``why`` goes to the dead letter of a guilty event."""
        self._why = why
        process = self._process
        if process is not None:
            process.kill()

    def stop_soon(self) -> None:
        """Let the process close its steps and end, without waiting for it."""
        self._stopping.set()
        self.wake()

    def stop(self, limit: float) -> bool:
        """Let the process close its steps and end, and kill it after a while.

        Says whether it is gone, at most ``limit`` seconds after that.
        """
        self.stop_soon()
        if not ended(self._thread, STOP_LIMIT):
            self.kill()
            if not ended(self._thread, limit):
                return False
        self._bell.close()
        self._ring.close()
        return True

    @property
    def pid(self) -> int | None:
        """The present process id, None between two."""
        process = self._process
        return process.pid if process is not None else None

    def places(self) -> list[Place]:
        """Return where the worker is, or was when it died."""
        return list(self._progress.places())

    def _run(self) -> None:
        backoff = Backoff()
        died = 0
        while not self._stopping.wait(backoff.pause):
            try:
                pipe, slots = self._start_process()
            except OSError as error:  # too many processes, or files: it may pass
                log.warning("worker %s cannot be started: %s; it is tried again", self.index, error)
                backoff.grow_at_once()
                continue
            was_ready = self._serve(pipe, slots)
            how = self._bury(pipe)
            slots.close()
            if not self._stopping.is_set():
                self.restarts += 1
                died = 0 if was_ready else died + 1
                if died == MOST_STARTS:
                    what = doing_and_ways_on(self.places(), self._plan().chain.steps)
                    self._failed(f"a worker cannot start: {died} in a row {how}{what}")
                    return
                if was_ready:
                    backoff.reset()
                else:
                    backoff.grow()

    def _start_process(self) -> tuple[Connection, Slots]:
        self._progress = Progress(1)
        slots = Slots(WINDOW, self._slot_size)
        self._why = ""
        try:
            self._process, pipe = start_child(
                "penstock-worker",
                self._folder,
                "service.worker:run_worker",
                self._progress,
                slots,
            )
        except BaseException:
            slots.close()  # or each attempt would take one more of the files that are short
            raise
        return pipe, slots

    def _serve(self, pipe: Connection, slots: Slots) -> bool:
        """Feed the process until it dies or is to stop; say whether it had been ready."""
        was_ready = False
        try:
            pipe.send(plan := self._plan())
            told = plan.chain
            steps = told.steps
            if not speaks(pipe, f"worker {self.index}", self.places, steps, START_LIMIT):
                self._why = f"was not ready within {START_LIMIT:g} s"
                if what := doing_and_ways_on(self.places(), steps):  # it would hang again
                    self._failed(f"a worker {self._why}{what}")
                    self._stopping.wait()
                return False
            if isinstance(first := pipe.recv(), Failed):
                self._failed(first.problem)
                self._stopping.wait()
                return False
            was_ready = isinstance(first, Ready)
            self.ready.set()
            while not self._stopping.is_set():
                while (task := self._dispatcher.take(self)) is not None:
                    chain = task.block.chain
                    if chain is not told:
                        pipe.send(chain)
                        told = chain
                    pipe.send(replace(task, block=replace(task.block, chain=chain.nameplate)))
                for source in connection.wait([pipe, self._bell]):
                    if source is pipe:
                        self._hear(pipe.recv(), slots)
                    else:
                        self._bell.recv(4096)
        except (EOFError, OSError):
            pass
        self.ready.clear()
        return was_ready

    def _hear(self, report: Done | StateLost | Failed, slots: Slots) -> None:
        if isinstance(report, Done):
            report.result.kept = slots.take(report.kept)  # before anything: the slot is free then
            self._dispatcher.done(self, report.number, report.result)
        elif isinstance(report, StateLost):
            if self._dispatcher.state_lost(self, report.number):
                self._state_lost()
        else:
            self._failed(report.problem)

    def _bury(self, pipe: Connection) -> str:
        """End the process, and return how it ended; in this order.

        1. Tell it, if that is what is wanted, and close the pipe: a worker that is well closes its
           steps and goes by itself.
        2. Kill what does not go: it is hung, and its blocks wait.
        3. Only then give its blocks to others: no block is at two workers of one generation.
        """
        process = self._process
        assert process is not None  # noqa: S101 - it was started
        if self._stopping.is_set():
            with contextlib.suppress(OSError):  # it is dead
                pipe.send(None)
        pipe.close()
        process.join(STOP_LIMIT if self._stopping.is_set() else 0)
        end_child(process)
        how = self._why or f"ended its worker ({_ending(process.exitcode)})"
        if not self._stopping.is_set():
            blocks = len(self.in_flight)
            log.warning(
                "worker %s (pid %s) ended (%s)%s; %s",
                self.index,
                process.pid,
                self._why or _ending(process.exitcode),
                doing(self.places(), self._plan().chain.steps),
                f"its blocks ({blocks}) are done again, nothing is lost"
                if blocks
                else "it had no block, and another one is started",
            )
        self._dispatcher.worker_died(self, self.places(), how)
        self._process = None
        return self._why or f"ended ({_ending(process.exitcode)})"


def _ending(exitcode: int | None) -> str:
    return (
        f"signal {-exitcode}" if exitcode is not None and exitcode < 0 else f"exit code {exitcode}"
    )
