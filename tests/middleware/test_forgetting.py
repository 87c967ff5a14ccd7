"""Forgetting is bounded, follows from the events alone, and changes next to no decision."""

from __future__ import annotations

import logging
from statistics import median_low

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from benchmarks.forgetting import STREAMS, outcome, sizes
from middleware.adjacent import AdjacentSuppressor
from middleware.contract import Batch
from middleware.forgetting import Cycle

EVENTS, POINTS, WINDOW = 100_000, 5_000, 30.0
WRONG = {
    "three files 5 h apart, merged": 0.2,  # half of the events are behind the median
    "1 % of the points 3 h late": 0.01,
    "a tenth a day late": 0.001,
}
"""The share of wrong decisions where nothing but the last two windows may be remembered."""


class Tenth(AdjacentSuppressor):
    """Forgets a tenth as seldom, for streams of a tenth of the events."""

    LEAST_CYCLE = 6_553


@pytest.mark.parametrize("name", STREAMS)
def test_difficult_streams_are_decided_as_by_an_unlimited_memory(name: str) -> None:
    stream = STREAMS[name](EVENTS, POINTS)
    assert outcome(stream, Tenth, window=WINDOW).wrong == 0
    assert outcome(stream, Tenth, window=WINDOW, remember=0).wrong <= WRONG.get(name, 0) * EVENTS


def test_new_points_without_end_take_bounded_memory() -> None:
    found = list(sizes(400_000, 10_000, Tenth, window=WINDOW, remember=0))
    two_windows, cycle = int(2 * WINDOW * 500), Tenth.LEAST_CYCLE
    assert len(found) > 30
    assert max(each.points for each in found) <= two_windows + 4 * cycle
    assert max(each.size for each in found) <= 32 * 2**20 + 64 * (two_windows + 4 * cycle)


def test_nothing_is_forgotten_before_there_is_more_than_is_to_be_remembered() -> None:
    suppressor = Tenth(Tenth.Params(window=0.5, remember=50_000, most=50_000))
    rows = np.arange(50_000)
    suppressor.handle_batch(Batch(rows * 3, rows.astype(np.float64)))
    for _ in range(10):  # round and round, days behind each other
        suppressor.handle_batch(Batch(rows * 3, rows.astype(np.float64)))
    assert len(suppressor) == 50_000
    assert "beyond most" not in suppressor.take_counts()


class TestMost:
    """Beyond it the points touched longest ago go, whatever their times are."""

    @staticmethod
    def filled(caplog: pytest.LogCaptureFixture) -> Tenth:
        """Return a suppressor that was asked about 100,000 points in turn, with room for 20,000."""
        suppressor = Tenth(Tenth.Params(remember=0, most=20_000))
        rows = np.arange(100_000)
        for start in range(0, len(rows), 1_000):
            part = rows[start : start + 1_000]
            suppressor.handle_batch(Batch(part * 3, np.full(1_000, 9.0)))
            assert len(suppressor) <= 20_000 + Tenth.LEAST_CYCLE
        assert sum("more than most = 20,000" in each.message for each in caplog.records) == 1
        return suppressor

    def test_those_that_are_left_were_touched_last(self, caplog: pytest.LogCaptureFixture) -> None:
        caplog.set_level(logging.WARNING)
        suppressor = self.filled(caplog)
        gone = suppressor.take_counts()["beyond most"]
        assert len(suppressor) == 100_000 - gone
        ask = [suppressor.explain({"cid": 3 * row, "time": 9.0}) for row in range(100_000)]
        assert [reason is not None for reason in ask] == [row >= gone for row in range(100_000)]

    def test_points_far_ahead_do_not_drive_out_those_that_are_asked_about(
        self, caplog: pytest.LogCaptureFixture
    ) -> None:
        suppressor = self.filled(caplog)
        known = np.arange(-3_000, 0) * 3
        random = np.random.default_rng(5)
        for step in range(40):
            ahead = random.integers(10**6, 10**12, 1_000)
            suppressor.handle_batch(Batch(ahead, np.full(1_000, 9e4 + step)))
            keep = suppressor.handle_batch(Batch(known, np.full(len(known), 100.0 + step)))
            assert keep.any() == (step == 0)


@given(st.lists(st.floats(-9, 9), min_size=64, max_size=64), st.sets(st.integers(1, 63)))
def test_a_cycle_ends_with_the_lower_of_two_medians_however_it_is_cut(
    times: list[float], cuts: set[int]
) -> None:
    cycle, other = Cycle(32), Cycle(32)
    expected = min(median_low(times[28:32]), median_low(times[60:]))
    for start, stop in zip([0, *sorted(cuts | {32})], [*sorted(cuts | {32}), 64], strict=True):
        if cycle.count(np.array(times[start:stop])):
            found = cycle.end()
            cycle.begin(32)
        again = Cycle(32)
        again.restore(cycle.state())
        cycle = again
    for time in times:
        if other.count_one(time):
            assert other.end() in {float("-inf"), expected}
            other.begin(32)
    assert found == expected


@pytest.mark.parametrize("rhythm", [3, 5, 8, 16, 25])
def test_the_sample_of_a_long_cycle_does_not_fall_into_step_with_the_stream(rhythm: int) -> None:
    for length in (262_144, 1_000_000, 2_500_000):
        cycle = Cycle(length)
        rows = np.arange(length)
        ahead = rows % rhythm == 0  # one of so many sources has a clock that is wrong
        for _ in range(2):
            assert cycle.count(np.where(ahead, 9e4, rows / length))
            reached = cycle.end()
            cycle.begin(length)
        assert reached < 1.0
        assert len(cycle.state()["times"]) == 0


def test_a_snapshot_of_a_cycle_is_small() -> None:
    cycle = Cycle(2_500_000)
    cycle.count(np.zeros(2_499_999))
    assert len(cycle.state()["times"]) <= 8 * 1_024
