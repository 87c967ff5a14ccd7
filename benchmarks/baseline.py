"""The job as it is usually put together by hand: a queue, a pool and a shared object.

One event at a time goes from a ``Manager().Queue`` to a ``ProcessPoolExecutor``, whose workers ask
one shared object about it; what is kept is written when its answer arrives. Nothing holds the
events in order, neither where they are decided nor where they are written: the output is wrong.

Usage: baseline.py INPUT OUTPUT EVENTS; prints {"events": ..., "seconds": ...} as JSON, from the
first event put into the queue to the last line written.
"""

from __future__ import annotations

import json
import multiprocessing
import os
import sys
import time
from concurrent.futures import Future, ProcessPoolExecutor
from itertools import islice
from multiprocessing.managers import BaseManager
from pathlib import Path
from threading import Thread
from typing import Any, Final

WINDOW: Final = 300.0
"""Seconds."""


class Suppressor:
    """Remembers the time of every event, and keeps those with nothing nearby before them."""

    def __init__(self) -> None:
        self._times: dict[int, float] = {}

    def keep(self, cid: int, time: float) -> bool:
        """Decide about one event and remember it."""
        near = [self._times[point] for point in (cid - 1, cid, cid + 1) if point in self._times]
        self._times[cid] = max(time, self._times.get(cid, time))
        return not near or abs(time - max(near)) >= WINDOW


class SharedObjects(BaseManager):
    """The process that holds the suppressor."""


SharedObjects.register("Suppressor", Suppressor)

_shared: dict[str, Any] = {}


def _take_suppressor(suppressor: Any) -> None:
    _shared["suppressor"] = suppressor


def handle(line: bytes) -> bytes | None:
    """Return the line if it is kept; in a worker."""
    event = json.loads(line)
    return line if _shared["suppressor"].keep(event["cid"], event["time"]) else None


def main(source: Path, target: Path, events: int) -> float:
    """Filter the first ``events`` lines; return the seconds it took once the pool was up."""
    context = multiprocessing.get_context("spawn")
    with source.open("rb") as file:
        lines = list(islice(file, events))
    with (
        context.Manager() as manager,
        SharedObjects(ctx=context) as shared,
        target.open("wb") as kept,
    ):
        queue = manager.Queue()
        suppressor: Any = shared.Suppressor()  # type: ignore[attr-defined]  # registered by name
        pool = ProcessPoolExecutor(
            mp_context=context, initializer=_take_suppressor, initargs=(suppressor,)
        )

        def write(done: Future[bytes | None]) -> None:
            line = done.result()
            if line is not None:
                kept.write(line)

        def feed() -> None:
            for line in lines:
                queue.put(line)
            queue.put(None)

        with pool:
            pool.submit(os.getpid).result()  # the start of the processes is not counted against it
            began = time.perf_counter()
            Thread(target=feed, daemon=True).start()
            while (line := queue.get()) is not None:
                pool.submit(handle, line).add_done_callback(write)
        return time.perf_counter() - began


if __name__ == "__main__":
    count = int(sys.argv[3])
    seconds = main(Path(sys.argv[1]), Path(sys.argv[2]), count)
    print(json.dumps({"events": count, "seconds": seconds}))
