"""Rows with another near them are all found, and put in order, whatever the points."""

from __future__ import annotations

import numpy as np
from hypothesis import given
from hypothesis import strategies as st

from middleware.near_rows import NearRows, rising
from middleware.point_times import HIGHEST_POINT, LOWEST_POINT

ENDS = st.sampled_from([LOWEST_POINT, -1, 0, HIGHEST_POINT])
POINTS = st.one_of(
    st.integers(-40, 40),
    st.builds(
        lambda end, away: min(max(end + away, LOWEST_POINT), HIGHEST_POINT),
        ENDS,
        st.integers(-40, 40),
    ),
    st.integers(LOWEST_POINT, HIGHEST_POINT),
)
BATCHES = st.lists(st.lists(POINTS, max_size=60), min_size=1, max_size=3)


@given(BATCHES, st.integers(0, 20))
def test_every_row_with_another_within_the_radius_is_found(
    batches: list[list[int]], radius: int
) -> None:
    near_rows = NearRows()
    for points in batches:
        found = near_rows.find(np.array(points, np.int64), radius).tolist()
        assert found == sorted(set(found))
        near = [
            row
            for row, point in enumerate(points)
            if any(abs(point - other) <= radius for other in points[:row] + points[row + 1 :])
        ]
        assert set(near) <= set(found)


def test_few_others_are_found() -> None:
    points = np.random.default_rng(1).integers(0, 10**9, 20_000) * 10
    assert len(NearRows().find(points, 1)) < 0.2 * len(points)
    assert len(NearRows().find(points[:0], 1)) == 0


@given(st.lists(POINTS, max_size=60))
def test_rising_points_keep_the_order_of_equal_ones(points: list[int]) -> None:
    expected = sorted(range(len(points)), key=points.__getitem__)
    assert rising(np.array(points, np.int64)).tolist() == expected
