"""Measures memory: over a stream without end in sight, and for each point remembered."""

from __future__ import annotations

import contextlib
import fcntl
import json
import subprocess
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Final, NamedTuple

import numpy as np
import psutil
from numpy.typing import NDArray

from benchmarks.contenders import CONFIG, PATIENCE, PENSTOCK, WrongOutput, kill_group
from benchmarks.events import FIRST_POINT, FIRST_SECOND
from benchmarks.reference import write_expected
from benchmarks.report import Section, table
from benchmarks.sizes import SHARE, say
from middleware.adjacent import AdjacentSuppressor
from middleware.contract import Batch

EVENTS: Final = 100_000_000 // SHARE
TENTHS: Final = 10
STARTED: Final = 1_000_000 // SHARE
AT_ONCE: Final = 250_000
"""Events written to the pipe together; the memory is looked at after each such piece."""

POINTS: Final = 1_099
STEP: Final = 500
"""From one event's point to the next one's, around the circle of all points."""

MANY: Final = 10_000_000 // SHARE
FEW: Final = 1_000
BATCH: Final = 24_000
"""About as many events as a block has."""

PIPE_BYTES: Final = 2**20


class Sample(NamedTuple):
    """After so many events: seconds since the start, and the bytes of all processes together."""

    events: int
    seconds: float
    size: int


def measure(folder: Path) -> Section:
    """Measure a long stream, and a large memory."""
    say("memory: a long stream")
    samples = list(stream(folder, EVENTS, 2))
    say("memory: many points")
    many, few = remembered(MANY), remembered(FEW)
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
        f"- {MANY:,} remembered points: {many.bytes_a_point:.1f} bytes each; `adjacent` alone "
        f"decides {many.rate:,.0f} events/s among these, {few.rate:,.0f} among {FEW:,}\n"
    )
    figures = {
        "time growth": max(times) / times[0],
        "memory growth": peaks[-1] / peaks[0],
        "memory": float(peaks[-1]),
        "bytes a point": many.bytes_a_point,
        "many points to few": many.rate / few.rate,
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
    cid = FIRST_POINT + number * STEP % POINTS
    seconds, milliseconds = np.divmod(number, 1_000)
    pieces = (b'{"cid":', _digits(cid, 12), b',"time":', _digits(FIRST_SECOND + seconds, 10))
    columns = [
        np.broadcast_to(np.frombuffer(piece, np.uint8), (count, len(piece)))
        if isinstance(piece, bytes)
        else piece
        for piece in (*pieces, b".", _digits(milliseconds, 3), b"}\n")
    ]
    return np.concatenate(columns, axis=1).tobytes()


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


def _digits(numbers: NDArray[np.int64], count: int) -> NDArray[np.uint8]:
    """Return the last ``count`` decimal digits of n numbers as characters, uint8[n, count]."""
    characters = np.empty((len(numbers), count), np.uint8)
    for column in range(count - 1, -1, -1):
        numbers, digit = np.divmod(numbers, 10)
        characters[:, column] = digit + ord("0")
    return characters


def _size(tree: psutil.Process) -> int:
    """Return the bytes of a process and all below it, pages that they share counted once."""
    size = 0
    for process in (tree, *tree.children(recursive=True)):
        with contextlib.suppress(psutil.Error):  # it has just ended
            memory = process.memory_full_info()
            size += getattr(memory, "pss", memory.rss)  # only Linux knows what is shared
    return size
