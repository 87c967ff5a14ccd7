"""The pipeline: from the queue through the workers to the sinks, wired, started and stopped."""

from __future__ import annotations

import logging
import time
from collections.abc import Callable, Mapping
from functools import partial
from pathlib import Path
from threading import Lock, Thread
from typing import Any, Final

from service.allocator import keep_freed_memory
from service.chain import ChainVersion, Mode, Step
from service.checkpointer import Checkpointer
from service.configured import configured_sinks
from service.dispatcher import Dispatcher
from service.emitter import Emitter
from service.errors import NotAccepted, PipelineFailed, QueueClosed
from service.event_queue import EventQueue
from service.guardian import DeadlineGuard, StateKeeper
from service.intake import Intake
from service.last_calls import LastCalls
from service.opening import open_sinks
from service.origins import Origins
from service.runtime_directory import new_runtime_directory
from service.saving import Saving
from service.settings import Settings
from service.state_directory import Storage
from service.state_host import StateHost
from service.statistics import Statistics
from service.threads import Ending, ended, start_thread
from service.trial import try_out
from service.worker import WorkerPlan
from service.worker_pool import WorkerLink

log = logging.getLogger(__name__)

STOP_LIMIT: Final = {True: 10.0, False: 1.0}
"""Seconds that each part may take to end, by whether all was emitted: a sink may never end."""

CHECKPOINT_LIMIT: Final = 60.0
"""Seconds the last checkpoint may take; without it the next start only has more to do again."""

RECOVERY_LIMIT: Final = 5.0
"""Seconds a switch waits until everything in the journal has its place again."""

_LOOK: Final = 0.05
"""Seconds between two looks whether to go on waiting."""


