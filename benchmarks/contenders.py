"""Runs one contender over one file, as a process of its own, and checks what it wrote."""

from __future__ import annotations

import filecmp
import json
import os
import signal
import subprocess
import sys
import time
from bisect import bisect_left
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final

from benchmarks.reference import write_expected

HERE: Final = Path(__file__).parent
PENSTOCK: Final = str(Path(sys.executable).with_name("penstock"))
CONFIG: Final = HERE / "penstock.toml"

PATIENCE: Final = 600.0
"""Seconds until a contender that does not end is killed, with all its children."""


class WrongOutput(Exception):
    """A contender's output is not byte for byte what is expected."""


@dataclass(frozen=True, slots=True)
class Case:
    """An input file in ``folder`` (which contenders write to) and its exact expected output."""

    folder: Path
    source: Path
    expected: Path


@dataclass(frozen=True, slots=True)
class Run:
    """Seconds from the start of the process to its end; events/s by its own clock, if it says."""

    seconds: float
    own_rate: float | None = None


@dataclass(frozen=True, slots=True)
class Baseline:
    """A run over the first ``events``; how many decisions were wrong, and how many lines moved."""

    run: Run
    events: int
    wrong: int
    moved: int


def run_baseline(case: Case, events: int) -> Baseline:
    """Run the baseline over the first events, and compare what it wrote with what is expected."""
    output, expected = case.folder / "output", case.folder / "expected"
    script = [sys.executable, str(HERE / "baseline.py")]
    seconds, text = timed([*script, str(case.source), str(output), str(events)], case.folder)
    said = json.loads(text)
    write_expected(case.source, expected, events)
    wrong, moved = differences(output.read_bytes().splitlines(), expected.read_bytes().splitlines())
    return Baseline(Run(seconds, said["events"] / said["seconds"]), events, wrong, moved)


def run_plain_script(case: Case) -> Run:
    """Run the plain script; raises WrongOutput."""
    output = case.folder / "output"
    script = [sys.executable, str(HERE / "plain_script.py")]
    seconds, _ = timed([*script, str(case.source), str(output)], case.folder)
    _check(case, output, "the plain script")
    return Run(seconds)


def run_penstock(case: Case, workers: int) -> Run:
    """Run ``penstock process``; raises WrongOutput."""
    output = case.folder / "output"
    options = ["--config", str(CONFIG), "--workers", str(workers), "--output", str(output)]
    command = [PENSTOCK, "process", "--json", *options, str(case.source)]
    seconds, text = timed(command, case.folder)
    _check(case, output, f"penstock with {workers} workers")
    summary: dict[str, Any] = json.loads(text)
    return Run(seconds, summary["events_per_second"])


def timed(command: Sequence[str], folder: Path) -> tuple[float, str]:
    """Return the seconds from start to end, and what was printed; raises CalledProcessError."""
    began = time.perf_counter()
    with subprocess.Popen(
        command, cwd=folder, stdout=subprocess.PIPE, text=True, start_new_session=True
    ) as process:
        try:
            text, _ = process.communicate(timeout=PATIENCE)
        except BaseException:
            kill_group(process)
            raise
    seconds = time.perf_counter() - began
    if process.returncode:
        raise subprocess.CalledProcessError(process.returncode, command)
    return seconds, text


def kill_group(process: subprocess.Popen[Any]) -> None:
    """Kill a process started in a session of its own, and its children."""
    if process.poll() is None:
        os.killpg(process.pid, signal.SIGKILL)


def differences(lines: Sequence[bytes], expected: Sequence[bytes]) -> tuple[int, int]:
    """Return how many lines are missing or too many, and how many others would have to move.

    All lines are different from each other. Those that need not move are the longest sequence
    that is in the expected order as it is.
    """
    place = {line: number for number, line in enumerate(expected)}
    ends: list[int] = []  # by length: the smallest last place of an ascending sequence
    common = [place[line] for line in lines if line in place]
    for number in common:
        at = bisect_left(ends, number)
        ends[at : at + 1] = [number]
    return len(lines) + len(expected) - 2 * len(common), len(common) - len(ends)


def _check(case: Case, output: Path, who: str) -> None:
    if not filecmp.cmp(output, case.expected, shallow=False):
        raise WrongOutput(f"{case.source.name}: the output of {who} is not what is expected")
