"""Writes the exact expected output: each rule as a plain loop, with nothing made fast.

Usage: reference.py INPUT OUTPUT
"""

from __future__ import annotations

import json
import sys
from collections.abc import Callable
from itertools import islice
from pathlib import Path
from typing import Any

WINDOW = 300.0


def write_expected(source: Path, target: Path, most: int | None = None) -> None:
    """Keep what had nothing at its point or a neighbour in the last 300 s; of ``most`` lines."""
    times: dict[int, float] = {}

    def keep(event: dict[str, Any]) -> bool:
        cid, time = event["cid"], event["time"]
        near = [times[point] for point in (cid - 1, cid, cid + 1) if point in times]
        times[cid] = max(time, times.get(cid, time))
        return not near or abs(time - max(near)) >= WINDOW

    write_kept(source, target, keep, most)


def write_kept(
    source: Path, target: Path, keep: Callable[[dict[str, Any]], bool], most: int | None = None
) -> None:
    """Write the lines of those events that ``keep`` says yes to; of ``most`` lines."""
    with source.open("rb") as lines, target.open("wb") as kept:
        kept.writelines(line for line in islice(lines, most) if keep(json.loads(line)))


if __name__ == "__main__":
    write_expected(Path(sys.argv[1]), Path(sys.argv[2]))
