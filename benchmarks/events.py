"""Writes the input files: random points, 1,000 events per second of event time.

The same numbers of events and points always make the same file.
"""

from __future__ import annotations

import random
from pathlib import Path
from typing import Final

FIRST_POINT: Final = 131_000_000_201
FIRST_SECOND: Final = 1_700_000_000
"""Of event time, since the epoch."""

SEED: Final = 300
AT_ONCE: Final = 100_000
"""Lines written together."""


def write_events(path: Path, events: int, points: int) -> None:
    """Write NDJSON lines like ``{"cid":131000140891,"time":1700000000.001}``, in order of time.

    Each event's point is any of the ``points`` neighbouring ones, all equally likely.
    """
    chance = random.Random(SEED).random
    with path.open("w") as file:
        for start in range(0, events, AT_ONCE):
            numbers = range(start, min(start + AT_ONCE, events))
            file.write("".join(_line(number, int(chance() * points)) for number in numbers))


def _line(number: int, point: int) -> str:
    seconds, milliseconds = divmod(number, 1_000)
    time = f"{FIRST_SECOND + seconds}.{milliseconds:03}"
    return f'{{"cid":{FIRST_POINT + point},"time":{time}}}\n'
