"""Puts the figures into tables, and the tables into README.md."""

from __future__ import annotations

import os
import platform
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from statistics import median
from typing import Final

from benchmarks.contenders import Baseline, Run

README: Final = Path(__file__).with_name("README.md")
BEGIN: Final = "<!-- figures: written by run.py -->\n"
END: Final = "<!-- end of figures -->\n"

HEADINGS: Final = (
    "input",
    "contender",
    "wall s: median (range)",
    "events/s",
    "events/s by its own clock",
    "x baseline",
    "x plain script",
)
ALIGNMENT: Final = ("-", "-", "-:", "-:", "-:", "-:", "-:")


@dataclass(frozen=True, slots=True)
class Measured:
    """All runs over one file; ``runs`` by contender, the plain script first."""

    events: int
    points: int
    baseline: Sequence[Baseline]
    runs: Mapping[str, Sequence[Run]]


def machine() -> str:
    """Return the cores, the CPU's model, the Python version and how busy the machine is."""
    cores = os.cpu_count() or 1
    load = os.getloadavg()[0]
    version = platform.python_version()
    return f"{cores} cores, {_cpu_model()}, Python {version}; load before the start: {load:.2f}"


def speed_table(files: Sequence[Measured]) -> str:
    """Return a row per file and contender, with the ratios of their events/s."""
    rows: list[tuple[str, ...]] = [HEADINGS, ALIGNMENT]
    for file in files:
        rows += _rows(file)
    return "".join("| " + " | ".join(row) + " |\n" for row in rows)


def errors_of_baseline(files: Sequence[Measured]) -> str:
    """Return a line per file: by how much the baseline's output is wrong, in each run."""
    return "".join(
        f"- Baseline, first {file.baseline[0].events:,} of {file.events:,} events over "
        f"{file.points:,} points: "
        f"{_each(run.wrong for run in file.baseline)} lines missing or too many, "
        f"{_each(run.moved for run in file.baseline)} out of order\n"
        for file in files
    )


def write_readme(figures: str) -> None:
    """Put the figures between the two markers of README.md."""
    before, _, rest = README.read_text().partition(BEGIN)
    _, _, after = rest.partition(END)
    README.write_text(f"{before}{BEGIN}\n{figures}\n{END}{after}")


def _rows(file: Measured) -> list[tuple[str, ...]]:
    name = f"{file.events:,} events, {file.points:,} points"
    slow = median(baseline.run.own_rate or 0.0 for baseline in file.baseline)
    events = file.baseline[0].events
    runs = [baseline.run for baseline in file.baseline]
    rows = [_row(name, f"baseline, {events:,} events", runs, events, (slow, None))]
    plain = None
    for contender, others in file.runs.items():
        plain = plain or _rate(others, file.events)
        rows.append(_row(name, contender, others, file.events, (slow, plain)))
    return rows


def _row(
    name: str,
    contender: str,
    runs: Sequence[Run],
    events: int,
    others: tuple[float, float | None],
) -> tuple[str, ...]:
    seconds = [run.seconds for run in runs]
    own = [run.own_rate for run in runs if run.own_rate is not None]
    rate = _rate(runs, events)
    baseline, plain = others
    return (
        name,
        contender,
        f"{median(seconds):.2f} ({min(seconds):.2f} to {max(seconds):.2f})",
        f"{rate:,.0f}",
        f"{median(own):,.0f}" if own else "",
        f"{rate / baseline:,.0f}" if plain else "1",
        f"{rate / plain:.2f}" if plain else "",
    )


def _each(numbers: Iterable[int]) -> str:
    return " / ".join(f"{number:,}" for number in numbers)


def _rate(runs: Sequence[Run], events: int) -> float:
    return events / median(run.seconds for run in runs)


def _cpu_model() -> str:
    information = Path("/proc/cpuinfo")
    lines = information.read_text().splitlines() if information.exists() else []
    models = [line.partition(": ")[2] for line in lines if line.startswith("model name")]
    return models[0] if models else platform.processor() or platform.machine()
