"""Parameters may be as large as a list of 100,000 points: nobody is told them with every block."""

from __future__ import annotations

import os
import pickle
from collections.abc import Iterator
from multiprocessing import Pipe
from multiprocessing.connection import Connection
from pathlib import Path
from threading import Thread
from typing import Any

import pytest
from pydantic import BaseModel

from middleware import Event, SharedMiddleware
from service import state_host, worker_pool
from service.answer import NO_BLAME, Answer
from service.block import Block
from service.chain import ChainVersion
from service.dispatcher import Dispatcher
from service.passage import Result
from service.progress import Progress
from service.sequencer import Question
from service.settings import EventSettings
from service.shared_file import SharedFile
from service.slots import Slots
from service.state_host import HostedSequencer, StateClient
from service.worker import WorkerPlan, run_worker
from service.worker_pool import WorkerLink
from tests.core.examples import block, chain, line, runner, sequencer, step
from tests.daemon.running import eventually

MANY = list(range(1, 50_000))
LARGE = 10_000
"""Bytes that a list of so many points needs, and nothing else here does."""


class Sieve(SharedMiddleware):
    """Keeps the events of listed points."""

    reads = ("cid",)

    class Params(BaseModel):
        passing: frozenset[int]

    def handle(self, event: Event) -> Event | None:
        return event if event["cid"] in self.params.passing else None

    def snapshot(self) -> None:
        return None

    def restore(self, state: Any) -> None:
        assert state is None


@pytest.fixture
def shared() -> Iterator[SharedFile]:
    file = SharedFile()
    yield file
    file.close()


class CountingPipe(Connection):
    """A pipe that notes how many bytes each thing sent takes."""

    sizes: list[int]

    def send(self, thing: Any) -> None:
        self.sizes.append(len(pickle.dumps(thing)))
        super().send(thing)


class WorkerInAThread:
    """Stands for the child process that a worker is."""

    pid, exitcode = 0, 0

    def __init__(self, pipe: Connection, progress: Progress, slots: Slots) -> None:
        self._thread = Thread(target=run_worker, args=(pipe, progress, slots), daemon=True)
        self._thread.start()

    def join(self, limit: float | None = None) -> None:
        self._thread.join(limit or 20.0)

    def kill(self) -> None:
        """Do nothing: it ends with its pipe."""


def test_a_worker_is_told_a_chain_version_once(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    first = chain(step("block", use="blocklist", cids=MANY))
    second = chain(step("block", use="blocklist", cids=MANY[1:]), number=2)
    results: dict[int, Result] = {}

    def finished(block: Block, result: Result) -> None:
        results[block.number] = result
        dispatcher.settled(block)

    dispatcher = Dispatcher(
        finished,
        workers=1,
        retries=0,
        room=1_000_000,
        checkpoint_size=1_000_000,
        remembers=False,
    )
    dispatcher.start_from(0, None)
    sizes: list[int] = []

    def start(*given: Any) -> tuple[WorkerInAThread, Connection]:
        ours, theirs = Pipe()
        pipe = CountingPipe(os.dup(ours.fileno()))
        ours.close()
        pipe.sizes = sizes
        return WorkerInAThread(theirs, given[-2], given[-1]), pipe

    monkeypatch.setattr(worker_pool, "start_child", start)
    monkeypatch.setattr(worker_pool, "end_child", lambda process: process.join())

    def plan() -> WorkerPlan:
        return WorkerPlan(EventSettings(), 0, b"", first)

    link = WorkerLink(0, dispatcher, tmp_path, plan, 1000, lambda: None, pytest.fail)
    dispatcher.connect([link])
    link.start()
    for number in range(1, 11):
        dispatcher.accept(block(number, line(1), first if number < 6 else second))
    eventually(lambda: len(results) == 10, "all blocks came back")
    link.stop(5)
    assert [results[number].emitted for number in range(1, 11)] == [0] * 5 + [1] * 5
    assert len([size for size in sizes if size > LARGE]) == 2, sizes


class Manager:
    """Stands for the connection to a state host; notes what goes over it."""

    hosted: HostedSequencer
    sizes: list[int]

    def __init__(self, **_: Any) -> None:
        """Take no notice of the address."""

    @classmethod
    def register(cls, *_: Any, **__: Any) -> None:
        """Take no notice."""

    def connect(self) -> None:
        """Do nothing."""

    def sequencer(self) -> Manager:
        return self

    def ask(self, question: Question, *, whole: bool) -> Answer | None:
        asked = pickle.dumps(question)
        self.sizes.append(len(asked))
        return self.hosted.ask(pickle.loads(asked), whole=whole)  # noqa: S301 - made right here


def test_the_state_host_is_told_parameters_once_by_each_worker(
    monkeypatch: pytest.MonkeyPatch, shared: SharedFile
) -> None:
    versions = [
        chain(step("sieve", use=f"{__name__}:Sieve", passing=MANY[number:]), number=number)
        for number in range(1, 9)
    ]
    Manager.hosted = HostedSequencer(sequencer(versions[0].steps), shared)
    Manager.sizes = []
    monkeypatch.setattr(state_host, "StateManager", Manager)
    one, other = (StateClient("", b"") for _ in range(2))

    def emitted(client: StateClient, number: int, point: int, version: ChainVersion) -> int:
        return runner(client.ask).run(block(number, line(point), version), NO_BLAME, 0).emitted

    for number in range(1, 11):
        assert emitted(one if number % 2 else other, number, 1, versions[0]) == 0
    assert len([size for size in Manager.sizes if size > LARGE]) == 2, Manager.sizes
    for number, version in enumerate(versions[1:], 11):
        assert emitted(one, number, 5, version) == (number < 14)
    # The host has forgotten the first version by now, and is told again without further ado.
    assert emitted(other, 10, 1, versions[0]) == 0
    assert emitted(other, 18, MANY[-1], versions[-1]) == 1
