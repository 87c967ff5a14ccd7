"""The latest time by point: what a suppressor remembers, for millions of points.

Points that lie side by side are kept side by side. A page holds the times of 2, 4, ... or 64
consecutive points; an open-addressed hash table finds a page by its number, ``point >> shift``.
So a point's neighbours mostly share its page, and one search serves them all. The page size is
chosen anew whenever the table is laid out: the largest that keeps within ``BYTES_PER_POINT``, so
that dense points get large pages and scattered ones small pages.

Invariants:

- A page number is in ``_pages`` at most once, and no slot between its home and its place is empty.
- ``NEVER`` is the time of a point that is not held. All times of empty slots are ``NEVER``, and so
  is the spare page behind the last slot, where searches for a missing page end.
- At most 3/4 of the slots are taken, so that every search meets an empty slot.
- After each change of layout and each ``forget``, the table takes at most ``BYTES_PER_POINT`` for
  each point it holds or is about to hold, plus ``SMALL_TABLE`` bytes.
- No answer depends on the layout.
"""

from __future__ import annotations

from math import inf

import numpy as np
from numpy.typing import NDArray

Points = NDArray[np.int64]
Times = NDArray[np.float64]

NEVER = -inf
NO_POINTS: Points = np.empty(0, np.int64)
LOWEST_POINT = -(2**63)
HIGHEST_POINT = 2**63 - 1

BYTES_PER_POINT = 64
SMALL_TABLE = 32 * 2**20  # so that a table has large pages from the start, and grows seldom
SMALLEST_SHIFT = 1  # page numbers then have 63 bits, which leaves one value to mark an empty slot
LARGEST_SHIFT = 6
EMPTY = LOWEST_POINT
MULTIPLIER = 0x9E3779B97F4A7C15  # 2**64 divided by the golden ratio: spreads consecutive pages


