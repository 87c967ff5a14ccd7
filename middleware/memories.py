"""What a suppressor remembers: the latest time by point, in one memory or in one for each value.

A value stands for the fields that separate memories; it is their canonical JSON. A key is what
times are remembered by: the point alone in one memory, otherwise the value and the point.
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Iterable
from typing import Any, Final

import numpy as np
from numpy.typing import NDArray

from middleware.point_times import NEVER, Points, PointTimes, Times

Keys = NDArray[Any]
"""Points, or pairs of value and point as objects; in rising order."""

Memory = PointTimes | dict[int, float]

ALL: Final = b"[]"
"""The value where no fields separate memories."""


class Memories(ABC):
    """The latest time by key. What it answers does not depend on how it came to hold it."""

    @abstractmethod
    def __len__(self) -> int:
        """Return how many keys are held, counting them."""

    @abstractmethod
    def of(self, value: bytes) -> Memory:
        """Return the memory of a value, to be read only; it is empty where there is none."""

    @abstractmethod
    def raise_one(self, value: bytes, point: int, time: float) -> None:
        """Raise the time of a point to ``time`` where that is later."""

    @abstractmethod
    def forget(self, before: float) -> int:
        """Forget the times less than ``before``, which is more than NEVER; return what is left."""

    @abstractmethod
    def keys(self) -> Keys:
        """Return the n keys held."""

    @abstractmethod
    def times(self, keys: Keys) -> Times:
        """Return the times of n keys, float64[n], NEVER for one that is not held."""

    @abstractmethod
    def put(self, keys: Keys, times: Times) -> None:
        """Remember n keys, with times that are not before any held for them."""

    @abstractmethod
    def drop(self, keys: Keys) -> None:
        """Forget these keys, all of them held."""

    @abstractmethod
    def packed(self) -> list[list[Any]]:
        """Return value, ``shift``, page numbers and times of each memory, as ``pack`` does."""

    @abstractmethod
    def unpack(self, packed: Iterable[list[Any]]) -> None:
        """Take over what ``packed`` returned, into an empty memory."""


class OneMemory(Memories):
    """One memory for all events: a table that holds millions of points."""

    def __init__(self) -> None:
        self.table = PointTimes()

    def __len__(self) -> int:
        return len(self.table)

    def of(self, value: bytes) -> Memory:
        """Return the one memory."""
        del value
        return self.table

    def raise_one(self, value: bytes, point: int, time: float) -> None:
        """Raise the time of a point where it is later."""
        del value
        self.table[point] = time

    def forget(self, before: float) -> int:
        """Forget the times less than ``before``; return how many are left."""
        return self.table.forget(before)

    def keys(self) -> Keys:
        """Return the points."""
        points, _ = self.table.items()
        return points

    def times(self, keys: Keys) -> Times:
        """Return the times of n keys, NEVER for one that is not held."""
        return self.table.latest(keys, self.table.find(keys), 0)

    def put(self, keys: Keys, times: Times) -> None:
        """Remember n keys with their times."""
        self.table.raise_to(keys, self.table.find(keys), times)

    def drop(self, keys: Keys) -> None:
        """Forget these keys."""
        self.table.drop(keys)

    def packed(self) -> list[list[Any]]:
        """Return all that is held, as plain data."""
        return [[ALL, *pack(self.table)]]

    def unpack(self, packed: Iterable[list[Any]]) -> None:
        """Take over what ``packed`` returned."""
        for _, *pages in packed:
            self.put(*unpack(*pages))


class SeparateMemories(Memories):
    """A memory for each value: dicts, since most of them are small."""

    def __init__(self) -> None:
        self._memories: dict[bytes, dict[int, float]] = {}

    def __len__(self) -> int:
        return sum(map(len, self._memories.values()))

    def of(self, value: bytes) -> Memory:
        """Return the memory of a value, to be read only."""
        return self._memories.get(value, {})

    def raise_one(self, value: bytes, point: int, time: float) -> None:
        """Raise the time of a point where it is later."""
        memory = self._memories.setdefault(value, {})
        memory[point] = max(time, memory.get(point, NEVER))

    def forget(self, before: float) -> int:
        """Forget the times less than ``before``; return how many are left."""
        for value, memory in list(self._memories.items()):
            if left := {point: time for point, time in memory.items() if time >= before}:
                self._memories[value] = left
            else:
                del self._memories[value]
        return len(self)

    def keys(self) -> Keys:
        """Return pairs of value and point."""
        memories = sorted(self._memories.items())
        keys = ((value, point) for value, memory in memories for point in sorted(memory))
        return np.fromiter(keys, object, len(self))

    def times(self, keys: Keys) -> Times:
        """Return the times of n keys, NEVER for one that is not held."""
        times = (self._memories.get(value, {}).get(point, NEVER) for value, point in keys)
        return np.fromiter(times, np.float64, len(keys))

    def put(self, keys: Keys, times: Times) -> None:
        """Remember n keys with their times."""
        for (value, point), time in zip(keys, times.tolist(), strict=True):
            self._memories.setdefault(value, {})[point] = time

    def drop(self, keys: Keys) -> None:
        """Forget these keys."""
        for value, point in keys:
            del self._memories[value][point]
            if not self._memories[value]:
                del self._memories[value]

    def packed(self) -> list[list[Any]]:
        """Return all that is held, as plain data."""
        return [[value, *pack(memory)] for value, memory in sorted(self._memories.items())]

    def unpack(self, packed: Iterable[list[Any]]) -> None:
        """Take over what ``packed`` returned."""
        for value, *pages in packed:
            points, times = unpack(*pages)
            self._memories[value] = dict(zip(points.tolist(), times.tolist(), strict=True))


def pack(memory: Memory) -> tuple[int, memoryview, memoryview]:
    """Return pages as ``PointTimes.pages`` does, in any order, in little-endian columns.

    The stream waits meanwhile, so millions of points are neither sorted nor picked out here, nor
    copied: where it can be, this is the memory itself.
    """
    if isinstance(memory, PointTimes):
        shift, numbers, times = memory.pages()
    else:
        shift, numbers = 0, np.array(sorted(memory), np.int64)
        times = np.array([memory[point] for point in numbers.tolist()], np.float64)
    return (
        shift,
        numbers.astype("<i8", copy=False).data,
        times.astype("<f8", copy=False).data,
    )


def unpack(
    shift: int, numbers: bytes | memoryview, times: bytes | memoryview
) -> tuple[Points, Times]:
    """Return what ``pack`` packed: points int64[n] and times float64[n]."""
    number = np.frombuffer(numbers, "<i8").astype(np.int64)
    time = np.frombuffer(times, "<f8").astype(np.float64)
    places = np.flatnonzero(time > NEVER)
    return (number[places >> shift] << shift) | (places & ((1 << shift) - 1)), time[places]
