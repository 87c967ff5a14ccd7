"""Puts the figures into tables, and the tables into README.md."""

from __future__ import annotations

import os
import platform
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from statistics import median
from typing import Final

from benchmarks.contenders import Baseline, Run

README: Final = Path(__file__).with_name("README.md")
BEGIN: Final = "<!-- figures: written by run.py -->\n"
END: Final = "<!-- end of figures -->\n"


@dataclass(frozen=True, slots=True)
class Section:
    """What one part of the benchmark found: text for people, figures by the name of their target.

    ``growth`` is for the plot: events so far, and the bytes of memory then.
    """

    title: str
    text: str
    figures: Mapping[str, float]
    growth: Sequence[tuple[int, int]] = ()


@dataclass(frozen=True, slots=True)
class Measured:
    """All runs over one file; ``runs`` by contender, the plain script among them."""

    name: str
    baseline: Sequence[Baseline]
    runs: Mapping[str, Sequence[Run]] = field(default_factory=dict)


def machine() -> str:
    """Return the cores, the CPU's model, the Python version and how busy the machine is."""
    cores = os.cpu_count() or 1
    load = os.getloadavg()[0]
    version = platform.python_version()
    return f"{cores} cores, {_cpu_model()}, Python {version}; load before the start: {load:.2f}"


def rate(runs: Sequence[Run]) -> float:
    """Return the events/s from the start of the process to its end, at the median."""
    return runs[0].events / median(run.seconds for run in runs)


def own_rate(runs: Sequence[Run]) -> float:
    """Return the events/s by the contender's own clock, at the median; 0 where it says none."""
    return median(run.own_rate or 0.0 for run in runs)


def speed_table(files: Sequence[Measured]) -> str:
    """Return a row per file and contender, with the ratios of their events/s."""
    headings = (
        "input",
        "contender",
        "events",
        "wall s: median (range)",
        "events/s",
        "events/s by its own clock",
        "x baseline",
        "x plain script",
    )
    return table(headings, [row for file in files for row in _rows(file)], left=2)


def table(headings: Sequence[str], rows: Iterable[Sequence[str]], left: int = 1) -> str:
    """Return a table in Markdown; its first ``left`` columns are text, the others numbers."""
    alignment = ["-" if column < left else "-:" for column in range(len(headings))]
    return "".join("| " + " | ".join(row) + " |\n" for row in (headings, alignment, *rows))


def errors_of_baseline(files: Sequence[Measured]) -> str:
    """Return a line per file: by how much the baseline's output is wrong, in each run."""
    return "".join(
        f"- Baseline, first {file.baseline[0].run.events:,} of {file.name}: "
        f"{_each(run.wrong for run in file.baseline)} lines missing or too many, "
        f"{_each(run.moved for run in file.baseline)} out of order\n"
        for file in files
    )


def write_readme(figures: str) -> None:
    """Put the figures between the two markers of README.md."""
    before, _, rest = README.read_text().partition(BEGIN)
    _, _, after = rest.partition(END)
    README.write_text(f"{before}{BEGIN}\n{figures}\n{END}{after}")


def _rows(file: Measured) -> Iterable[tuple[str, ...]]:
    slow = own_rate([each.run for each in file.baseline])
    plain = rate(file.runs["plain script"])
    runs = {"baseline": [each.run for each in file.baseline], **file.runs}
    for contender, each in runs.items():
        seconds = [run.seconds for run in each]
        own = own_rate(each)
        compared = own if contender == "baseline" else rate(each)
        yield (
            file.name,
            contender,
            f"{each[0].events:,}",
            f"{median(seconds):.2f} ({min(seconds):.2f} to {max(seconds):.2f})",
            f"{rate(each):,.0f}",
            f"{own:,.0f}" if own else "",
            f"{compared / slow:,.0f}",
            f"{compared / plain:.2f}" if contender != "baseline" else "",
        )


def _each(numbers: Iterable[int]) -> str:
    return " / ".join(f"{number:,}" for number in numbers)


def _cpu_model() -> str:
    information = Path("/proc/cpuinfo")
    lines = information.read_text().splitlines() if information.exists() else []
    models = [line.partition(": ")[2] for line in lines if line.startswith("model name")]
    return models[0] if models else platform.processor() or platform.machine()
