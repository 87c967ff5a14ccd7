"""Writes the exact expected output: the rule as a plain loop, with nothing made fast.

Usage: reference.py INPUT OUTPUT
"""

from __future__ import annotations

import json
import sys
from pathlib import Path

WINDOW = 300.0


def write_expected(source: Path, target: Path, most: int | None = None) -> None:
    """Keep what had nothing at its point or a neighbour in the last 300 s; of ``most`` lines."""
    times: dict[int, float] = {}
    with source.open("rb") as lines, target.open("wb") as kept:
        for number, line in enumerate(lines):
            if number == most:
                break
            event = json.loads(line)
            cid, time = event["cid"], event["time"]
            near = [times[point] for point in (cid - 1, cid, cid + 1) if point in times]
            if not near or abs(time - max(near)) >= WINDOW:
                kept.write(line)
            times[cid] = max(time, times.get(cid, time))


if __name__ == "__main__":
    write_expected(Path(sys.argv[1]), Path(sys.argv[2]))
