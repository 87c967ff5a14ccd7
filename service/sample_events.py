"""Events to measure a chain with: made up, or the first ones of a file."""

from __future__ import annotations

import random
from datetime import UTC, datetime
from itertools import islice
from pathlib import Path
from typing import Final

from middleware.errors import PenstockError
from service.settings import EventSettings

FIRST_POINT: Final = 131_000_000_201
FIRST_SECOND: Final = 1_700_000_000
"""Generated events are 1 ms of event time apart, from here on, seconds since the epoch."""


def generated_lines(event: EventSettings, points: int, count: int) -> list[bytes]:
    """Return events of uniformly random points, with the fields that every event has."""
    chance = random.Random(points).random  # noqa: S311 - the same events each time
    return [
        f'{{"{event.cid}":{FIRST_POINT + int(chance() * points)},'
        f'"{event.time}":{_written(event, number)}}}\n'.encode()
        for number in range(count)
    ]


def read_lines(path: Path, count: int) -> list[bytes]:
    """Return the first lines of a file, at most ``count``; raises PenstockError."""
    try:
        with path.open("rb") as file:
            lines = list(islice(file, count))
    except OSError as error:
        raise PenstockError(f"{path}: cannot be read: {error.strerror}") from error
    return [line if line.endswith(b"\n") else line + b"\n" for line in lines]


def _written(event: EventSettings, number: int) -> str:
    moment = FIRST_SECOND + number / 1_000
    if event.time_format == "rfc3339":
        return f'"{datetime.fromtimestamp(moment, UTC).isoformat().replace("+00:00", "Z")}"'
    return f"{moment:.3f}"