class PointTimes:
    """A mapping from points (signed 64-bit) to the latest time of each (finite float64)."""

    def __init__(self) -> None:
        self._lay_out(NO_POINTS, np.empty(0))

    def get(self, point: int, default: float = NEVER) -> float:
        """Return the time of ``point``, ``default`` if it is not held."""
        page = point >> self._shift
        slot = (_mix_number(page) * self._capacity) >> 32
        while (held := int(self._pages[slot])) != page:
            if held == EMPTY:
                return default
            slot = (slot + 1) % self._capacity
        time = float(self._times[(slot << self._shift) | (point & self._low_bits)])
        return default if time == NEVER else time

    def __setitem__(self, point: int, time: float) -> None:
        """Raise the time of ``point`` to ``time``; it never falls."""
        self.raise_to(np.array([point], np.int64), np.array([time]))

    def __len__(self) -> int:
        """Return how many points are held, counting them."""
        return int(np.count_nonzero(self._times > NEVER))

    @property
    def nbytes(self) -> int:
        """The bytes the table takes."""
        return self._pages.nbytes + self._times.nbytes

    def latest(self, points: Points, radius: int) -> Times:
        """Return, for each of n points, the largest time held within ``radius`` of it, or NEVER.

        Beyond the ends of int64 there are no points: the walk along the neighbours stays at the
        end, which is a neighbour itself, so it changes no maximum.
        """
        point = np.maximum(points, LOWEST_POINT + radius) - radius
        last = np.minimum(points, HIGHEST_POINT - radius) + radius
        slots = self._find(point >> self._shift)
        latest: Times = self._times[self._places(slots, point)]
        for _ in range(2 * radius):
            point = np.minimum(point, last - 1) + 1
            turned = np.flatnonzero((point & self._low_bits) == 0)
            slots[turned] = self._find(point[turned] >> self._shift)
            np.maximum(latest, self._times[self._places(slots, point)], out=latest)
        return latest

    def raise_to(self, points: Points, times: Times) -> None:
        """Raise each of n points to its time where that is later; a point may come repeatedly."""
        pages = points >> self._shift
        slots = self._find(pages)
        missing = slots == self._capacity
        if missing.any():
            self._make_room(np.unique(pages[missing]), points)
            slots = self._find(points >> self._shift)
        np.maximum.at(self._times, self._places(slots, points), times)

    def forget(self, before: float) -> None:
        """Forget the points whose time is less than ``before``."""
        self._times[self._times < before] = NEVER
        if self.nbytes > BYTES_PER_POINT * len(self) + SMALL_TABLE:
            self._lay_out(*self.items())

    def items(self) -> tuple[Points, Times]:
        """Return the points held, int64[n] in rising order, and their times, float64[n]."""
        taken = np.flatnonzero(self._pages != EMPTY)
        taken = taken[np.argsort(self._pages[taken])]
        times = self._times.reshape(-1, 1 << self._shift)[taken].ravel()
        places = np.flatnonzero(times > NEVER)
        pages = self._pages[taken[places >> self._shift]]
        return (pages << self._shift) | (places & self._low_bits), times[places]

    def pairs(self) -> tuple[Points, Times]:
        """Return the points held, int64[n] in any order, and their times, float64[n]; fast."""
        places = np.flatnonzero(self._times > NEVER)
        pages = self._pages[places >> self._shift]
        return (pages << self._shift) | (places & self._low_bits), self._times[places]

    def _make_room(self, missing: Points, coming: Points) -> None:
        """Hold the pages that are missing for ``coming``, at another page size if that is due."""
        if self._taken + len(missing) > self._capacity * 3 // 4:
            coming = np.unique(coming)
            self._lay_out(*self.items(), coming)
            pages = _distinct(coming >> self._shift)
            missing = pages[self._find(pages) == self._capacity]
        self._add(missing)

    def _lay_out(self, points: Points, times: Times, coming: Points = NO_POINTS) -> None:
        """Build the table anew from points in rising order, with room for those ``coming``."""
        # Both are in rising order: a stable sort merely merges them.
        planned = _distinct(np.sort(np.concatenate((points, coming)), kind="stable"))
        allowed = BYTES_PER_POINT * len(planned) + SMALL_TABLE
        for shift in range(LARGEST_SHIFT, SMALLEST_SHIFT - 1, -1):
            capacity = 2 * len(_distinct(planned >> shift)) + 8
            if (capacity + 1) * (8 + (8 << shift)) <= allowed:
                break
        self._shift = shift
        self._low_bits = (1 << shift) - 1
        self._capacity = capacity
        self._taken = 0
        self._pages = np.full(capacity + 1, EMPTY)
        self._times = np.full((capacity + 1) << shift, NEVER)
        self._add(_distinct(points >> shift))
        self._times[self._places(self._find(points >> shift), points)] = times

    def _add(self, pages: Points) -> None:
        """Give each page, all different and none held, a slot."""
        self._taken += len(pages)
        slots = self._homes(pages)
        while len(pages):
            free = self._pages[slots] == EMPTY
            self._pages[slots[free]] = pages[free]  # where several want a slot, one gets it
            waiting = self._pages[slots] != pages
            pages = pages[waiting]
            slots = (slots[waiting] + 1) % self._capacity

    def _find(self, pages: Points) -> Points:
        """Return the slot of each page, the spare page's where it is missing."""
        slots = self._homes(pages)
        held = self._pages[slots]
        rows = np.flatnonzero(held != pages)
        held = held[rows]
        while len(rows):
            ended = held == EMPTY
            slots[rows[ended]] = self._capacity
            rows = rows[~ended]
            onward = (slots[rows] + 1) % self._capacity
            slots[rows] = onward
            held = self._pages[onward]
            astray = held != pages[rows]
            rows, held = rows[astray], held[astray]
        return slots

    def _homes(self, pages: Points) -> Points:
        """Return the slot where the search for each page starts."""
        bits = pages.astype(np.uint64)
        bits ^= bits >> np.uint64(32)
        bits *= np.uint64(MULTIPLIER)
        bits >>= np.uint64(32)
        bits *= np.uint64(self._capacity)
        bits >>= np.uint64(32)
        return bits.view(np.int64)

    def _places(self, slots: Points, points: Points) -> Points:
        """Return where in ``_times`` the points are, given their pages' slots."""
        return (slots << self._shift) | (points & self._low_bits)


def _mix_number(page: int) -> int:
    """Return 32 well-mixed bits of a page number; as in ``_homes``, for one page."""
    bits = page & (2**64 - 1)
    return ((bits ^ (bits >> 32)) * MULTIPLIER & (2**64 - 1)) >> 32


def _distinct(pages: Points) -> Points:
    """Return the different values of ``pages``, which must be in rising order."""
    first = np.ones(len(pages), np.bool_)
    np.not_equal(pages[1:], pages[:-1], out=first[1:])
    return pages[first]


Memory = PointTimes | dict[int, float]
"""The latest time by point: a table for millions, a dict where there are few."""


def pack(memory: Memory) -> list[bytes]:
    """Return the points, in any order, and their times, as little-endian columns.

    The stream waits meanwhile, so millions of points are not sorted here.
    """
    if isinstance(memory, PointTimes):
        points, times = memory.pairs()
    else:
        points = np.array(sorted(memory), np.int64)
        times = np.array([memory[point] for point in points.tolist()], np.float64)
    return [points.astype("<i8").tobytes(), times.astype("<f8").tobytes()]


def unpack(points: bytes, times: bytes) -> tuple[Points, Times]:
    """Return what ``pack`` packed: points int64[n] and times float64[n]."""
    return (
        np.frombuffer(points, "<i8").astype(np.int64),
        np.frombuffer(times, "<f8").astype(np.float64),
    )
