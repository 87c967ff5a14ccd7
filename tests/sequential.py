"""The answer, the slow and simple way: one loop, one dict, one event after the other."""

from __future__ import annotations

import json
from collections.abc import Iterable


def sequential(lines: Iterable[bytes], window: float = 300.0, radius: int = 1) -> bytes:
    """Return the lines that an adjacent suppressor keeps, taking them one by one."""
    latest: dict[int, float] = {}
    kept = []
    for line in lines:
        event = json.loads(line)
        cid, time = event["cid"], event["time"]
        near = [latest[c] for c in range(cid - radius, cid + radius + 1) if c in latest]
        if not near or not -window < time - max(near) < window:
            kept.append(line)
        latest[cid] = max(time, latest.get(cid, time))
    return b"".join(kept)
