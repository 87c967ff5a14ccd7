"""Measures memory, and the time an event takes, over a stream without end in sight."""

from __future__ import annotations

import contextlib
import fcntl
import json
import subprocess
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Final, NamedTuple

import numpy as np
import psutil

from benchmarks.contenders import CONFIG, PATIENCE, PENSTOCK, WrongOutput, kill_group
from benchmarks.events import FIRST_POINT, lines_of
from benchmarks.reference import write_expected
from benchmarks.report import Section, table
from benchmarks.sizes import SHARE, say

EVENTS: Final = 100_000_000 // SHARE
TENTHS: Final = 10
STARTED: Final = 1_000_000 // SHARE
AT_ONCE: Final = 250_000
"""Events written to the pipe together; the memory is looked at after each such piece."""

POINTS: Final = 1_099
STEP: Final = 500
"""From one event's point to the next one's, around the circle of all points."""

PIPE_BYTES: Final = 2**20


class Sample(NamedTuple):
    """After so many events: seconds since the start, and the bytes of all processes together."""

    events: int
    seconds: float
    size: int


def measure(folder: Path) -> Section:
    """Measure a long stream."""
    say("memory: a long stream")
    samples = list(stream(folder, EVENTS, 2))
    before = next(each for each in samples if each.events >= STARTED)
    rows = []
    peaks = []
    times = []
    for tenth in (each for each in samples if each.events % (EVENTS // TENTHS) == 0):
        peaks.append(max(each.size for each in samples if each.events <= tenth.events))
        times.append(1e9 * (tenth.seconds - before.seconds) / (tenth.events - before.events))
        rows.append((f"{tenth.events:,}", f"{times[-1]:,.0f}", f"{peaks[-1] / 1e6:,.0f}"))
        before = tenth
    text = (
        f"{table(('events so far', 'ns an event since the row before', 'most MB so far'), rows)}\n"
        f"- The first row counts from event {STARTED:,} on, when all processes were there\n"
    )
    figures = {
        "time growth": max(times) / times[0],
        "memory growth": peaks[-1] / peaks[0],
        "memory": float(peaks[-1]),
    }
    growth = [(each.events, each.size) for each in samples]
    return Section("Memory", text, figures, growth)


def stream(folder: Path, events: int, workers: int) -> Iterator[Sample]:
    """Send events through ``penstock process`` by a pipe; yield a sample after each piece.

    Each event's point is ``STEP`` further than the one before, around the circle, so that every
    point comes once in ``POINTS`` events, which is about a second. So after the first round every
    event is suppressed, and what the reference keeps of the first piece is all there is to keep.
    Raises WrongOutput.
    """
    head, expected, output = folder / "head", folder / "expected", folder / "output"
    options = ["--config", str(CONFIG), "--workers", str(workers), "--output", str(output)]
    command = [PENSTOCK, "process", "--json", *options, "-"]
    with subprocess.Popen(
        command,
        cwd=folder,
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        start_new_session=True,
    ) as process:
        assert process.stdin is not None  # noqa: S101 - as asked for above
        with contextlib.suppress(AttributeError, OSError):
            fcntl.fcntl(process.stdin, fcntl.F_SETPIPE_SZ, PIPE_BYTES)
        try:
            tree = psutil.Process(process.pid)
            began = time.perf_counter()
            for start in range(0, events, AT_ONCE):
                piece = lines(start, min(AT_ONCE, events - start))
                if start == 0:
                    head.write_bytes(piece)
                process.stdin.write(piece)
                yield Sample(start + AT_ONCE, time.perf_counter() - began, _size(tree))
            text, _ = process.communicate(timeout=PATIENCE)
        finally:
            kill_group(process)
    write_expected(head, expected)
    accepted = json.loads(text)["accepted"] if process.returncode == 0 else 0
    if accepted != events or output.read_bytes() != expected.read_bytes():
        raise WrongOutput(f"a stream of {events:,} events: the output is not what is expected")


def lines(start: int, count: int) -> bytes:
    """Return events as NDJSON, 1,000 per second of event time, from the number ``start`` on."""
    number = np.arange(start, start + count)
    return lines_of(FIRST_POINT + number * STEP % POINTS, start, 1_000)


def _size(tree: psutil.Process) -> int:
    """Return the bytes of a process and all below it, pages that they share counted once."""
    size = 0
    for process in (tree, *tree.children(recursive=True)):
        with contextlib.suppress(psutil.Error):  # it has just ended
            memory = process.memory_full_info()
            size += getattr(memory, "pss", memory.rss)  # only Linux knows what is shared
    return size
