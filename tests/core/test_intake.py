"""The intake: a place in the total order first, and only then the receipt."""

from __future__ import annotations

from pathlib import Path

import pytest

from service.block import Block, FileRange, Offset, Submission
from service.chain import ChainVersion
from service.dispatcher import Dispatcher
from service.event_queue import EventQueue
from service.free_space import FreeSpace
from service.intake import Intake, Start
from service.journal.entry import Configuration
from service.journal.unkept import UnkeptJournal
from service.settings import BlockSettings
from service.statistics import Statistics
from tests.core.dispatching import FakeLink
from tests.core.examples import NOW, chain, step

FIRST = chain(step("Even"))
SWITCHED = FIRST.switched("Even", params={})


class Setup:
    def __init__(self) -> None:
        self.queue = EventQueue(events=1000, size=10_000)
        self.statistics = Statistics(["Even"])
        self.dispatcher = Dispatcher(
            lambda *_: None,
            workers=1,
            retries=0,
            room=10_000,
            checkpoint_size=1,
            remembers=False,
        )
        self.intake = Intake(
            self.queue,
            self.dispatcher,
            self.statistics,
            BlockSettings(bytes=20, linger=0),
            UnkeptJournal(),
            FreeSpace(Path(), 0),
        )
        self.intake.start_from(Start(0, 0, FIRST, Configuration({}, FIRST.steps), {}))

    def blocks(self) -> list[Block]:
        self.queue.close()
        self.intake.run()
        taken = []
        link = FakeLink("only")
        while (task := self.dispatcher.take(link)) is not None:
            taken.append(task.block)
            link.in_flight.clear()
        return taken


@pytest.fixture
def setup() -> Setup:
    return Setup()


def lines(count: int, source: str = "test") -> Submission:
    return Submission(source, b"{}\n" * count, count, 1, NOW)


def test_submissions_become_the_parts_of_blocks_with_consecutive_offsets(setup: Setup) -> None:
    receipts = [setup.queue.submit(lines(count, f"{count}")) for count in (2, 3, 1, 4)]
    first, second = setup.blocks()
    assert (first.number, first.payload) == (1, b"{}\n" * 6)
    assert [(part.source, part.lines) for part in first.parts] == [("2", 2), ("3", 3), ("1", 1)]
    assert (second.number, second.lines) == (2, 4)
    assert [str(each.result(0).first) for each in receipts] == ["1.0", "1.2", "1.5", "2.0"]
    assert [each.result(0).lines for each in receipts] == [2, 3, 1, 4]
    assert setup.statistics.totals().in_flight == 10


def test_a_reference_to_a_file_stays_one(setup: Setup) -> None:
    piece = FileRange("/nowhere", 5, 90)
    receipt = setup.queue.submit(Submission("file", piece, None, None, NOW))
    (only,) = setup.blocks()
    assert (only.payload, only.size, only.lines) == (piece, 85, None)
    assert receipt.result(0).lines is None


def test_what_was_withdrawn_leaves_no_gap(setup: Setup) -> None:
    futures = [setup.queue.submit(lines(5)) for _ in range(3)]
    futures[0].cancel()
    futures[2].cancel()
    assert [each.number for each in setup.blocks()] == [1]


def test_a_switch_holds_from_the_offset_it_tells(setup: Setup) -> None:
    offsets: list[Offset] = []

    def change(version: ChainVersion, offset: Offset) -> ChainVersion:
        offsets.append(offset)
        return SWITCHED if version is FIRST else version

    setup.queue.submit(lines(5))
    setup.queue.submit(lines(5))
    assert setup.intake.switch(change) is SWITCHED
    assert setup.intake.chain is SWITCHED
    assert {each.chain.number for each in setup.blocks()} == {2}
    setup.intake.switch(change)
    assert offsets == [Offset(1, 0), Offset(3, 0)]


def test_a_switch_that_fails_changes_nothing(setup: Setup) -> None:
    with pytest.raises(KeyError):
        setup.intake.switch(lambda version, _: version.switched("nobody", reset=True))
    assert setup.intake.chain is FIRST


@pytest.mark.parametrize("text", ["1234.17", "1.0"])
def test_an_offset_is_written_and_read(text: str) -> None:
    assert str(Offset.parse(text)) == text
