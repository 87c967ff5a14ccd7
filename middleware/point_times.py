"""The latest time by point: what a suppressor remembers, for millions of points.

Points that lie side by side are kept side by side. A page holds the times of 2, 4, ... or 256
consecutive points; pages lie one behind the other as they came, and a hash table finds a page by
its number, ``point >> shift``. So a point's neighbours mostly share its page, and one search serves
them all. The page size is chosen anew whenever the table is laid out: the largest that keeps within
``BYTES_PER_POINT``, so that dense points get large pages and scattered ones small pages.

Invariants:

- Page 0 holds no points; a search for a page that is missing ends there. Its times are ``NEVER``,
  which is the time of every point that is not held.
- A page number is in ``_numbers`` at most once, and no slot of the hash table between its home and
  its place is empty. At most half of the slots are taken, so that every search meets an empty one.
- Behind the last page there is room for another one: whoever looks a few points further than a
  page's end reads something, if nothing that means anything.
- After each change of layout and each ``forget``, the table takes at most ``BYTES_PER_POINT`` for
  each point it holds or is about to hold, plus ``SMALL_TABLE`` bytes.
- No answer depends on the layout.
"""

from __future__ import annotations

from math import inf

import numpy as np
from numpy.typing import NDArray

from middleware.near_rows import rising

Points = NDArray[np.int64]
Times = NDArray[np.float64]
Pages = NDArray[np.int64]
"""Where pages lie, 0 for those that are missing."""

NEVER = -inf
NO_POINTS: Points = np.empty(0, np.int64)
LOWEST_POINT = -(2**63)
HIGHEST_POINT = 2**63 - 1

BYTES_PER_POINT = 64
SMALL_TABLE = 32 * 2**20  # so that a table has large pages from the start
FEWEST_PAGES = 1_024  # so that a table grows seldom at first
SMALLEST_SHIFT = 1  # page numbers then have 63 bits, which leaves one value that is none
LARGEST_SHIFT = 8
NO_PAGE = LOWEST_POINT
AT_ONCE = 65_536  # times looked through together: they stay in the cache
MULTIPLIER = 0x9E3779B97F4A7C15  # 2**64 divided by the golden ratio: spreads consecutive pages


