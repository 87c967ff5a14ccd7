"""The pipeline: from the queue through the workers to the sinks, wired, started and stopped."""

from __future__ import annotations

import tempfile
from collections.abc import Callable, Mapping
from pathlib import Path
from threading import Lock, Thread
from typing import Any, Final

from service.block import Block, Offset
from service.border import check_reads
from service.chain import Mode, Step
from service.configured import configured_chain, configured_sinks
from service.dead_letters import DeadLetterFile
from service.dispatcher import Dispatcher
from service.emitter import Emitter
from service.errors import PipelineFailed
from service.event_queue import EventQueue
from service.guardian import DeadlineGuard, StateKeeper
from service.intake import Intake
from service.passage import Result
from service.settings import Settings
from service.state_host import StateHost
from service.statistics import Statistics
from service.threads import start_thread
from service.worker import WorkerPlan
from service.worker_pool import WorkerLink

STUCK_LIMIT: Final = 1.0
"""Seconds a sink may take to finish a write when nothing is to be waited for: it may never."""

_LOOK: Final = 0.05
"""Seconds between two looks whether to go on waiting."""


class Pipeline:
    """Everything between the queue and the sinks.

    ``queue`` takes submissions, ``switch`` changes the chain, ``statistics`` tells what became of
    the events. ``problem`` says why the pipeline cannot go on, once it cannot.
    """

    def __init__(self, settings: Settings, dead_letters: Path, failed: Callable[[], None]) -> None:
        """Load the chain and the sinks; raises ConfigurationError. Nothing is started yet.

        ``failed`` is called once, from any thread, when there is a ``problem``.
        """
        self.settings = settings
        self.problem: str | None = None
        self._failed = failed
        chain = configured_chain(settings)
        self._sinks = configured_sinks(settings)
        self._runtime = tempfile.TemporaryDirectory(prefix="penstock-", ignore_cleanup_errors=True)
        self._dead_letters = DeadLetterFile(dead_letters)
        self._problem_lock = Lock()
        self.statistics = Statistics(step.name for step in chain.steps)
        self.queue = EventQueue(events=settings.queue.events, size=settings.queue.bytes)
        self._dispatcher = Dispatcher(
            self._finished,
            workers=settings.workers.count,
            retries=settings.workers.retries,
            room=settings.queue.bytes,
            checkpoint_size=settings.state.checkpoint,
            remembers=chain.remembers,
        )
        self.intake = Intake(self.queue, self._dispatcher, self.statistics, settings.block, chain)
        self.emitter = Emitter(
            self._sinks, self._dead_letters, self.statistics, self._dispatcher.settled
        )
        self._host = StateHost(self.runtime_directory, chain.steps, settings.workers.retries)
        self.keeper = StateKeeper(
            self._dispatcher, self._host, settings.workers.deadline, self.fail
        )
        self.links = [self._link(index) for index in range(settings.workers.count)]
        self._dispatcher.connect(self.links)
        self._guard = DeadlineGuard(
            self._dispatcher, self.links, self._host, settings.workers.deadline, self.fail
        )
        self._threads: list[Thread] = []
        self._drained = False

    @property
    def runtime_directory(self) -> Path:
        """The directory of this run's sockets, which only its user may enter."""
        return Path(self._runtime.name)

    @property
    def state_host_pid(self) -> int | None:
        """The process id of the state host, None when there is none."""
        return self._host.pid

    @property
    def remembers(self) -> bool:
        """Say whether any step is shared, so that there is a state host."""
        return self.intake.chain.remembers

    @property
    def ready(self) -> bool:
        """Say whether the state host and every worker are up."""
        return all(link.ready.is_set() for link in self.links) and (
            self.keeper.ready.is_set() or not self.remembers
        )

    def start(self) -> None:
        """Start, from the end of the path to its beginning; raises PipelineFailed.

        1. The sinks, so that a path that cannot be written is found before anything else runs.
        2. The emitter, then the state host and the workers, which start side by side.
        3. The intake, which waits for whatever comes.
        """
        for name, sink in self._sinks.items():
            try:
                sink.open()
            except OSError as error:
                raise PipelineFailed(f'sink "{name}": cannot be opened: {error}') from error
        self._threads.append(start_thread("emitter", self.emitter.run, self.fail))
        if self.remembers:
            self.keeper.start()
        for link in self.links:
            link.start()
        self._guard.start()
        self._intake_thread = start_thread("intake", self.intake.run, self.fail)

    def wait_until_ready(self, limit: float, go_on: Callable[[], bool]) -> None:
        """Wait until the state host and every worker are up, or ``go_on`` says no.

        Raises PipelineFailed when they are not within ``limit`` seconds.
        """
        waits = [link.ready for link in self.links]
        if self.remembers:
            waits.append(self.keeper.ready)
        for wait in waits:
            while not wait.wait(_LOOK):
                self.check()
                if not go_on():
                    return
                limit -= _LOOK
                if limit <= 0:
                    raise PipelineFailed("the workers did not get ready in time")

    def check(self) -> None:
        """Raise PipelineFailed if the pipeline cannot go on."""
        if self.problem is not None:
            raise PipelineFailed(self.problem)

    def drain(self, go_on: Callable[[], bool]) -> bool:
        """Emit everything accepted; say whether all was.

        ``go_on`` is asked a few times a second, and ends the draining by saying no. In this order:
        1. the queue refuses what is new;
        2. the intake accepts what is still in it;
        3. the workers and the emitter finish.
        """
        self.queue.close()
        while self.problem is None and go_on():
            self._intake_thread.join(_LOOK)
            if self._intake_thread.is_alive():
                continue
            if self._dispatcher.wait_until_settled(_LOOK):
                self._drained = True
                return True
        return False

    def stop(self) -> None:
        """Stop at once, from the beginning of the path to its end.

        1. Nobody waits for room, and the queue takes nothing in.
        2. The guard, so that nothing is taken for hung while it stops.
        3. The workers, which close their steps, then the state host, which nobody asks any more.
        4. The emitter, then the sinks, which nobody writes to any more.
        """
        self.queue.close()
        self._dispatcher.close()
        self._guard.stop()
        for link in self.links:
            link.stop_soon()
            if not self._drained:
                link.kill("the daemon stops at once")
        for link in self.links:
            link.stop()
        self.keeper.stop()
        self.emitter.stop()
        for thread in self._threads:
            thread.join(None if self._drained else STUCK_LIMIT)
        if not any(thread.is_alive() for thread in self._threads):
            for sink in self._sinks.values():
                sink.close()
            self._dead_letters.close()
        self._runtime.cleanup()

    def fail(self, problem: str) -> None:
        """End the pipeline: ``problem`` is one that trying again does not mend."""
        with self._problem_lock:
            if self.problem is not None:
                return
            self.problem = problem
        self._failed()

    def switch(
        self,
        name: str,
        *,
        mode: Mode | None = None,
        params: Mapping[str, Any] | None = None,
        reset: bool = False,
    ) -> tuple[Offset, Step]:
        """Switch one step; return the offset from which that holds, and the step.

        Raises KeyError for an unknown name, ConfigurationError for wrong parameters. Parameters are
        tried in an instance of their own first: what cannot be opened must not reach the workers.
        """
        if params is not None:
            step = self.intake.chain.switched(name, params=params).step(name)
            check_reads(self.settings.event, step.load())
            step.try_out()
        offset, chain = self.intake.switch(
            lambda chain: chain.switched(name, mode=mode, params=params, reset=reset)
        )
        return offset, chain.step(name)

    def _finished(self, block: Block, result: Result) -> None:
        self.emitter.offer(block, result)

    def _link(self, index: int) -> WorkerLink:
        return WorkerLink(
            index,
            self._dispatcher,
            self.runtime_directory,
            self._plan,
            self._host.kill,
            self.fail,
        )

    def _plan(self) -> WorkerPlan:
        settings = self.settings
        return WorkerPlan(
            settings.event, settings.workers.retries, self._host.key, self.intake.chain
        )
