"""A worker process: takes tasks from its pipe, runs each block through the chain, sends reports."""

from __future__ import annotations

import contextlib
import traceback
from dataclasses import dataclass, replace
from multiprocessing.connection import Connection
from queue import SimpleQueue
from threading import Thread

from middleware.errors import PenstockError, in_words
from service.answer import Answer, Blame
from service.block import Block
from service.chain import ChainVersion
from service.errors import ProcessLost
from service.passage import Result
from service.progress import ASKING, BORDER, Progress
from service.runner import ChainRunner
from service.sequencer import Question
from service.settings import EventSettings
from service.slots import Put, Slots
from service.state_host import StateClient


@dataclass(frozen=True, slots=True)
class Task:
    """A block to run, and the state host to ask: its generation's address.

    It travels with the number of its chain version only: a worker is told a version once, by the
    ``ChainVersion`` itself in front of the first task that it holds for.
    """

    block: Block
    blame: Blame
    settled: int
    generation: int
    state_address: str


@dataclass(frozen=True, slots=True)
class Ready:
    """The worker has opened its steps and takes tasks."""


@dataclass(frozen=True, slots=True)
class Done:
    """What became of a block; ``kept`` is where the result's kept lines are."""

    number: int
    generation: int
    result: Result
    kept: bytes | Put


@dataclass(frozen=True, slots=True)
class StateLost:
    """The state host of this generation died before the block was through."""

    number: int
    generation: int


@dataclass(frozen=True, slots=True)
class Failed:
    """Nothing that trying again would mend: the pipeline must stop."""

    problem: str


Report = Ready | Done | StateLost | Failed


@dataclass(frozen=True, slots=True)
class WorkerPlan:
    """All a worker process needs to know at its start."""

    settings: EventSettings
    retries: int
    state_key: bytes
    chain: ChainVersion
    lost_inputs_die: bool = False


class Worker:
    """One worker: the chain runner, and the connection to the state host of the day."""

    def __init__(self, plan: WorkerPlan, progress: Progress, slots: Slots) -> None:
        self._key = plan.state_key
        self._slots = slots
        self._client: StateClient | None = None
        self._generation = 0
        self._chain = plan.chain
        self._lane = progress.lane(0)
        self._runner = ChainRunner(
            plan.settings,
            self._lane,
            plan.retries,
            self._ask,
            lost_inputs_die=plan.lost_inputs_die,
        )
        self._runner.switch(plan.chain)

    def learn(self, chain: ChainVersion) -> None:
        """Take the chain version that holds for the next tasks."""
        self._chain = chain

    def perform(self, task: Task) -> Report:
        """Run a task's block through the chain."""
        number, generation = task.block.number, task.generation
        block = replace(task.block, chain=self._chain)
        try:
            self._connect(task)
            result = self._runner.run(block, task.blame, task.settled)
        except ProcessLost:
            self._client = None
            self._generation = 0
            return StateLost(number, generation)
        except PenstockError as error:
            return Failed(str(error))
        kept, result.kept = self._slots.put(result.kept), b""
        return Done(number, generation, result, kept)

    def close(self) -> None:
        """Close the local steps."""
        self._runner.close()

    def _connect(self, task: Task) -> None:
        if task.generation == self._generation:
            return
        # Seen by the guardian: a state host that does not answer here is to be replaced, not this.
        self._lane.enter(task.block.number, BORDER, ASKING)
        try:
            self._client = (
                StateClient(task.state_address, self._key) if task.state_address else None
            )
        finally:
            self._lane.leave()
        self._generation = task.generation

    def _ask(self, question: Question) -> Answer:
        if self._client is None:
            raise ProcessLost("there is no state host")
        return self._client.ask(question)


def run_worker(pipe: Connection, progress: Progress, slots: Slots) -> bool:
    """Take the plan, then serve tasks from ``pipe``; say whether None came to end it.

    Otherwise the pipe was closed: the daemon stops in the middle of things, or is dead.
    """
    try:
        worker = Worker(pipe.recv(), progress, slots)
    except EOFError:
        return False
    except PenstockError as error:
        pipe.send(Failed(f"a worker cannot start: {error}"))
        return False
    except Exception as error:  # noqa: BLE001 - told to the daemon, which ends with it
        traceback.print_exc()
        pipe.send(Failed(f"a worker cannot start: {in_words(error)}"))
        return False
    with contextlib.suppress(OSError):  # the daemon stops already; reading tasks tells
        pipe.send(Ready())
    # Tasks are read in a thread of their own: a daemon that could not hand over the next task while
    # this process hands over a result would wait for it, and it for the daemon, for ever.
    tasks: SimpleQueue[Task | ChainVersion | bool] = SimpleQueue()
    Thread(target=_read_tasks, args=(pipe, tasks), name="tasks", daemon=True).start()
    told = False
    while not isinstance(task := tasks.get(), bool):
        if isinstance(task, ChainVersion):
            worker.learn(task)
            continue
        report = worker.perform(task)
        try:
            pipe.send(report)
        except OSError:
            break
    else:
        told = task
    worker.close()
    return told


def _read_tasks(pipe: Connection, tasks: SimpleQueue[Task | ChainVersion | bool]) -> None:
    """Hand on the tasks and chain versions, then whether their end was told."""
    try:
        while (task := pipe.recv()) is not None:
            tasks.put(task)
        tasks.put(True)
    except (EOFError, OSError):
        tasks.put(False)