class Pipeline:
    """Everything between the queue and the sinks.

    ``queue`` takes submissions, ``switch`` changes the chain, ``statistics`` tells what became of
    the events. ``problem`` says why the pipeline cannot go on, once it cannot.
    """

    def __init__(
        self,
        settings: Settings,
        storage: Storage,
        failed: Callable[[], None],
        *,
        patient: bool = True,
    ) -> None:
        """Load the sinks and wire everything; raises ConfigurationError. Nothing is started yet.

        ``failed`` is called once, from any thread, when there is a ``problem``. Unless ``patient``,
        a sink that cannot be opened, or an input that is gone, is one.
        """
        self.settings = settings
        self.problem: str | None = None
        self._failed, self._patient, self._storage = failed, patient, storage
        recovered, checkpoint = storage.recovered, storage.recovered.checkpoint
        start, chain = recovered.start, recovered.start.chain
        self._runtime = new_runtime_directory(settings.state.directory)
        self.runtime_directory = Path(self._runtime.name)
        self.last_calls = LastCalls(settings.state.directory)
        self._problem_lock = Lock()
        steps = [step.name for step in chain.steps]
        self.statistics = Statistics(steps, checkpoint.statistics if checkpoint else None)
        self.queue = EventQueue(events=settings.queue.events, size=settings.queue.bytes)
        self._dispatcher = Dispatcher(
            lambda block, result: self.emitter.offer(block, result),  # noqa: PLW0108 - made below
            workers=settings.workers.count,
            retries=settings.workers.retries,
            room=settings.queue.bytes,
            checkpoint_size=settings.state.checkpoint_bytes,
            remembers=chain.remembers,
        )
        self._dispatcher.start_from(start.block, checkpoint.memory if checkpoint else None)
        journal, deadline = storage.journal, settings.workers.deadline
        self.intake = Intake(
            self.queue, self._dispatcher, self.statistics, settings.block, journal, storage.space
        )
        self.intake.start_from(start)
        self.emitter = Emitter(
            configured_sinks(settings, self.last_calls),
            storage.dead_letters,
            Origins(checkpoint.origins if checkpoint else None),
            self.statistics,
            self._dispatcher.settled,
            after=start.block,
            patient=patient,
        )
        self.host = StateHost(self.runtime_directory, chain.steps, settings.workers.retries)
        self.keeper = StateKeeper(self._dispatcher, self.host, deadline, self.fail)
        self.checkpointer = Checkpointer(
            self._dispatcher,
            self.emitter,
            storage.journal,
            storage.checkpoints,
            recovered.configuration,
            self.host.snapshot if chain.remembers else None,
        )
        told = (self._plan, settings.block.bytes, self.host.kill, self.fail)
        self.links = [
            WorkerLink(index, self._dispatcher, self.runtime_directory, *told)
            for index in range(settings.workers.count)
        ]
        self._dispatcher.connect(self.links)
        self.saving = Saving(self.intake, self._dispatcher, self.checkpointer, self.fail)
        self._guard = DeadlineGuard(self._dispatcher, self.links, self.host, deadline, self.fail)
        self._threads: list[Thread] = []
        self._intake_thread: Thread | None = None
        self._taking_in = Lock()  # held while it starts: it may end before its thread is known
        self._drained, self.ending = False, Ending()

    @property
    def remembers(self) -> bool:
        """Say whether any step is shared, so that there is a state host."""
        return self._storage.recovered.start.chain.remembers

    @property
    def ready(self) -> bool:
        """Say whether every process is up, and what the journal held is emitted."""
        return self.up and self.caught_up

    @property
    def up(self) -> bool:
        """Say whether the state host and every worker are up."""
        return all(link.ready.is_set() for link in self.links) and (
            self.keeper.ready.is_set() or not self.remembers
        )

    @property
    def saved(self) -> bool:
        """Say whether the last checkpoint holds everything that was accepted."""
        return self.saving.done

    @property
    def opened(self) -> bool:
        """Say whether every sink was opened, so that events can be taken in."""
        return self._intake_thread is not None

    @property
    def caught_up(self) -> bool:
        """Say whether everything that the journal held at the start was emitted."""
        intake = self.intake
        return intake.recovered.is_set() and self._dispatcher.last_settled >= intake.last_recovered

    def start(self) -> None:
        """Start, from the end of the path to its beginning; raises PipelineFailed.

        1. The state host and the workers, which take their time, side by side; they have nothing
           to do yet.
        2. What looks whether a sink returns, then the emitter, which opens the sinks, however long
           that takes; each goes back to where the last checkpoint saw it.
        3. Only then the checkpointer and the intake, which takes up what the journal holds, then
           waits for whatever comes.
        """
        keep_freed_memory()
        if self.remembers:
            self.keeper.start()
        for link in self.links:
            link.start()
        self._guard.start()
        self._threads.append(start_thread("sink watch", self.emitter.watch, self.fail))
        self._threads.append(start_thread("emitter", self._emit, self.fail))

    def wait_until(self, reached: Callable[[], bool], go_on: Callable[[], bool]) -> bool:
        """Wait until ``reached`` says yes, or ``go_on`` no; return what ``reached`` said.

        Raises PipelineFailed when the pipeline cannot go on.
        """
        while not reached():
            self.check()
            if not go_on():
                return False
            self._dispatcher.wait_for_progress(_LOOK)
        return True

    def check(self) -> None:
        """Raise PipelineFailed if the pipeline cannot go on."""
        if self.problem is not None:
            raise PipelineFailed(self.problem)

    def checkpoint(self) -> None:
        """Have a checkpoint taken now, unless there is nothing new."""
        self.saving.ask()

    def drain(self, go_on: Callable[[], bool], *, checkpoint: bool = True) -> bool:
        """Emit everything accepted; say whether all was.

        ``go_on`` is asked a few times a second, and ends the draining by saying no. In this order:
        1. the queue refuses what is new;
        2. the intake accepts what is still in it;
        3. a last barrier follows, unless there is no next start that needs its ``checkpoint``;
        4. the workers and the emitter finish;
        5. a checkpoint is taken at the last block, also where that was a barrier already: the next
           start has nothing to do again. Whether it was, ``saved`` tells.
        """
        self.queue.close()
        with self._taking_in:
            intake = self._intake_thread
        if intake is None:
            log.warning("stopping before every sink could be opened: nothing was taken in")
            self.queue.reject_waiting(QueueClosed("the daemon is stopping; this was not accepted"))
            return False
        while self.problem is None and go_on() and not ended(intake, _LOOK):
            pass
        if intake.is_alive() or self.problem is not None:
            return False
        placed = not checkpoint or self.saving.ask()
        while self.problem is None and go_on():
            if self._dispatcher.wait_until_settled(_LOOK):
                self._drained = True
                break
        if self._drained and checkpoint:
            self.saving.wait(placed, lambda: self.problem is None and go_on(), CHECKPOINT_LIMIT)
        return self._drained

    def stop(self) -> None:
        """Stop at once, from the beginning of the path to its end.

        1. Nobody waits for room, and the queue takes nothing in.
        2. The guard, so that nothing is taken for hung while it stops.
        3. The workers, which close their steps, then the state host, which nobody asks any more.
        4. The emitter, which waits for no sink any more, and the checkpointer.
        5. The sinks and the journal, unless a thread that uses them did not return in time.

        What is not emitted by then is in the journal. What does not end is named in ``ending``.
        """
        limit, end = STOP_LIMIT[self._drained], self.ending.end
        self.queue.close()
        self.intake.stop()
        self._dispatcher.close()
        end("the deadline guard", lambda: self._guard.stop(limit))
        for link in self.links:
            link.stop_soon()
            if not self._drained:
                link.kill("the daemon stops at once")
        for link in self.links:
            end(f"worker {link.index}", lambda: link.stop(limit))  # noqa: B023 - called at once
        end("the state host", lambda: self.keeper.stop(limit))
        with self._taking_in:  # from now on nothing is started behind the sinks
            self.emitter.stop()
        until = time.monotonic() + limit  # of all: they end side by side
        done = end("the checkpoint", lambda: self.checkpointer.join(limit))
        self.host.close()
        for thread in [*self._threads, *filter(None, [self._intake_thread])]:
            done &= end(thread.name, lambda: ended(thread, until - time.monotonic()))  # noqa: B023 - called at once
        if done:
            end("the sinks", self.emitter.close)
            end("the journal", self._storage.journal.close)
        self.last_calls.remove()
        self._runtime.cleanup()

    def waits_for(self) -> str:
        """Say in a few words what stands between now and the end."""
        return self.ending.at or self.emitter.waits_for or self._left()

    def held_back(self) -> float:
        """Return for how many seconds nothing has got on: for a sink, or for a last checkpoint."""
        return max(self.emitter.held_back(), self.saving.held_back())

    def fail(self, problem: str) -> None:
        """End the pipeline: ``problem`` is one that trying again does not mend."""
        with self._problem_lock:
            if self.problem is not None:
                return
            self.problem = problem
        self.queue.close()
        self.queue.reject_waiting(QueueClosed(f"nothing is accepted any more: {problem}"))
        self._failed()

    def switch(
        self,
        name: str,
        *,
        mode: Mode | None = None,
        params: Mapping[str, Any] | None = None,
        reset: bool = False,
        reason: str = "",
    ) -> tuple[Step, str]:
        """Switch one step; return it as it is from its offset ``since`` on, and a sentence's end.

        That tells what becomes of its memory if it gets ``params``. Raises KeyError for an unknown
        name, ConfigurationError for wrong parameters, NotAccepted when it cannot be kept.
        Parameters are tried out first: what cannot be opened must not reach the workers.
        """
        if not self.intake.recovered.wait(RECOVERY_LIMIT):
            raise NotAccepted("the daemon is still recovering; switch again in a moment")
        memory = ""
        if params is not None:
            step, deadline = self.intake.chain.step(name), self.settings.workers.deadline
            memory = try_out(step, params, self.settings.event, self.runtime_directory, deadline)
        what = partial(ChainVersion.switched, name=name, mode=mode, params=params, reset=reset)
        made = partial(what, reason=reason, when=time.time())
        try:
            chain = self.intake.switch(lambda chain, at: made(chain, since=str(at)))
        except PipelineFailed as error:
            self.fail(str(error))
            raise
        return chain.step(name), memory

    def _emit(self) -> None:
        """Open the sinks, let the checkpointer and the intake begin, then emit until stopped."""
        if open_sinks(self.emitter, self.intake, self.checkpointer, self._storage):
            with self._taking_in:
                if self.emitter.stopped:
                    return
                self.checkpointer.start(self.fail)
                self._intake_thread = start_thread("intake", self.intake.run, self.fail)
            self.emitter.run()

    def _left(self) -> str:
        blocks = self.intake.last_block - self._dispatcher.last_settled
        if blocks > 0:
            return self.statistics.left or f"{blocks} blocks are not emitted yet"
        if self._drained or self.checkpointer.problem is not None:
            return self.saving.waits_for
        return self.queue.refusal or "what waits in the queue is not accepted yet"

    def _plan(self) -> WorkerPlan:
        event, retries = self.settings.event, self.settings.workers.retries
        return WorkerPlan(event, retries, self.host.key, self.intake.chain, self._patient)
