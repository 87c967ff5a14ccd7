"""Writes the input files: random points, 1,000 events per second of event time.

The same numbers always make the same file. Times rise from event to event.
"""

from __future__ import annotations

import random
from collections.abc import Callable
from pathlib import Path
from typing import Final

import numpy as np
from numpy.typing import NDArray

FIRST_POINT: Final = 131_000_000_201
FIRST_SECOND: Final = 1_700_000_000
"""Of event time, since the epoch."""

SEED: Final = 300
AT_ONCE: Final = 100_000
"""Lines written together."""

CLUSTER: Final = 1_000
"""Neighbouring points in one cluster."""


def write_events(path: Path, events: int, points: int) -> None:
    """Write NDJSON lines like ``{"cid":131000140891,"time":1700000000.001}``, in order of time.

    Each event's point is any of the ``points`` neighbouring ones, all equally likely.
    """
    chance = random.Random(SEED).random
    _write(path, events, lambda number: _line(number, FIRST_POINT + int(chance() * points)))


def write_clustered_events(path: Path, events: int, points: int) -> None:
    """Write such lines with the points in clusters, which lie anywhere in the 64 bits of a cid."""
    source = random.Random(SEED)
    clusters = [source.randrange(-(2**63) + 1, 2**63 - CLUSTER) for _ in range(points // CLUSTER)]
    chance = source.random

    def line(number: int) -> str:
        cluster, place = divmod(int(chance() * points), CLUSTER)
        return _line(number, clusters[cluster] + place)

    _write(path, events, line)


def write_wide_events(path: Path, events: int, points: int) -> None:
    """Write events of 12 fields, about 300 bytes each."""
    chance = random.Random(SEED).random

    def line(number: int) -> str:
        point = int(chance() * points)
        return (
            f'{_line(number, FIRST_POINT + point)[:-2]},"id":"{number:016x}-{point:012x}",'
            f'"line":"line-{point % 17}","station":"station-{point % 311:04}",'
            f'"device":"camera-{point:07}","kind":"temperature above its limit",'
            f'"severity":{number % 7},"value":{number % 9_973 / 8},"unit":"degrees Celsius",'
            f'"confirmed":{"true" if number % 2 else "false"},"tags":["north",{point % 5}]}}\n'
        )

    _write(path, events, line)


def write_lone_events(path: Path, events: int) -> None:
    """Write events of which each has a point of its own and no neighbour: all are kept."""
    _write(path, events, lambda number: _line(number, FIRST_POINT + 10 * number))


def lines_of(cid: NDArray[np.int64], first: int, per_second: int) -> bytes:
    """Return an event for each point, of 12 digits, as NDJSON.

    The first one has the number ``first``; there are ``per_second``, a power of 10, of event time.
    """
    seconds, fraction = np.divmod(np.arange(first, first + len(cid)), per_second)
    pieces = (
        b'{"cid":',
        _digits(cid, 12),
        b',"time":',
        _digits(FIRST_SECOND + seconds, 10),
        b".",
        _digits(fraction, len(str(per_second)) - 1),
        b"}\n",
    )
    columns = [
        np.broadcast_to(np.frombuffer(piece, np.uint8), (len(cid), len(piece)))
        if isinstance(piece, bytes)
        else piece
        for piece in pieces
    ]
    return np.concatenate(columns, axis=1).tobytes()


def _digits(numbers: NDArray[np.int64], count: int) -> NDArray[np.uint8]:
    """Return the last ``count`` decimal digits of n numbers as characters, uint8[n, count]."""
    characters = np.empty((len(numbers), count), np.uint8)
    for column in range(count - 1, -1, -1):
        numbers, digit = np.divmod(numbers, 10)
        characters[:, column] = digit + ord("0")
    return characters


def _write(path: Path, events: int, line: Callable[[int], str]) -> None:
    with path.open("w") as file:
        for start in range(0, events, AT_ONCE):
            file.write("".join(map(line, range(start, min(start + AT_ONCE, events)))))


def _line(number: int, cid: int) -> str:
    seconds, milliseconds = divmod(number, 1_000)
    return f'{{"cid":{cid},"time":{FIRST_SECOND + seconds}.{milliseconds:03}}}\n'
