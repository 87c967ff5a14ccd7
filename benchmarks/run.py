"""Measures Penstock against what people write by hand; ``make bench`` runs this.

One process under test at a time. Writes the figures into README.md, unless QUICK=1 is in the
environment: then everything is a tenth as large, takes less than a minute and is only printed.
"""

from __future__ import annotations

import os
import sys
import tempfile
from pathlib import Path
from statistics import median
from typing import Final

from benchmarks import contenders, daemon, report
from benchmarks.contenders import Case
from benchmarks.events import write_events
from benchmarks.reference import write_expected
from benchmarks.report import Measured

QUICK: Final = os.environ.get("QUICK") == "1"
REPETITIONS: Final = 1 if QUICK else 5
BASELINE_EVENTS: Final = 2_000 if QUICK else 20_000
IDLE_SECONDS: Final = 5.0 if QUICK else 20.0
SHARE: Final = 10 if QUICK else 1

FILES: Final = (
    (1_000_000 // SHARE, 1_000_000),
    (5_000_000 // SHARE, 1_000_000),
    (1_000_000 // SHARE, 1_099),
)
"""Events and points; the first is the main case."""


def main() -> None:
    """Measure everything, print the figures and write them to README.md."""
    machine = report.machine()
    with tempfile.TemporaryDirectory(prefix="penstock-benchmarks-") as folder:
        files = [_measure_file(Path(folder), *file) for file in FILES]
        lines = _measure_daemon(Path(folder))
    figures = (
        f"Machine: {machine}.\nRepetitions: {REPETITIONS}; of idle: 1.\n\n"
        f"{report.speed_table(files)}\n"
        f"{report.errors_of_baseline(files)}{lines}"
    )
    print(figures)
    if QUICK:
        _say("QUICK=1: benchmarks/README.md is left as it is")
    else:
        report.write_readme(figures)


def _measure_file(folder: Path, events: int, points: int) -> Measured:
    """Let all contenders filter the file in turn, so that a busy moment does not hit one alone."""
    _say(f"{events:,} events over {points:,} points")
    case = Case(folder, folder / f"{events}-{points}.ndjson", folder / f"{events}-{points}.kept")
    write_events(case.source, events, points)
    write_expected(case.source, case.expected)
    baseline = []
    runs: dict[str, list[contenders.Run]] = {
        "plain script": [],
        "Penstock, 1 worker": [],
        "Penstock, 2 workers": [],
    }
    for repetition in range(REPETITIONS):
        _say(f"  {repetition + 1} of {REPETITIONS}")
        baseline.append(contenders.run_baseline(case, BASELINE_EVENTS))
        runs["plain script"].append(contenders.run_plain_script(case))
        runs["Penstock, 1 worker"].append(contenders.run_penstock(case, 1))
        runs["Penstock, 2 workers"].append(contenders.run_penstock(case, 2))
    case.source.unlink()
    case.expected.unlink()
    return Measured(events, points, baseline, runs)


def _measure_daemon(folder: Path) -> str:
    _say("the daemon")
    ready = median(daemon.ready_seconds(folder) for _ in range(REPETITIONS))
    usage = median(daemon.help_seconds(folder) for _ in range(REPETITIONS))
    idle = daemon.idle(folder, IDLE_SECONDS)
    return (
        f"- Daemon, start to ready: {ready:.2f} s\n"
        f"- Daemon, idle: {idle.percent:.2f} % of one core (+/- {idle.uncertain:.2f}) "
        f"for all {idle.processes} processes, over {IDLE_SECONDS:.0f} s\n"
        f"- `penstock --help`: {usage:.2f} s\n"
    )


def _say(message: str) -> None:
    print(message, file=sys.stderr, flush=True)


if __name__ == "__main__":
    main()
