"""Measures a large memory: what a remembered point takes, and how fast it is among millions."""

from __future__ import annotations

import time
from collections.abc import Callable
from pathlib import Path
from typing import Final, NamedTuple

import numpy as np

from benchmarks.contenders import Case, WrongOutput, run_penstock
from benchmarks.events import FIRST_POINT, FIRST_SECOND, lines_of
from benchmarks.report import Section, own_rate
from benchmarks.sizes import REPETITIONS, SHARE, say
from middleware.adjacent import AdjacentSuppressor
from middleware.contract import Batch

MANY: Final = 10_000_000 // SHARE
FEW: Final = 1_000
ASKED: Final = 2 * MANY
PER_SECOND: Final = 100_000
"""Events in a second of event time, so that all of them lie within one window."""

AT_ONCE: Final = 250_000
BATCH: Final = 24_000
"""About as many events as a block has."""


def measure(folder: Path) -> Section:
    """Measure ``penstock process`` and the suppressor alone, with many points and with few."""
    say("points")
    many, few = process_rate(folder, MANY), process_rate(folder, FEW)
    many_alone, few_alone = remembered(MANY), remembered(FEW)
    text = (
        f"- {MANY:,} remembered points: {many_alone.bytes_a_point:.1f} bytes each\n"
        f"- `penstock process`, 2 workers, {MANY + ASKED:,} events: {many:,.0f} events/s among "
        f"these, {few:,.0f} among {FEW:,}\n"
        f"- `adjacent` alone, without the rest of Penstock: {many_alone.rate:,.0f} events/s among "
        f"these, {few_alone.rate:,.0f} among {FEW:,}\n"
    )
    figures = {
        "bytes a point": many_alone.bytes_a_point,
        "many points to few": many / few,
        "many points to few, alone": many_alone.rate / few_alone.rate,
    }
    return Section("Many points", text, figures)


def process_rate(folder: Path, points: int) -> float:
    """Return the events/s of ``penstock process``, by its own clock, with so many points.

    ``MANY`` events in which each point comes in its turn are followed by ``ASKED`` events of any of
    them. All but the very first have a neighbour within the window, so that only this one is kept.
    Raises WrongOutput.
    """
    case = Case(folder, folder / "points", folder / "expected", MANY + ASKED)
    ordered = np.arange(MANY) % points
    asked = np.random.default_rng(points).integers(0, points, ASKED)
    cid = FIRST_POINT + np.concatenate((ordered, asked))
    with case.source.open("wb") as file:
        for start in range(0, len(cid), AT_ONCE):
            file.write(lines_of(cid[start : start + AT_ONCE], start, PER_SECOND))
    with case.source.open("rb") as file:
        case.expected.write_bytes(file.readline())
    rate = own_rate([run_penstock(case, 2) for _ in range(REPETITIONS)])
    case.source.unlink()
    return rate


class Remembered(NamedTuple):
    """What one point takes, in bytes, and the events/s of the suppressor alone."""

    bytes_a_point: float
    rate: float


def remembered(points: int) -> Remembered:
    """Fill a suppressor with neighbouring points and ask it about events of any of them.

    All that it remembers lies within one window, so that it must suppress every event asked.
    """
    suppressor = AdjacentSuppressor(AdjacentSuppressor.Params())
    suppressor.open()
    cid = FIRST_POINT + np.arange(points)
    for start in range(0, points, BATCH):
        batch = cid[start : start + BATCH]
        suppressor.handle_batch(Batch(batch, np.full(len(batch), float(FIRST_SECOND))))
    table = suppressor._table  # noqa: SLF001 - its size is what is measured
    random = np.random.default_rng(points)
    batches = [
        Batch(cid[random.integers(0, points, BATCH)], np.full(BATCH, FIRST_SECOND + 1.0))
        for _ in range(max(10, 2_000_000 // SHARE // BATCH))
    ]
    seconds, kept = _timed(lambda batch: int(suppressor.handle_batch(batch).sum()), batches)
    if kept or len(table) != points:
        raise WrongOutput(f"{points:,} points: {kept} events kept, {len(table):,} points held")
    return Remembered(table.nbytes / points, len(batches) * BATCH / seconds)


def _timed(ask: Callable[[Batch], int], batches: list[Batch]) -> tuple[float, int]:
    began = time.perf_counter()
    kept = sum(map(ask, batches))
    return time.perf_counter() - began, kept
