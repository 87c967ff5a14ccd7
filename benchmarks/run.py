"""Measures Penstock against what people write by hand; ``make bench`` runs this.

One process under test at a time. Writes the figures into README.md and draws them, unless QUICK=1
is in the environment: then all is a tenth as large, takes about a minute and is only printed.
Arguments name sections to measure, instead of all; then, too, figures are only printed.
"""

from __future__ import annotations

import compileall
import sys
import tempfile
from pathlib import Path
from typing import Final

from benchmarks import chains, daemon, durability, files, memory, plot, points, report, targets
from benchmarks.contenders import Case, installed
from benchmarks.report import Measured, Section
from benchmarks.sizes import QUICK, REPETITIONS, say

PLOT: Final = Path(__file__).with_name("speed")
SECTIONS: Final = ("files", "durability", "chains", "memory", "points", "daemon")


def main(wanted: tuple[str, ...]) -> None:
    """Measure everything wanted, print the figures and write them to README.md."""
    for package in ("middleware", "service"):  # what a first run leaves, unless it may not write
        compileall.compile_dir(package, quiet=1)
    machine = report.machine()
    sections: list[Section] = []
    speeds: list[Measured] = []
    with tempfile.TemporaryDirectory(prefix="penstock-benchmarks-") as name:
        folder = Path(name)
        dense = _dense(folder, wanted)
        if "files" in wanted:
            say("files")
            section, speeds = files.measure(folder, dense)
            sections.append(section)
        if "durability" in wanted:
            sections.append(durability.measure(folder, dense))
        if "chains" in wanted:
            sections.append(chains.measure(folder, dense))
        if "memory" in wanted:
            sections.append(memory.measure(folder))
        if "points" in wanted:
            sections.append(points.measure(folder))
        if "daemon" in wanted:
            sections.append(daemon.measure(folder))
    figures = _figures(machine, sections)
    print(figures)
    if QUICK or wanted != SECTIONS:
        say("benchmarks/README.md is left as it is: that takes all sections, without QUICK=1")
        return
    if installed("matplotlib"):
        plot.draw(PLOT, speeds, [each for section in sections for each in section.growth])
        figures += f"\n![Events a second by contender, and memory over a stream]({PLOT.name}.svg)\n"
    else:
        say("matplotlib is not installed: no plot is drawn")
    report.write_readme(figures)


def _dense(folder: Path, wanted: tuple[str, ...]) -> Case:
    """Make the main input, which several sections use, where one of these is wanted."""
    if not {"files", "durability", "chains"} & set(wanted):
        return Case(folder, folder, folder, 0)
    say(f"making {files.DENSE.events:,} events")
    return files.DENSE.made(folder)


def _figures(machine: str, sections: list[Section]) -> str:
    found = {name: value for section in sections for name, value in section.figures.items()}
    texts = "\n".join(f"### {section.title}\n\n{section.text}" for section in sections)
    return (
        f"Machine: {machine}.\nRepetitions: {REPETITIONS}; of latency, of the step of 40 ms, of "
        f"memory and of idle: 1.\n\n"
        f"{texts}\n### Targets\n\n{targets.target_table(found)}"
    )


if __name__ == "__main__":
    main(tuple(each for each in SECTIONS if each in sys.argv[1:]) or SECTIONS)
