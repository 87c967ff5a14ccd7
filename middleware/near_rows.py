"""Which rows of a batch may have another row of the batch near them: found without sorting.

Points are thrown into cells at least twice as wide as they may be apart. Of two grids of cells, the
second shifted by half a cell, one has any two near points in the same cell. Cells are hashed into a
table that is written row by row, where a later row takes the place of an earlier one; a row that
finds another one in its place was not alone. Hash collisions only name a few rows too many.
"""

from __future__ import annotations

from typing import Final

import numpy as np
from numpy.typing import NDArray

BITS: Final = 18
"""The table has 2**18 places, 1 MiB: it stays in the cache."""

_MULTIPLIER: Final = np.uint32(0x9E3779B9)  # 2**32 divided by the golden ratio
_SHIFT: Final = np.uint32(32 - BITS)


class NearRows:
    """The table, kept from batch to batch: what earlier ones left in it is never read."""

    def __init__(self) -> None:
        self._owners = np.zeros(1 << BITS, np.int32)

    def find(self, points: NDArray[np.int64], radius: int) -> NDArray[np.int64]:
        """Return, in rising order, at least all rows with another within ``radius``.

        ``points`` is int64[n], n < 2**31.
        """
        numbers = points.astype(np.uint32)  # points that agree in 32 bits meet, which does no harm
        width = (2 * radius - 1).bit_length() if radius else 0
        shared = self._sharing(numbers >> np.uint32(width))
        if radius:
            half = np.uint32(1 << (width - 1))  # beyond the end it wraps around, which is near, too
            shared |= self._sharing((numbers + half) >> np.uint32(width))
        return np.flatnonzero(shared)

    def _sharing(self, cells: NDArray[np.uint32]) -> NDArray[np.bool_]:
        """Return which rows share a cell."""
        places = ((cells * _MULTIPLIER) >> _SHIFT).astype(np.int64)
        rows = np.arange(len(cells), dtype=np.int32)
        self._owners[places] = rows
        owners = self._owners[places]
        shared: NDArray[np.bool_] = owners != rows
        shared[owners[np.flatnonzero(shared)]] = True  # faster than by the mask itself
        return shared


def rising(points: NDArray[np.int64]) -> NDArray[np.int64]:
    """Return the rows by rising point; of equal points, by rising row.

    Least significant digit first, 16 bits each, which NumPy sorts by counting (Knuth 5.2.5): on
    points in no order that takes a fraction of the time of a sort that compares.
    """
    if not len(points):
        return np.empty(0, np.int64)
    above = (points - points.min()).view(np.uint64)  # may wrap around, to the right distance
    order = np.argsort(above.astype(np.uint16), kind="stable")
    for digit in range(16, int(above.max()).bit_length(), 16):
        digits = (above[order] >> np.uint64(digit)).astype(np.uint16)
        order = order[np.argsort(digits, kind="stable")]
    return order
