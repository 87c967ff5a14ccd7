"""The table of latest times answers like a dict, whatever its layout, and stays small."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from middleware.memories import pack, unpack
from middleware.point_times import (
    BYTES_PER_POINT,
    NEVER,
    SMALL_TABLE,
    Points,
    PointTimes,
    Times,
)

LOWEST, HIGHEST = -(2**63), 2**63 - 1
POINTS = st.one_of(
    st.integers(-5, 520),
    st.integers(LOWEST, HIGHEST),
    st.sampled_from([LOWEST, LOWEST + 1, HIGHEST, HIGHEST - 1]),
)
STEPS = st.lists(
    st.one_of(
        st.lists(st.tuples(POINTS, st.integers(0, 50).map(float)), min_size=1, max_size=30),
        st.integers(0, 60).map(float),
    ),
    max_size=8,
)


def raise_all(table: PointTimes, points: Points, times: Times) -> None:
    table.raise_to(points, table.find(points), times)


def latest(table: PointTimes, points: Points, radius: int) -> Times:
    return table.latest(points, table.find(points), radius)


@given(STEPS, st.lists(POINTS, max_size=10), st.sampled_from([0, 1, 2, 3, 4, 255, 256, 300]))
@settings(max_examples=200, deadline=None)
def test_it_answers_like_a_dict(
    steps: list[list[tuple[int, float]] | float], asked: list[int], radius: int
) -> None:
    table, model = PointTimes(), dict[int, float]()
    for step in steps:
        if isinstance(step, float):
            table.forget(step)
            model = {point: time for point, time in model.items() if time >= step}
        else:
            points = np.array([point for point, _ in step], np.int64)
            raise_all(table, points, np.array([time for _, time in step]))
            for point, time in step:
                model[point] = max(time, model.get(point, time))
    asked = [*asked, *model]
    assert len(table) == len(model)
    assert [table.get(point, -1.0) for point in asked] == [model.get(p, -1.0) for p in asked]
    assert latest(table, np.array(asked, np.int64), radius).tolist() == [
        max((time for near, time in model.items() if abs(near - point) <= radius), default=NEVER)
        for point in asked
    ]
    held = [column.tolist() for column in table.items()]
    assert list(zip(*held, strict=True)) == sorted(model.items())


def test_a_time_never_falls() -> None:
    table = PointTimes()
    table[7] = 5.0
    table[7] = 3.0
    assert table.get(7) == 5.0
    assert table.get(8) == NEVER


RANDOM = np.random.default_rng(1)
SPREAD = {
    "one dense range": RANDOM.permutation(100_000),
    "dense ranges far apart": (RANDOM.integers(0, 9, 100_000) << 50) + RANDOM.permutation(100_000),
    "a tenth of a range": RANDOM.integers(0, 1_000_000, 100_000),
    "random": RANDOM.integers(LOWEST, HIGHEST, 100_000),
    "multiples of a power of two": np.arange(-50_000, 50_000) << 40,
    "dense, then random": np.concatenate(
        (np.arange(50_000), RANDOM.integers(LOWEST, HIGHEST, 50_000))
    ),
}


@pytest.mark.parametrize("points", SPREAD.values(), ids=SPREAD)
def test_it_holds_any_spread_of_points_in_bounded_space(points: Points) -> None:
    table = PointTimes()
    for part in np.array_split(points, 20):
        raise_all(table, part, np.ones(len(part)))
        assert table.nbytes <= BYTES_PER_POINT * len(table) + SMALL_TABLE
    assert len(table) == len(np.unique(points))
    assert (latest(table, points, 0) == 1.0).all()


def test_it_shrinks_when_most_is_forgotten() -> None:
    table = PointTimes()
    raise_all(table, np.arange(200_000), np.arange(200_000.0))
    table.forget(199_990.0)
    assert len(table) == 10
    assert table.nbytes <= BYTES_PER_POINT * 10 + SMALL_TABLE


def test_points_that_come_and_go_take_no_more_and_more_space() -> None:
    table = PointTimes()
    largest = 0
    for step in range(60):
        fresh = RANDOM.integers(LOWEST, HIGHEST, 2_000)
        raise_all(table, fresh, np.full(2_000, float(step)))
        table.forget(step - 4.0)
        largest = max(largest, table.nbytes)
    assert len(table) == 5 * 2_000
    assert largest <= BYTES_PER_POINT * 6 * 2_000 + SMALL_TABLE


def test_packed_columns_come_back() -> None:
    memory = {3: 1.5, -2: 0.5}
    points, times = unpack(*pack(memory))
    assert points.tolist() == [-2, 3]
    assert times.tolist() == [0.5, 1.5]


@pytest.mark.parametrize("step", [1, 2, 3, 300, 2**54], ids="every {}".format)
def test_a_packed_table_comes_back(step: int) -> None:
    points = np.arange(-500, 500) * step
    table = PointTimes()
    raise_all(table, points, points / 7)
    again, times = unpack(*pack(table))
    order = np.argsort(again)
    assert again[order].tolist() == points.tolist()
    assert times[order].tolist() == (points / 7).tolist()


def test_the_full_pages_of_a_table_are_packed_as_they_are() -> None:
    table = PointTimes()
    raise_all(table, np.arange(2_560), np.zeros(2_560))
    shift, numbers, times = pack(table)
    assert (shift, numbers.nbytes, times.nbytes) == (8, 8 * 10, 8 * 2_560)
    table.forget(1.0)
    assert [bytes(column) for column in pack(table)[1:]] == [b"", b""]


def test_a_dense_table_grows_and_keeps_all_it_holds() -> None:
    table = PointTimes()
    pieces = np.split(RANDOM.permutation(900_000), 9)
    sizes = []
    for number, piece in enumerate(pieces):
        raise_all(table, piece + number * 900_000, piece / 3)
        sizes.append(table.nbytes)
        assert table.nbytes <= BYTES_PER_POINT * len(table) + SMALL_TABLE
    assert len(set(sizes)) > 3, "it grew several times"
    for number, piece in enumerate(pieces):
        points = piece + number * 900_000
        assert (table.latest(points, table.find(points), 0) == piece / 3).all()
    assert len(table) == 900_000
