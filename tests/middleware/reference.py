"""The suppressor's specification as a plain loop over a plain dict: slow and obvious."""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import dataclass, field
from statistics import median_low
from typing import Any

Key = tuple[str, int]
NEVER = float("-inf")
UNLIMITED = 2**62


@dataclass
class Reference:
    """Decides one event after another; by default it never forgets."""

    window: float = 300.0
    radius: int = 1
    refresh: str = "seen"
    late: str = "keep"
    by: tuple[str, ...] = ()
    remember: int = UNLIMITED
    most: int = UNLIMITED
    least_cycle: int = 65_536

    times: dict[Key, float] = field(default_factory=dict)
    touched: dict[Key, int] = field(default_factory=dict)
    """The number of the event that touched each, once any went because of ``most``."""

    late_events: int = 0
    beyond_most: int = 0

    def __post_init__(self) -> None:
        self._notes_touches = False
        self._events = 0
        self._cycle: list[float] = []  # the times of its events so far
        self._cycle_length = self.least_cycle
        self._median_before = NEVER

    def keeps(self, event: Mapping[str, Any]) -> bool:
        """Decide about the event and remember it."""
        cid, time = event["cid"], event["time"]
        value = json.dumps([event.get(name) for name in self.by], sort_keys=True)
        near = [
            remembered
            for (other, point), remembered in self.times.items()
            if other == value and cid - self.radius <= point <= cid + self.radius
        ]
        keep = True
        if near:
            age = time - max(near)
            if age <= -self.window:
                self.late_events += 1
                keep = self.late == "keep"
            else:
                keep = age >= self.window
        self._events += 1
        if keep or self.refresh == "seen":
            self.times[value, cid] = max(time, self.times.get((value, cid), time))
            if self._notes_touches:
                self.touched[value, cid] = self._events
        self._cycle.append(time)
        if len(self._cycle) == self._cycle_length:
            self._end_cycle()
        return keep

    def _end_cycle(self) -> None:
        median = median_low(self._cycle[-max(1, len(self._cycle) // 8) :])
        before = min(median, self._median_before) - 2 * self.window
        if len(self.times) > self.remember:
            self.times = {key: time for key, time in self.times.items() if time >= before}
        excess = len(self.times) - self.most
        if excess > 0:
            self._notes_touches = True
            for key in sorted(self.times, key=self._touched_longest_ago)[:excess]:
                del self.times[key]
                self.beyond_most += 1
        if len(self.times) <= self.most // 2:
            self._notes_touches = False
        if not self._notes_touches:
            self.touched = {}
        self.touched = {key: event for key, event in self.touched.items() if key in self.times}
        self._median_before = median
        self._cycle = []
        self._cycle_length = max(self.least_cycle, len(self.times) // 4)

    def _touched_longest_ago(self, key: Key) -> tuple[float, float, Key]:
        return (self.touched.get(key, NEVER), self.times[key], key)
