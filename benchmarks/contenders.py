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
from importlib.util import find_spec
from itertools import islice
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
    """An input file of ``events`` lines, and its exact expected output.

    Contenders write to ``folder``.
    """

    folder: Path
    source: Path
    expected: Path
    events: int


@dataclass(frozen=True, slots=True)
class Run:
    """Seconds from the start of the process to its end; events/s by its own clock, if it says."""

    events: int
    seconds: float
    own_rate: float | None = None


@dataclass(frozen=True, slots=True)
class Baseline:
    """A run over the first events; how many decisions were wrong, and how many lines moved."""

    run: Run
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
    return Baseline(Run(events, seconds, said["events"] / said["seconds"]), wrong, moved)


def run_plain_script(case: Case) -> Run:
    """Run the plain script; raises WrongOutput."""
    return _run_script(case, "plain_script.py", "the plain script")


def run_duckdb(case: Case) -> Run:
    """Run the SQL query; raises WrongOutput."""
    return _run_script(case, "duckdb_query.py", "DuckDB")


def run_bytewax(case: Case, events: int) -> Run:
    """Run the dataflow over the first events, which get a file of their own; raises WrongOutput."""
    head = Case(case.folder, case.folder / "head", case.folder / "expected", events)
    with case.source.open("rb") as lines, head.source.open("wb") as file:
        file.writelines(islice(lines, events))
    write_expected(head.source, head.expected)
    return _run_script(head, "bytewax_dataflow.py", "Bytewax")


def installed(package: str) -> bool:
    """Say whether a contender is here; the extra ``bench`` brings those of others."""
    return find_spec(package) is not None


def run_penstock(case: Case, workers: int, config: Path = CONFIG) -> Run:
    """Run ``penstock process``; raises WrongOutput."""
    output = case.folder / "output"
    options = ["--config", str(config), "--workers", str(workers), "--output", str(output)]
    command = [PENSTOCK, "process", "--json", *options, str(case.source)]
    seconds, text = timed(command, case.folder)
    _check(case, output, f"penstock with {workers} workers and {config.name}")
    summary: dict[str, Any] = json.loads(text)
    if summary["accepted"] != case.events:
        raise WrongOutput(f"{case.source.name}: {summary['accepted']} of {case.events} accepted")
    return Run(case.events, seconds, summary["events_per_second"])


def configured(folder: Path, name: str, text: str) -> Path:
    """Write a configuration that differs from the one measured; returns its path."""
    path = folder / f"{name}.toml"
    path.write_text(text)
    return path


def _run_script(case: Case, script: str, who: str) -> Run:
    output = case.folder / "output"
    output.unlink(missing_ok=True)
    command = [sys.executable, str(HERE / script), str(case.source), str(output)]
    seconds, _ = timed(command, case.folder)
    _check(case, output, who)
    return Run(case.events, seconds)


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
