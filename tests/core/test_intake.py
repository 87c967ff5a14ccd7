"""The intake: a place in the total order first, and only then the receipt."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from concurrent.futures import Future, wait
from pathlib import Path
from threading import Event, Thread
from time import monotonic, sleep

import pytest

from service import intake as intake_module
from service.block import Block, FileRange, Offset, Receipt, Submission
from service.chain import ChainVersion
from service.dispatcher import Dispatcher
from service.errors import KeyReused, OutcomeUnknown, QueueClosed, StorageBusy, StorageFull
from service.event_queue import EventQueue, Waiting
from service.free_space import FreeSpace
from service.intake import Intake, Start
from service.journal.entry import CHAIN, ChainChange, Configuration, chain_entry
from service.journal.journal import BLOCK, Journal, Key, NewEntry
from service.journal.unkept import UnkeptJournal
from service.settings import BlockSettings
from service.statistics import Statistics
from tests.core.dispatching import LIMIT, FakeLink
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
        return self.taken()

    def blocks_after(self, *told: Future[Receipt]) -> list[Block]:
        """Return the blocks made until these producers were told something."""
        return self.blocks_of(self.running(), *told)

    def blocks_of(self, thread: Thread, *told: Future[Receipt]) -> list[Block]:
        assert not wait(told, LIMIT).not_done
        self.queue.close()
        thread.join(LIMIT)
        assert not thread.is_alive()
        return self.taken()

    def running(self) -> Thread:
        thread = Thread(target=self.intake.run, daemon=True)
        thread.start()
        return thread

    def taken(self) -> list[Block]:
        taken = []
        link = FakeLink("only")
        while (task := self.dispatcher.take(link)) is not None:
            taken.append(task.block)
            link.in_flight.clear()
        return taken


@pytest.fixture
def setup() -> Setup:
    return Setup()


def eventually(condition: Callable[[], bool]) -> None:
    deadline = monotonic() + LIMIT
    while not condition():
        assert monotonic() < deadline
        sleep(0.001)


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


class Durable(Setup):
    """An intake over a real journal."""

    def __init__(self, folder: Path, reserve: int = 0) -> None:
        super().__init__()
        self.journal = Journal(
            folder / "journal",
            full=False,
            segment_bytes=1 << 20,
            retention_bytes=1 << 30,
            retention_seconds=1e9,
        )
        self.journal.open(0)
        self.intake = Intake(
            self.queue,
            self.dispatcher,
            self.statistics,
            BlockSettings(bytes=20, linger=0),
            self.journal,
            FreeSpace(folder, reserve),
        )
        self.intake.start_from(Start(0, 0, FIRST, Configuration({}, FIRST.steps), {}))

    def kinds(self) -> list[tuple[int, int]]:
        return [(entry.kind, entry.block) for entry in self.journal.entries(0)]


@pytest.fixture
def durable(tmp_path: Path) -> Iterator[Durable]:
    made = Durable(tmp_path)
    yield made
    made.journal.close()


def keyed(key: str, payload: bytes = b"{}\n", source: str = "test") -> Submission:
    return Submission(source, payload, payload.count(b"\n"), 1, NOW, key)


def test_blocks_and_switches_are_in_the_journal_in_one_order(durable: Durable) -> None:
    durable.intake.switch(lambda chain, _: chain)
    durable.queue.submit(lines(5))
    durable.blocks()
    durable.intake.switch(lambda chain, _: chain)
    assert durable.kinds() == [(CHAIN, 1), (BLOCK, 1), (CHAIN, 2)]


def test_a_barrier_states_the_chain_again(durable: Durable) -> None:
    durable.queue.submit(lines(5))
    durable.blocks()
    assert durable.intake.place_barrier() == 2
    assert durable.intake.place_barrier() is None, "nothing has come since"
    assert durable.kinds() == [(CHAIN, 1), (BLOCK, 1), (CHAIN, 2), (BLOCK, 2)]
    assert durable.intake.place_barrier(again=True) == 3, "the checkpoint there failed"


def test_no_key_of_one_source_is_that_of_another(durable: Durable) -> None:
    """As would be where only a space stood between a source and its key."""
    offered = [
        keyed("redrive:1.0:", source="dead letters"),
        keyed("letters redrive:1.0:", source="dead"),
        keyed("c", source="a b"),
        keyed("b c", source="a"),
        keyed("letters redrive:1.0:", source="12 dead"),
        keyed("d ef", source="abc"),
        keyed("abc d ef", source="3"),
    ]
    first = [durable.queue.submit(each) for each in offered]
    again = [durable.queue.submit(each) for each in offered]
    durable.blocks()
    assert [accepted.result(0).repeated for accepted in first] == [False] * len(offered)
    assert [accepted.result(0).repeated for accepted in again] == [True] * len(offered)
    places = [accepted.result(0).first for accepted in first]
    assert [accepted.result(0).first for accepted in again] == places
    assert len(set(places)) == len(offered)


def test_what_comes_again_under_its_key_is_not_accepted_again(durable: Durable) -> None:
    first = [durable.queue.submit(keyed(key)) for key in ("a", "b", "a", "c")]
    durable.queue.submit(lines(7))
    again = durable.queue.submit(keyed("b"))
    (one, two) = durable.blocks()
    receipts = [each.result(0) for each in [*first, again]]
    assert [str(each.first) for each in receipts] == ["1.0", "1.1", "1.0", "1.2", "1.1"]
    assert [each.repeated for each in receipts] == [False, False, True, False, True]
    assert (one.lines, two.lines) == (3, 7)


def test_a_key_belongs_to_its_source(durable: Durable) -> None:
    futures = [durable.queue.submit(keyed("a", source=source)) for source in ("x", "y")]
    durable.blocks()
    assert [str(each.result(0).first) for each in futures] == ["1.0", "1.1"]


def test_other_events_under_a_key_that_was_used_are_refused(durable: Durable) -> None:
    first = durable.queue.submit(keyed("a"))
    other = durable.queue.submit(keyed("a", b'{"cid":1}\n'))
    (only,) = durable.blocks()
    assert first.result(0).first == Offset(1, 0)
    with pytest.raises(KeyReused, match="nothing was accepted; use a new key"):
        other.result(0)
    assert only.lines == 1


def test_below_the_reserve_who_can_come_again_is_refused_and_who_cannot_waits(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    full = Durable(tmp_path, reserve=1 << 62)
    monkeypatch.setattr(intake_module, "SPACE_LOOK", 0.001)
    patient = full.queue.submit(lines(1))
    impatient = full.queue.submit(Submission("http", b"{}\n", 1, 1, NOW, patient=False))
    thread = full.running()
    eventually(lambda: full.queue.refusal is not None)
    with pytest.raises(StorageFull, match="less than the reserve"):
        full.queue.submit(lines(1), limit=0)
    full.intake._space = FreeSpace(tmp_path, 0)  # noqa: SLF001 - room is made
    assert patient.result(20).first == Offset(1, 0)
    assert impatient.result(20).first == Offset(1, 1)
    assert full.queue.submit(lines(1)).result(20).first == Offset(2, 0)
    full.queue.close()
    thread.join(20)
    full.journal.close()


def test_a_journal_that_is_full_gives_back_what_can_come_again(
    durable: Durable, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(intake_module, "SPACE_LOOK", 0.001)
    append = durable.journal.append
    troubles = iter([StorageFull("no room")] * 3)

    def full_at_first(*entries: NewEntry) -> int:
        if entries[0].kind == BLOCK and (trouble := next(troubles, None)):
            raise trouble
        return append(*entries)

    monkeypatch.setattr(durable.journal, "append", full_at_first)
    patient = durable.queue.submit(lines(1))
    impatient = durable.queue.submit(Submission("http", b"{}\n", 1, 1, NOW, patient=False))
    (only,) = durable.blocks_after(patient, impatient)
    with pytest.raises(StorageFull):
        impatient.result(0)
    assert patient.result(0).first == Offset(1, 0)
    assert only.lines == 1


@pytest.mark.parametrize("patient", [True, False])
def test_what_was_accepted_is_not_accepted_again_where_a_repeated_one_cannot_be_looked_up(
    durable: Durable, monkeypatch: pytest.MonkeyPatch, *, patient: bool
) -> None:
    monkeypatch.setattr(intake_module, "SPACE_LOOK", 0.001)
    find = durable.journal.find
    # The key is looked up when it comes first, and for the receipt of those who come with it again.
    troubles = iter([None, StorageBusy("another process holds a lock")])

    def locked(key: str) -> tuple[int, Key] | None:
        if trouble := next(troubles, None):
            raise trouble
        return find(key)

    monkeypatch.setattr(durable.journal, "find", locked)
    durable.queue.submit(Submission("http", b"{}\n" * 7, 7, 1, NOW, key="k"))
    fresh = durable.queue.submit(lines(1))
    again = durable.queue.submit(
        Submission("http", b"{}\n" * 7, 7, 1, NOW, key="k", patient=patient)
    )
    monkeypatch.setattr(durable.intake, "_settings", BlockSettings(bytes=100, linger=0))
    assert [each.lines for each in durable.blocks_after(fresh, again)] == [8]
    assert fresh.result(0).first == Offset(1, 7)
    if patient:
        assert again.result(0) == Receipt(Offset(1, 0), 7, NOW, repeated=True)
    else:
        with pytest.raises(StorageBusy):
            again.result(0)


def test_what_comes_behind_a_piece_that_was_given_back_at_a_stop_is_given_back_too(
    durable: Durable, monkeypatch: pytest.MonkeyPatch
) -> None:
    append = durable.journal.append
    troubles = iter([StorageFull("no room")])

    def full_once_as_it_stops(*entries: NewEntry) -> int:
        if entries[0].kind == BLOCK and (trouble := next(troubles, None)):
            durable.intake.stop()
            raise trouble
        return append(*entries)

    monkeypatch.setattr(durable.journal, "append", full_once_as_it_stops)
    pieces = [durable.queue.submit(lines(7)) for _ in range(2)]  # each makes a block of its own
    assert durable.blocks() == []
    for piece in pieces:
        with pytest.raises(QueueClosed):
            piece.result(0)


def test_a_stop_ends_the_wait_for_room_of_what_was_taken_already(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """It is given back, and so is all behind it, even where there is room by then."""
    durable = Durable(tmp_path)
    take = durable.queue.take

    def full_once_taken(size: int, linger: float) -> list[Waiting] | None:
        taken = take(size, linger)
        durable.intake._space = FreeSpace(tmp_path, 1 << 62)  # noqa: SLF001 - the disk fills up
        return taken

    monkeypatch.setattr(durable.queue, "take", full_once_taken)
    pieces = [durable.queue.submit(lines(7)) for _ in range(2)]  # each makes a block of its own

    def make_room(_: Future[Receipt]) -> None:
        durable.intake._space = FreeSpace(tmp_path, 0)  # noqa: SLF001 - at the worst moment

    pieces[0].add_done_callback(make_room)
    thread = durable.running()
    eventually(lambda: durable.queue.refusal is not None)
    durable.queue.close()
    thread.join(LIMIT)
    assert not thread.is_alive()
    for piece in pieces:
        with pytest.raises(QueueClosed):
            piece.result(0)
    assert durable.kinds() == [(CHAIN, 1)]
    durable.journal.close()


@pytest.mark.parametrize("floor", [0, 2], ids=["the first entry", "blocks that a sink holds"])
@pytest.mark.parametrize("stopped", [False, True])
def test_a_lock_on_the_journal_delays_the_first_entries_of_a_start(
    durable: Durable, monkeypatch: pytest.MonkeyPatch, *, floor: int, stopped: bool
) -> None:
    monkeypatch.setattr(intake_module, "SPACE_LOOK", 0.001)
    append = durable.journal.append
    unlocked = Event()

    def locked(*entries: NewEntry) -> int:
        if not unlocked.is_set():
            raise StorageBusy("another process holds a lock")
        return append(*entries)

    monkeypatch.setattr(durable.journal, "append", locked)
    durable.intake.skip_to(floor)
    thread = durable.running()
    eventually(lambda: durable.queue.refusal is not None)
    if stopped:
        durable.queue.close()
        thread.join(LIMIT)
        assert not thread.is_alive()
        assert not durable.intake.recovered.is_set()
        assert durable.kinds() == []
        return
    unlocked.set()
    assert durable.intake.recovered.wait(LIMIT)
    receipt = durable.queue.submit(lines(1))
    assert [each.number for each in durable.blocks_of(thread, receipt)] == [*range(1, floor + 2)]


def test_a_disk_that_does_not_answer_leaves_it_open_whether_it_was_accepted(
    durable: Durable, monkeypatch: pytest.MonkeyPatch
) -> None:
    def fails(*_: NewEntry) -> int:
        raise OutcomeUnknown("the disk does not say")

    future = durable.queue.submit(lines(1))
    later = durable.queue.submit(lines(1))
    durable.journal.append(chain_entry(1, ChainChange(FIRST, Configuration({}, FIRST.steps))))
    monkeypatch.setattr(durable.journal, "append", fails)
    with pytest.raises(OutcomeUnknown):
        durable.blocks()
    with pytest.raises(OutcomeUnknown):
        future.result(0)
    with pytest.raises((QueueClosed, OutcomeUnknown)):
        later.result(0)


def test_the_journal_is_taken_up_before_anything_new(tmp_path: Path) -> None:
    before = Durable(tmp_path)
    before.queue.submit(lines(2))
    before.queue.submit(lines(7))
    before.blocks()
    before.intake.switch(lambda chain, offset: chain.switched("Even", since=str(offset)))
    before.journal.close()
    after = Durable(tmp_path)
    after.queue.submit(lines(3))
    numbers = [(each.number, each.lines, each.chain.number) for each in after.blocks()]
    assert numbers == [(1, 2, 1), (2, 7, 1), (3, 3, 2)]
    assert after.intake.last_recovered == 2
    assert after.statistics.totals().in_flight == 12
    after.journal.close()


def test_numbers_that_a_sink_holds_are_not_given_out_again(
    durable: Durable, caplog: pytest.LogCaptureFixture
) -> None:
    durable.intake.skip_to(2)
    durable.queue.submit(lines(1))
    assert [(each.number, each.lines) for each in durable.blocks()] == [(1, 0), (2, 0), (3, 1)]
    assert caplog.text.count("blocks 1 to 2 are lost") == 1
