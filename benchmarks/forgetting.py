"""Shows what forgetting costs: wrong decisions on difficult streams, and how far a memory grows.

    python -m benchmarks.forgetting

Each stream is decided by a suppressor that forgets as soon as it may (``remember = 0``), by one as
it comes, and by one that never forgets. A decision is wrong where it differs from that of the last.
Nothing is timed.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from typing import Any, Final, NamedTuple

import numpy as np
from numpy.typing import NDArray

from benchmarks.report import table
from middleware.adjacent import AdjacentSuppressor
from middleware.contract import Batch

Times = NDArray[np.float64]

EVENTS: Final = 1_000_000
ENDLESS: Final = 20_000_000
POINTS: Final = 50_000
PER_SECOND: Final = 500
HOUR: Final = 3600.0
BATCH: Final = 24_000


class Stream(NamedTuple):
    """n events: point and time of each, int64[n] and float64[n]."""

    cid: NDArray[np.int64]
    time: Times


def steady(events: int, points: int) -> Stream:
    """Return events of random points, in order."""
    random = np.random.default_rng(1)
    return Stream(random.integers(0, points, events) * 2, np.arange(events) / PER_SECOND)


def wrong_clocks(events: int, points: int) -> Stream:
    """Return a stream in which five points are 1 to 24 hours ahead."""
    cid, time = steady(events, points)
    for number, hours in enumerate((1, 3, 8, 20, 24)):
        time = time + HOUR * hours * (cid == 2 * number)
    return Stream(cid, time)


def one_event_ahead(events: int, points: int) -> Stream:
    """Return a stream with one event, in its middle, 20 hours ahead."""
    cid, time = steady(events, points)
    time[events // 2] += 20 * HOUR
    return Stream(cid, time)


def bursts(events: int, points: int) -> Stream:
    """Return a stream in which every other twentieth comes a hundred times as fast."""
    cid, _ = steady(events, points)
    fast = np.arange(events) // (events // 20) % 2 == 1
    return Stream(cid, np.cumsum(np.where(fast, 0.01, 1.0)) / PER_SECOND)


def plant_ahead(events: int, points: int) -> Stream:
    """Return a stream in which a third of the points, those of one plant, are 2 hours ahead."""
    cid, time = steady(events, points)
    return Stream(cid, time + 2 * HOUR * (cid < 2 * points // 3))


def merged_files(events: int, points: int) -> Stream:
    """Return the files of three plants, hours apart, merged in pieces of a thousand events."""
    cid, time = steady(events, points)
    plant = np.arange(events) // 1_000 % 3
    return Stream(cid + 2 * points * plant, time + 5 * HOUR * plant)


def hours_late(events: int, points: int) -> Stream:
    """Return a stream in which 1 % of the points are three hours late."""
    cid, time = steady(events, points)
    return Stream(cid, time - 3 * HOUR * (cid < 2 * points // 100))


def caught_up(events: int, points: int) -> Stream:
    """Return a stream amid which a tenth of it, a day old, is delivered at once."""
    cid, time = steady(events, points)
    row = np.arange(events)
    late = (row >= events // 2) & (row < events * 6 // 10)
    return Stream(cid, time - 24 * HOUR * late)


def new_points(events: int, points: int) -> Stream:
    """Return a stream in which hardly any point comes a second time."""
    del points
    random = np.random.default_rng(2)
    return Stream(random.integers(0, 2**62, events), np.arange(events) / PER_SECOND)


STREAMS: Final[dict[str, Callable[[int, int], Stream]]] = {
    "5 points 1 to 24 h ahead": wrong_clocks,
    "one event 20 h ahead": one_event_ahead,
    "bursts, 100 times as fast": bursts,
    "a plant 2 h ahead": plant_ahead,
    "three files 5 h apart, merged": merged_files,
    "1 % of the points 3 h late": hours_late,
    "a tenth a day late": caught_up,
    "new points without end": new_points,
}


class Outcome(NamedTuple):
    """How many decisions were wrong, and the points remembered: at most, and without end."""

    wrong: int
    most: int
    without: int


def outcome(
    stream: Stream, cls: type[AdjacentSuppressor] = AdjacentSuppressor, **params: Any
) -> Outcome:
    """Return how a suppressor with these parameters fares on a stream."""
    forgets = cls(cls.Params(**params))
    never = cls(cls.Params(**{**params, "remember": 2**62, "most": 2**62}))
    wrong = most = 0
    for start in range(0, len(stream.cid), BATCH):
        rows = slice(start, start + BATCH)
        batch = Batch(stream.cid[rows], stream.time[rows])
        wrong += int(np.count_nonzero(forgets.handle_batch(batch) != never.handle_batch(batch)))
        most = max(most, len(forgets))
    return Outcome(wrong, most, len(never))


class Size(NamedTuple):
    """After so many events: the points a suppressor remembers, and the bytes that takes."""

    events: int
    points: int
    size: int


def sizes(
    events: int, every: int, cls: type[AdjacentSuppressor] = AdjacentSuppressor, **params: Any
) -> Iterator[Size]:
    """Yield how large the memory is while hardly any point comes a second time."""
    suppressor = cls(cls.Params(**params))
    random = np.random.default_rng(3)
    for start in range(0, events, min(BATCH, every)):
        count = min(BATCH, every, events - start)
        time = np.arange(start, start + count) / PER_SECOND
        suppressor.handle_batch(Batch(random.integers(0, 2**62, count), time))
        if start // every != (start + count) // every:
            yield Size(start + count, len(suppressor), suppressor.nbytes)


def main() -> None:
    """Print both tables."""
    rows = []
    for name, stream in STREAMS.items():
        events = stream(EVENTS, POINTS)
        soon, default = outcome(events, remember=0), outcome(events)
        figures = (soon.wrong, soon.most, default.wrong, default.most, default.without)
        rows.append((name, *(f"{figure:,}" for figure in figures)))
    heads = ("wrong, remember = 0", "most points", "wrong by default", "most points", "without end")
    print(table((f"{EVENTS:,} events, {POINTS:,} points", *heads), rows))
    rows = [
        (f"{each.events:,}", f"{each.points:,}", f"{each.size / 1e6:,.1f}")
        for each in sizes(ENDLESS, ENDLESS // 20)
    ]
    print(table(("events, each of a new point", "points remembered", "MB"), rows))


if __name__ == "__main__":
    main()
