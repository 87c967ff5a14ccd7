"""The reference for switches: one loop over all posts, switched at the offsets that were told."""

from __future__ import annotations

import json
from collections.abc import Iterable
from typing import Any

Offset = tuple[int, int]


def parse_offset(text: str) -> Offset:
    block, _, row = text.partition(".")
    return int(block), int(row)


class Posts:
    """Posts and switches with the offsets that the daemon gave them, in any order."""

    def __init__(self) -> None:
        self._posts: list[tuple[Offset, list[bytes]]] = []
        self._switches: list[tuple[Offset, int, dict[str, Any]]] = []

    def posted(self, receipt: Any, body: bytes) -> None:
        self._posts.append((parse_offset(receipt["first"]), body.splitlines(keepends=True)))

    def switched(self, description: Any, change: dict[str, Any]) -> None:
        """Take note of a change: ``mode``, ``params`` or ``reset``; call in their order."""
        offset = parse_offset(description["offset"])
        self._switches.append((offset, len(self._switches), change))

    def expected(self, suppressor: Suppressor) -> bytes:
        """Return what comes out if every switch holds from its offset on."""
        switches = sorted(self._switches, reverse=True, key=lambda each: each[:2])
        kept: list[bytes] = []
        for first, lines in sorted(self._posts):
            for row, line in enumerate(lines):
                offset = (first[0], first[1] + row)
                while switches and switches[-1][0] <= offset:
                    suppressor.switch(switches.pop()[2])
                if suppressor.passes(line):
                    kept.append(line)
        return b"".join(kept)


class Suppressor:
    """The adjacent suppressor with its modes, decided the slow way: one dict, radius 1.

    It never forgets, as the suppressor promises for so few points, whatever window is set.
    """

    def __init__(self, window: float, mode: str = "enabled") -> None:
        self.window = window
        self.mode = mode
        self.dropped = self.shadow = 0
        self._times: dict[int, float] = {}

    def switch(self, change: dict[str, Any]) -> None:
        self.mode = change.get("mode", self.mode)
        self.window = change.get("params", {}).get("window", self.window)
        if change.get("reset"):
            self._times = {}

    def passes(self, line: bytes) -> bool:
        if self.mode == "disabled":
            return True
        event = json.loads(line)
        keeps = self._keeps(event["cid"], event["time"])
        if self.mode == "shadow":
            self.shadow += not keeps
            return True
        self.dropped += not keeps
        return keeps

    def _keeps(self, cid: int, time: float) -> bool:
        times = self._times
        latest = max(times.get(point, float("-inf")) for point in (cid - 1, cid, cid + 1))
        times[cid] = max(time, times.get(cid, time))
        return not -self.window < time - latest < self.window


def event_lines(rows: Iterable[tuple[int, float]], first: int = 0) -> bytes:
    """Return events as NDJSON, each with a number of its own."""
    return b"".join(
        b'{"cid":%d,"time":%.3f,"n":%d}\n' % (cid, time, number)
        for number, (cid, time) in enumerate(rows, first)
    )
