"""The emitter: each block once, in order, whatever the order of results and the state of sinks."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from itertools import count
from pathlib import Path
from threading import Barrier, Thread
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from service import threads
from service.block import Block
from service.dead_letter_file import DeadLetterFile
from service.emitter import Emitter
from service.errors import PipelineFailed, SinkFailed
from service.opening import Before, open_outlets
from service.origins import Origins
from service.outlet import AHEAD, Outlet
from service.passage import DeadLetter
from service.sinks.sink import Emission, Sink
from service.statistics import Statistics
from tests.core.examples import blank_result, block, line

LIMIT = 20.0


class ListSink(Sink):
    """Collects what is written; its ``troubles`` come true first, one at each attempt."""

    def __init__(self, troubles: int = 0) -> None:
        super().__init__(self.Params())
        self.troubles = troubles
        self.attempts = 0
        self.written: list[bytes] = []

    def write(self, emission: Emission) -> None:
        self.attempts += 1
        if self.attempts <= self.troubles:
            raise OSError("the disk is full")
        self.written.append(emission.lines)


class SettledSink(ListSink):
    """Holds all up to a block already, as it says."""

    def __init__(self, told: Any) -> None:
        super().__init__()
        self.told = told

    def open(self, position: Any) -> None:
        del position
        self.settled = self.told


class Setup:
    def __init__(self, path: Path, **sinks: Sink) -> None:
        self.settled: list[int] = []
        self.statistics = Statistics(["step"])
        self.dead = path / "dead.ndjson"
        self.emitter = Emitter(
            {name: Outlet(sink, name=name) for name, sink in sinks.items()},
            DeadLetterFile(self.dead),
            Origins(),
            self.statistics,
            self._settle,
        )
        self._last = 0
        self._thread = Thread(target=self.emitter.run, daemon=True)

    def _settle(self, each: Block) -> None:
        self.settled.append(each.number)
        if each.number == self._last:
            self.emitter.stop()

    @contextmanager
    def until(self, last: int) -> Iterator[Emitter]:
        """Run the emitter; leaves once block ``last`` is settled."""
        self._last = last
        self._thread.start()
        yield self.emitter
        self._thread.join(LIMIT)
        assert not self._thread.is_alive()


@pytest.fixture
def _no_pauses(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(threads, "LONGEST_PAUSE", 0.0)


@given(st.permutations(range(1, 8)), st.lists(st.integers(1, 7), max_size=5))
def test_results_in_any_order_leave_in_order_and_once(order: list[int], again: list[int]) -> None:
    sink = ListSink()
    setup = Setup(Path("/nowhere"), sink=sink)
    with setup.until(7) as emitter:
        for number in order[:4] + again + order[4:] + again:
            emitter.offer(block(number), blank_result(kept=line(number)))
    assert sink.written == [line(number) for number in range(1, 8)]
    assert setup.settled == list(range(1, 8))


def test_a_duplicate_is_ignored_before_and_after_it_was_emitted(tmp_path: Path) -> None:
    sink = ListSink()
    setup = Setup(tmp_path, sink=sink)
    with setup.until(2) as emitter:
        for number, kept in [(1, b"a\n"), (1, b"b\n"), (2, b"c\n"), (1, b"d\n"), (2, b"e\n")]:
            emitter.offer(block(number), blank_result(kept=kept))
    assert [len(lines) for lines in sink.written] == [2, 2]
    assert setup.settled == [1, 2]


@pytest.mark.usefixtures("_no_pauses")
def test_a_sink_that_fails_holds_the_stream_and_then_goes_on(tmp_path: Path) -> None:
    well, ill = ListSink(), ListSink(troubles=3)
    setup = Setup(tmp_path, well=well, ill=ill)
    with setup.until(2) as emitter:
        emitter.offer(block(2), blank_result(kept=b"two\n"))
        emitter.offer(block(1), blank_result(kept=b"one\n"))
    assert well.written == ill.written == [b"one\n", b"two\n"]
    assert (well.attempts, ill.attempts) == (2, 5)
    assert emitter.failing == {}


class FlushedBetween(ListSink):
    """Cannot be written three times; between them it is flushed, which fails once."""

    def __init__(self) -> None:
        super().__init__(troubles=3)
        self.flushes = 0
        self.told: dict[str, str] = {}
        self.emitter: Emitter

    def write(self, emission: Emission) -> None:
        if self.attempts == 1:
            flushing = Thread(target=self.emitter.flush)
            flushing.start()
            flushing.join(LIMIT)
            self.told = self.emitter.troubles()
        super().write(emission)

    def flush(self) -> None:
        self.flushes += 1
        if self.flushes == 1:
            raise SinkFailed("the database is away")


@pytest.mark.usefixtures("_no_pauses")
def test_a_flush_that_works_again_is_no_sign_that_a_write_does(tmp_path: Path) -> None:
    sink = FlushedBetween()
    setup = Setup(tmp_path, ill=sink)
    sink.emitter = setup.emitter
    with setup.until(1) as emitter:
        emitter.offer(block(1), blank_result(kept=b"one\n"))
    assert sink.flushes == 2
    assert sink.told == {"ill": "the disk is full"}
    assert emitter.held_back() == 0


@pytest.mark.parametrize("fault", ["an error without words", "a write that is no function"])
def test_whatever_a_sink_raises_is_a_reason_to_wait(fault: str) -> None:
    class Speechless(Exception):
        def __str__(self) -> str:
            raise ValueError

    class Callable:
        def __call__(self, _: Emission) -> None:
            raise RuntimeError

    def raises(_: Emission) -> None:
        raise Speechless

    sink = ListSink()
    vars(sink)["write"] = raises if fault == "an error without words" else Callable()
    with pytest.raises(SinkFailed, match=r"write raised .*run --without ill"):
        Outlet(sink, name="ill").write(Emission(1, b"one\n", b"\x80"))


@pytest.mark.usefixtures("_no_pauses")
def test_dead_letters_that_cannot_be_written_hold_the_stream_too(tmp_path: Path) -> None:
    sink = ListSink()
    setup = Setup(tmp_path, sink=sink)
    setup.dead.mkdir()  # in the file's place: it cannot be opened
    attempts = count()

    class Healing(dict[Any, Any]):
        """The folder goes away once its trouble was noticed."""

        def __setitem__(self, name: Any, problem: Any) -> None:
            super().__setitem__(name, problem)
            if next(attempts) == 1:
                setup.dead.rmdir()

    setup.emitter.failing = Healing()
    letter = DeadLetter(0, b"bad", "not JSON")
    with setup.until(1) as emitter:
        emitter.offer(block(1, b"bad\n"), blank_result(kept=b"", dead=[letter]))
    assert setup.settled == [1]
    assert setup.dead.read_bytes().count(b"\n") == 1
    assert setup.emitter.failing == {}


def test_a_block_with_nothing_to_keep_is_settled_all_the_same(tmp_path: Path) -> None:
    sink = ListSink()
    setup = Setup(tmp_path, sink=sink)
    with setup.until(1) as emitter:
        emitter.offer(block(1), blank_result())
    assert (sink.attempts, setup.settled) == (0, [1])


def test_stopping_does_not_wait_for_a_sink_that_fails(tmp_path: Path) -> None:
    sink = ListSink(troubles=1_000_000)
    setup = Setup(tmp_path, sink=sink)
    setup.emitter.offer(block(1), blank_result(kept=b"one\n"))
    thread = Thread(target=setup.emitter.run, daemon=True)
    thread.start()
    setup.emitter.stop()
    thread.join(LIMIT)
    assert not thread.is_alive()
    assert setup.settled == []


def test_a_sink_that_is_flushed_by_two_threads_at_once_is_told_as_one_call() -> None:
    entered, leave = Barrier(3, timeout=LIMIT), Barrier(3, timeout=LIMIT)

    class Slow(ListSink):
        def flush(self) -> None:
            entered.wait()
            leave.wait()

    outlet = Outlet(Slow())
    threads = [Thread(target=outlet.flush, daemon=True) for _ in range(2)]
    for thread in threads:
        thread.start()
    entered.wait()
    call = outlet.longest_call()
    assert call is not None
    assert call[0] == "flush"
    leave.wait()
    for thread in threads:
        thread.join(LIMIT)
    assert outlet.longest_call() is None


@pytest.mark.parametrize("told", [-1, True, "7", None, 1.5, 1 << 40, 8 + AHEAD])
def test_a_sink_that_holds_what_cannot_be_is_refused_by_name(tmp_path: Path, told: Any) -> None:
    setup = Setup(tmp_path, odd=SettledSink(told))
    with pytest.raises(PipelineFailed, match=r'^sink "odd": .*--without odd'):
        open_outlets(setup.emitter, Before({}, None, 7))


@pytest.mark.parametrize("told", [0, 7, 9, 7 + AHEAD])
def test_a_sink_may_be_ahead_of_the_journal_by_what_a_loss_of_power_took(
    tmp_path: Path, told: int
) -> None:
    setup = Setup(tmp_path, kept=SettledSink(told))
    assert open_outlets(setup.emitter, Before({}, None, 7)) == told
