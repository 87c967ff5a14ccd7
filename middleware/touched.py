"""Which points were touched longest ago: those go where a memory would grow beyond its bound.

A point is touched whenever its time is remembered, be it a late one. Nobody notes this before it is
asked for, as it takes as much room again as the memory itself.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np

from middleware.memories import Memories
from middleware.point_times import NEVER, Points, Times


class Touched:
    """By key, the number of the event that touched it last, events counted from the beginning."""

    def __init__(self, new: Callable[[], Memories]) -> None:
        """Begin with nothing touched; ``new`` makes empty memories with the keys wanted."""
        self._new = new
        self._numbers = new()
        self._events = 0

    def note_one(self, value: bytes, point: int) -> None:
        """Note the next event's point."""
        self._numbers.raise_one(value, point, float(self._events))

    def note(self, points: Points, rows: Points) -> None:
        """Note the points of some of the next events; ``rows`` counts from the very next."""
        self._numbers.put(points, (self._events + rows).astype(np.float64))

    def passed(self, events: int) -> None:
        """Go on to the events behind the next ``events``."""
        self._events += events

    def trim(self, memories: Memories, most: int) -> int:
        """Leave at most ``most`` keys in ``memories``; return how many went.

        First those that nobody touched since this began, the smallest times first, then those
        touched longest ago; of equal ones the lowest keys.
        """
        keys = memories.keys()
        numbers = self._numbers.times(keys)
        stay = np.ones(len(keys), np.bool_)
        if len(keys) > most:
            stay[_first(len(keys) - most, numbers, memories.times(keys))] = False
            memories.drop(keys[~stay])
        self._numbers = self._new()  # without what was forgotten
        known = stay & (numbers > NEVER)
        self._numbers.put(keys[known], numbers[known])
        return int(np.count_nonzero(~stay))

    def state(self) -> dict[str, Any]:
        """Return who touched what, as plain data."""
        return {"events": self._events, "numbers": self._numbers.packed()}

    def restore(self, state: dict[str, Any]) -> None:
        """Go on where another one stood; this one is new."""
        self._events = state["events"]
        self._numbers.unpack(state["numbers"])


def _first(count: int, numbers: Times, times: Times) -> Points:
    """Return ``count`` rows: by rising number, then by rising time, then by rising row."""
    last = np.partition(numbers, count - 1)[count - 1]
    before = np.flatnonzero(numbers < last)
    equal = np.flatnonzero(numbers == last)
    order = np.argsort(times[equal], kind="stable")
    return np.concatenate((before, equal[order[: count - len(before)]]))
