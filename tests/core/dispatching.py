"""A dispatcher with workers that do nothing by themselves."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, field

from service.block import Block, FileRange
from service.dispatcher import Dispatcher
from service.passage import Result
from service.progress import Place
from service.worker import Task
from tests.core.examples import RETRIES, blank_result, block

LIMIT = 20.0
SIZE = 10
KILLED = "ended its worker (signal 9)"


@dataclass(eq=False)
class FakeLink:
    """A worker that does nothing by itself."""

    name: str
    in_flight: dict[int, int] = field(default_factory=dict)
    wakes: int = 0

    def wake(self) -> None:
        self.wakes += 1


class Setup:
    """A dispatcher with fake workers; results are settled in order, as the emitter does."""

    def __init__(
        self,
        *,
        remembers: bool = True,
        room: int = 10_000,
        checkpoint: int = 30,
        by_reference: bool = False,
        workers: int = 2,
    ) -> None:
        self.by_reference = by_reference
        self.links = [FakeLink(name) for name in "abcd"[:workers]]
        self.finished: list[int] = []
        self.settled = 0
        self.blocks: dict[int, Block] = {}
        self.dispatcher = Dispatcher(
            self._finish,
            workers=workers,
            retries=RETRIES,
            room=room,
            checkpoint_size=checkpoint,
            remembers=remembers,
        )
        self.dispatcher.connect(self.links)
        if remembers:
            self.dispatcher.state_ready(1, "first")

    def _finish(self, each: Block, result: Result) -> None:
        del result
        self.finished.append(each.number)

    def accept(self, *numbers: int, barrier: int = 0) -> None:
        for number in numbers:
            payload = FileRange("in.ndjson", 0, SIZE) if self.by_reference else b"x" * SIZE
            self.blocks[number] = block(number, payload, barrier=number == barrier)
            self.dispatcher.accept(self.blocks[number])

    def take(self, link: FakeLink) -> Task:
        task = self.dispatcher.take(link)
        assert task is not None
        return task

    def numbers(self, link: FakeLink) -> Iterator[int]:
        """Take all there is for a worker."""
        while (task := self.dispatcher.take(link)) is not None:
            yield task.block.number

    def done(self, link: FakeLink, *numbers: int, settle: bool = True) -> None:
        for number in numbers:
            self.dispatcher.done(link, number, blank_result())
            while settle and self.settled + 1 in self.finished:
                self.settled += 1
                self.dispatcher.settled(self.blocks[self.settled])

    def die(self, link: FakeLink, *places: Place, how: str = KILLED) -> None:
        self.dispatcher.worker_died(link, places, how)
