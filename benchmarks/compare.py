"""Measures another checkout of Penstock and this one by turns, so that a busy moment hits both.

``python -m benchmarks.compare /path/to/other`` prints a table: medians of both, in events a second,
and the change. With QUICK=1 in the environment all is a tenth as large. Both run in the environment
of this one: two copies of the same libraries can differ by a fifth, by where they lie in memory.
"""

from __future__ import annotations

import os
import sys
import tempfile
from collections.abc import Callable
from pathlib import Path
from statistics import median
from typing import Final

from benchmarks.contenders import HERE, Case, run_penstock
from benchmarks.durability import MANY_EVENTS, MEGABYTE, SINGLE_EVENTS, lone_events
from benchmarks.files import CLUSTERS, DENSE, FEW, WIDE
from benchmarks.ingest import ingest
from benchmarks.report import table
from benchmarks.sizes import QUICK, say

TURNS: Final = 1 if QUICK else 7

THIS: Final = HERE.parent

Measure = Callable[[], float]
"""Returns events a second."""


def main(other: Path) -> None:
    """Measure everything and print it."""
    rows: list[tuple[str, ...]] = []
    with tempfile.TemporaryDirectory(prefix="penstock-benchmarks-") as name:
        folder = Path(name)
        for each in (DENSE, FEW, CLUSTERS, WIDE):
            case = each.made(folder)
            for workers in (1, 2):
                what = f"{each.name}, {workers} worker{'s' * (workers > 1)}"
                rows.append(compared(what, other, processing(case, workers)))
            if each is DENSE:
                rows.append(compared("posts of 1 MB", other, posting(case, MEGABYTE, 1)))
            case.source.unlink()
            case.expected.unlink()
        many = lone_events(folder, "many", MANY_EVENTS)
        rows.append(compared("posts of 1 MB, 2 clients", other, posting(many, MEGABYTE, 2)))
        single = lone_events(folder, "single", SINGLE_EVENTS)
        rows.append(compared("posts of one event, 8 clients", other, posting(single, 1, 8)))
    print(table(("events/s", "other", "this", "change"), rows))


def processing(case: Case, workers: int) -> Measure:
    """Return how to measure ``process``, from its start to its end."""

    def measure() -> float:
        run = run_penstock(case, workers)
        return run.events / run.seconds

    return measure


def posting(case: Case, lines: int, clients: int) -> Measure:
    """Return how to measure a daemon, from the first post to the last line in the sink's file."""
    return lambda: ingest(case, lines, clients, "full")


def compared(what: str, other: Path, measure: Measure) -> tuple[str, ...]:
    """Return a row of the table."""
    say(what)
    found: dict[Path, list[float]] = {other: [], THIS: []}
    for turn in range(TURNS):
        for checkout in (other, THIS) if turn % 2 else (THIS, other):
            os.environ["PYTHONPATH"] = str(checkout)  # before what is installed
            found[checkout].append(measure())
    before, after = median(found[other]), median(found[THIS])
    return what, f"{before:,.0f}", f"{after:,.0f}", f"{after / before - 1:+.1%}"


if __name__ == "__main__":
    main(Path(sys.argv[1]).resolve())
