"""The suppressor's specification as a plain loop over a plain dict: slow and obvious."""

from __future__ import annotations

import json
from collections.abc import Mapping
from typing import Any


class Reference:
    """Decides one event after another; ``forget_after=None`` never forgets."""

    def __init__(  # the parameters of the suppressor
        self,
        *,
        window: float = 300.0,
        radius: int = 1,
        refresh: str = "seen",
        late: str = "keep",
        by: tuple[str, ...] = (),
        forget_after: int | None = None,
    ) -> None:
        self.window = window
        self.radius = radius
        self.refresh = refresh
        self.late = late
        self.by = by
        self.least = self.forget_after = forget_after
        self.times: dict[tuple[str, int], float] = {}
        self.high = float("-inf")
        self.events = 0
        self.late_events = 0

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
        if keep or self.refresh == "seen":
            self.times[value, cid] = max(time, self.times.get((value, cid), time))
        self._forget(time)
        return keep

    def _forget(self, time: float) -> None:
        self.high = max(self.high, time)
        self.events += 1
        if self.least is None or self.forget_after is None or self.events < self.forget_after:
            return
        before = self.high - 2 * self.window
        self.times = {key: latest for key, latest in self.times.items() if latest >= before}
        self.events = 0
        self.forget_after = max(self.least, len(self.times))
