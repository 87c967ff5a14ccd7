"""Draws the figures: events/s of each contender, and the memory over a long stream."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Final

from benchmarks.contenders import Run
from benchmarks.report import Measured, rate

FORMATS: Final = ("png", "svg")
BAR: Final = 0.13
"""Width of a bar; the bars of one input share a width of 1."""


def draw(target: Path, files: Sequence[Measured], growth: Sequence[tuple[int, int]]) -> None:
    """Write ``target`` with each ending of FORMATS; raises ImportError without matplotlib."""
    import matplotlib as mpl  # noqa: PLC0415 - only the extra "bench" brings it

    mpl.use("agg")
    mpl.rcParams["svg.hashsalt"] = "penstock"  # the same figures, the same file
    from matplotlib.figure import Figure  # noqa: PLC0415 - as above

    figure = Figure(figsize=(12, 4.5), layout="constrained")
    speed, memory = figure.subplots(1, 2, width_ratios=(3, 1))
    names = ["baseline", *dict.fromkeys(name for file in files for name in file.runs)]
    for place, name in enumerate(names):
        shown = [
            (row + place * BAR, rate(runs))
            for row, file in enumerate(files)
            if (runs := _runs(file, name))
        ]
        speed.bar([at for at, _ in shown], [height for _, height in shown], BAR, label=name)
    speed.set_yscale("log")
    speed.set_ylabel("events/s, from start to end")
    speed.set_xticks([row + BAR * (len(names) - 1) / 2 for row in range(len(files))])
    speed.set_xticklabels([file.name for file in files])
    figure.legend(loc="outside upper left", ncols=len(names), fontsize="small")
    memory.plot([events / 1e6 for events, _ in growth], [size / 1e6 for _, size in growth])
    memory.set_ylim(bottom=0)
    memory.set_xlabel("million events so far")
    memory.set_ylabel("MB of all processes")
    for format_ in FORMATS:
        metadata = {"Date": None} if format_ == "svg" else None
        figure.savefig(target.with_suffix(f".{format_}"), metadata=metadata, dpi=150)


def _runs(file: Measured, name: str) -> Sequence[Run]:
    return [each.run for each in file.baseline] if name == "baseline" else file.runs.get(name, ())