class PointTimes:
    """A mapping from points (signed 64-bit) to the latest time of each (finite float64).

    What ``find`` returned holds until points are added or forgotten.
    """

    def __init__(self) -> None:
        self._lay_out(NO_POINTS, np.empty(0))

    def get(self, point: int, default: float = NEVER) -> float:
        """Return the time of ``point``, ``default`` if it is not held."""
        number = point >> self._shift
        slot = (number * MULTIPLIER & (2**64 - 1)) >> (64 - self._bits)
        while (page := int(self._slots[slot])) and self._numbers[page] != number:
            slot = (slot + 1) & (len(self._slots) - 1)
        time = float(self._times[(page << self._shift) | (point & self._low_bits)])
        return default if time == NEVER else time

    def __setitem__(self, point: int, time: float) -> None:
        """Raise the time of ``point`` to ``time``; it never falls."""
        points = np.array([point], np.int64)
        self.raise_to(points, self.find(points), np.array([time]))

    def __len__(self) -> int:
        """Return how many points are held, counting them."""
        times = self._used()
        some = (times[start : start + AT_ONCE] for start in range(0, len(times), AT_ONCE))
        return sum(int(np.count_nonzero(part > NEVER)) for part in some)

    @property
    def nbytes(self) -> int:
        """The bytes the table takes."""
        return self._slots.nbytes + self._numbers.nbytes + self._times.nbytes

    def find(self, points: Points) -> Pages:
        """Return where the page of each of n points lies."""
        return self._find(points >> self._shift)

    def latest(self, points: Points, pages: Pages, radius: int) -> Times:
        """Return, for each of n points, the largest time held within ``radius`` of it, or NEVER.

        ``pages`` are those of the points.
        """
        if radius > self._low_bits:
            return self._latest_across(points, radius)
        low, place = points & self._low_bits, self._places(points, pages)
        latest: Times = self._times[place + radius]
        # Two neighbours in one piece of 16 bytes, which NumPy fetches as fast as one of 8.
        pairs = np.ndarray((len(self._times) - 1,), np.complex128, self._times, 0, (8,))
        for step in range(-radius, radius, 2):
            pair = pairs[place + step].view(np.float64)
            np.maximum(latest, np.maximum(pair[::2], pair[1::2]), out=latest)
        if radius:
            across = np.flatnonzero((low < radius) | (low > self._low_bits - radius))
            latest[across] = self._latest_across(points[across], radius)
        return latest

    def raise_to(self, points: Points, pages: Pages, times: Times) -> None:
        """Raise each of n points to its time where that is later; a point may come repeatedly.

        ``pages`` are those of the points.
        """
        missing = pages == 0
        if missing.any():
            self._add(_different(points[missing] >> self._shift), points)
            pages = self.find(points)
        np.maximum.at(self._times, self._places(points, pages), times)

    def forget(self, before: float) -> int:
        """Forget the points whose time is less than ``before``; return how many are left.

        ``before`` is more than NEVER.
        """
        times, left = self._used(), 0
        for start in range(0, len(times), AT_ONCE):
            some = times[start : start + AT_ONCE]
            old = np.flatnonzero(some < before)  # several times as fast as a mask here
            some[old] = NEVER
            left += len(some) - len(old)
        self._shrink(left)
        return left

    def drop(self, points: Points) -> None:
        """Forget these points, where they are held."""
        self._times[self._places(points, self.find(points))] = NEVER
        self._shrink(len(self))

    def items(self) -> tuple[Points, Times]:
        """Return the points held, int64[n] in rising order, and their times, float64[n]."""
        pages = rising(self._numbers[1 : self._last + 1]) + 1
        times = self._times.reshape(-1, 1 << self._shift)[pages].ravel()
        places = np.flatnonzero(times > NEVER)
        numbers = self._numbers[pages[places >> self._shift]]
        return (numbers << self._shift) | (places & self._low_bits), times[places]

    def pages(self) -> tuple[int, Points, Times]:
        """Return all that is held, fast: ``shift``, n page numbers, and float64[n << shift] times.

        A page has the times of ``1 << shift`` points, NEVER for those that are not held. Where the
        table's own pages are less than half full, there is one for each point instead.
        """
        times = self._used()
        if 2 * len(self) >= len(times) - (1 << self._shift):
            return self._shift, self._numbers[1 : self._last + 1], times[1 << self._shift :]
        places = np.flatnonzero(times > NEVER)
        numbers = self._numbers[places >> self._shift]
        return 0, (numbers << self._shift) | (places & self._low_bits), times[places]

    def _shrink(self, left: int) -> None:
        """Lay the table out anew where it is too large for the ``left`` points it holds."""
        if self.nbytes > BYTES_PER_POINT * left + SMALL_TABLE:
            self._lay_out(*self.items())

    def _used(self) -> Times:
        return self._times[: (self._last + 1) << self._shift]

    def _latest_across(self, points: Points, radius: int) -> Times:
        """Return what ``latest`` does for points whose neighbours are on several pages.

        Beyond the ends of int64 there are no points: the walk along the neighbours stays at the
        end, which is a neighbour itself, so it changes no maximum.
        """
        point = np.maximum(points, LOWEST_POINT + radius) - radius
        last = np.minimum(points, HIGHEST_POINT - radius) + radius
        pages = self.find(point)
        latest: Times = self._times[self._places(point, pages)]
        for _ in range(2 * radius):
            point = np.minimum(point, last - 1) + 1
            turned = np.flatnonzero((point & self._low_bits) == 0)
            pages[turned] = self.find(point[turned])
            place = self._places(point, pages)
            np.maximum(latest, self._times[place], out=latest)
        return latest

    def _add(self, numbers: Points, coming: Points) -> None:
        """Add pages that are missing for ``coming``, at another page size if room is short."""
        if self._last + len(numbers) > self._most and not self._grow(len(numbers)):
            coming = _different(coming)
            self._lay_out(*self.items(), coming)
            numbers = _distinct(coming >> self._shift)
            numbers = numbers[self._find(numbers) == 0]
        self._append(numbers)

    def _grow(self, count: int) -> bool:
        """Make room for ``count`` more pages where the size of pages may stay; say whether it may.

        It may where it is the largest, and still not too large for what is held.
        """
        most = (self._last + count) * 3 // 2
        allowed = BYTES_PER_POINT * (len(self) + count) + SMALL_TABLE
        if self._shift < LARGEST_SHIFT or _bytes(self._shift, most) > allowed:
            return False
        numbers, times = self._numbers[1 : self._last + 1], self._used()
        self._allocate(self._shift, most)
        self._append(numbers)
        self._used()[:] = times
        return True

    def _lay_out(self, points: Points, times: Times, coming: Points = NO_POINTS) -> None:
        """Build the table anew from points in rising order, with room for those ``coming``."""
        # Both are in rising order: a stable sort merely merges them.
        planned = _distinct(np.sort(np.concatenate((points, coming)), kind="stable"))
        allowed = BYTES_PER_POINT * len(planned) + SMALL_TABLE
        for shift in range(LARGEST_SHIFT, SMALLEST_SHIFT - 1, -1):
            pages = _distinct(planned >> shift)
            most = max(len(pages) * 3 // 2, FEWEST_PAGES)
            if _bytes(shift, most) <= allowed:
                break
        self._allocate(shift, most)
        self._append(_distinct(points >> shift))
        self._times[self._places(points, self.find(points))] = times

    def _allocate(self, shift: int, most: int) -> None:
        """Begin anew, with room for so many pages."""
        self._shift = shift
        self._low_bits = (1 << shift) - 1
        self._most = most
        self._last = 0
        self._bits = _bits(most)
        self._slots = np.zeros(1 << self._bits, np.int32)
        self._numbers = np.full(most + 2, NO_PAGE)
        self._times = np.zeros((most + 2) << shift)  # memory that is not touched is not taken
        self._used().fill(NEVER)

    def _append(self, numbers: Points) -> None:
        """Append pages, all different and none held, and enter each in the hash table."""
        before, self._last = self._last, self._last + len(numbers)
        self._numbers[before + 1 : self._last + 1] = numbers
        self._times[before + 1 << self._shift : self._last + 1 << self._shift] = NEVER
        pages = np.arange(before + 1, self._last + 1)
        slots = self._homes(numbers)
        while len(pages):
            free = self._slots[slots] == 0
            self._slots[slots[free]] = pages[free]  # where several want a slot, one gets it
            waiting = self._slots[slots] != pages
            pages = pages[waiting]
            slots = (slots[waiting] + 1) & (len(self._slots) - 1)

    def _find(self, numbers: Points) -> Pages:
        """Return where the pages of these numbers lie."""
        slots = self._homes(numbers)
        pages = self._slots[slots].astype(np.int64)
        rows = np.flatnonzero(self._numbers[pages] != numbers)
        while len(rows := rows[pages[rows] != 0]):
            onward = (slots[rows] + 1) & (len(self._slots) - 1)
            slots[rows] = onward
            pages[rows] = self._slots[onward]
            rows = rows[self._numbers[pages[rows]] != numbers[rows]]
        return pages

    def _places(self, points: Points, pages: Pages) -> Points:
        """Return where in ``_times`` the points are."""
        return (pages << self._shift) | (points & self._low_bits)

    def _homes(self, numbers: Points) -> Points:
        """Return the slot where the search for each page starts (Fibonacci hashing, Knuth 6.4)."""
        mixed = numbers.view(np.uint64) * np.uint64(MULTIPLIER)
        return (mixed >> np.uint64(64 - self._bits)).view(np.int64)


def _bits(most: int) -> int:
    """Return how many bits the numbers of the slots for so many pages have."""
    return (2 * most).bit_length()


def _bytes(shift: int, most: int) -> int:
    """Return what a table with room for so many pages takes."""
    return (4 << _bits(most)) + (most + 2) * (8 + (8 << shift))


def _different(numbers: Points) -> Points:
    """Return the different values of ``numbers`` in rising order."""
    return _distinct(numbers[rising(numbers)])


def _distinct(numbers: Points) -> Points:
    """Return the different values of ``numbers``, which must be in rising order."""
    first = np.ones(len(numbers), np.bool_)
    np.not_equal(numbers[1:], numbers[:-1], out=first[1:])
    return numbers[first]
