"""When a suppressor forgets, and which time its stream has come to by then.

Events are counted in cycles. At the end of each one its stream has come to the lower of two times:
the medians of the event times in the last eighth of this cycle and of the one before. So a few
devices whose clocks are wrong do not move it, and neither does a burst of old or of early events.
All this follows from the sequence of events alone, however it is cut into batches.
"""

from __future__ import annotations

from functools import lru_cache
from typing import Any, Final

import numpy as np

from middleware.point_times import MULTIPLIER, NEVER, Points, Times

MOST_SAMPLED: Final = 1_024
"""So many events of a cycle's last eighth are looked at: its median is then that of 47 to 53 %."""


class Cycle:
    """The events since the last cycle's end: how many, and the times sampled from the last eighth.

    Where the eighth has more than ``most_sampled`` events, it is cut into that many pieces, and
    from each piece one event is taken, at a place that looks random but depends on nothing else, so
    that no stream with a rhythm of its own falls into step with it.
    """

    def __init__(self, length: int, most_sampled: int = MOST_SAMPLED) -> None:
        """Begin the first cycle, of ``length`` events; no median is known from before."""
        self._most_sampled = most_sampled
        self._median = NEVER
        self.begin(length)

    @property
    def left(self) -> int:
        """How many events are left until the end."""
        return self._length - self._events

    def begin(self, length: int) -> None:
        """Begin the next cycle, of ``length`` events."""
        self._length = length
        self._events = 0
        self._rows = _sampled_rows(length, self._most_sampled)
        self._times: Times = np.empty(len(self._rows))
        self._sampled = 0
        self._next = int(self._rows[0])

    def count_one(self, time: float) -> bool:
        """Count an event, one at least being left; return whether it is the cycle's last."""
        if self._events == self._next:
            self._times[self._sampled] = time
            self._sampled += 1
            if self._sampled < len(self._rows):
                self._next = int(self._rows[self._sampled])
        self._events += 1
        return self._events == self._length

    def count(self, times: Times) -> bool:
        """Count n events, as many at least being left; return whether the cycle ends with them."""
        before, self._events = self._events, self._events + len(times)
        if self._events <= self._next:
            return False
        first, self._sampled = self._sampled, int(np.searchsorted(self._rows, self._events))
        self._times[first : self._sampled] = times[self._rows[first : self._sampled] - before]
        if self._sampled < len(self._rows):
            self._next = int(self._rows[self._sampled])
        return self._events == self._length

    def end(self) -> float:
        """Return the time the stream has come to; NEVER at the end of the first cycle."""
        middle = (len(self._times) - 1) // 2
        before, self._median = self._median, float(np.partition(self._times, middle)[middle])
        return min(before, self._median)

    def state(self) -> dict[str, Any]:
        """Return where the cycle stands, as plain data."""
        return {
            "length": self._length,
            "events": self._events,
            "median": self._median,
            "times": self._times[: self._sampled].astype("<f8").tobytes(),
        }

    def restore(self, state: dict[str, Any]) -> None:
        """Go on where another one stood."""
        self.begin(state["length"])
        self._median = state["median"]
        self._events = state["events"]
        times = np.frombuffer(state["times"], "<f8")
        self._sampled = len(times)
        self._times[: len(times)] = times
        if self._sampled < len(self._rows):
            self._next = int(self._rows[self._sampled])


@lru_cache(maxsize=4)
def _sampled_rows(length: int, most: int) -> Points:
    """Return which events of a cycle's last eighth are sampled, in rising order, counting from 0.

    For example, of a cycle of 2,500,000 events the last 312,500 are cut into 1,024 pieces of 305 or
    306. The multiplication makes 24 bits of a piece's number that look random.
    """
    eighth = max(1, length // 8)
    piece = np.arange(min(eighth, most))
    first = piece * eighth // len(piece)
    size = (piece + 1) * eighth // len(piece) - first
    random = (piece.view(np.uint64) * np.uint64(MULTIPLIER)) >> np.uint64(40)
    return length - eighth + first + random.view(np.int64) % size
