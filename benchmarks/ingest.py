"""Measures durable ingest over HTTP: from the producer's post to the line in the sink's file."""

from __future__ import annotations

import filecmp
import json
import subprocess
import sys
import time
from http.client import HTTPConnection
from pathlib import Path
from statistics import quantiles
from threading import Event, Thread
from typing import Final, NamedTuple

from benchmarks.contenders import HERE, PATIENCE, Case, WrongOutput
from benchmarks.daemon import running

LOOK: Final = 0.0003
"""Seconds between two looks at the sink's file; the latencies are known as exactly as that."""


class Latencies(NamedTuple):
    """Seconds from sending a post to its line in the sink's file."""

    p50: float
    p99: float


def ingest(case: Case, lines: int, clients: int, durability: str) -> float:
    """Post a file, ``lines`` events a post; return the events/s from the first post to the sink.

    The output must be the expected one; with several clients, whose posts come in any order, its
    lines in any order. Raises WrongOutput.
    """
    with running(case.folder, f'[state]\ndurability = "{durability}"') as daemon:
        began = _produce(daemon.port, case.source, lines, clients).began
        events = _settle(daemon.port)
        seconds = time.time() - began
    kept = case.folder / "var" / "kept.ndjson"
    if clients == 1:
        right = filecmp.cmp(kept, case.expected, shallow=False)
    else:
        right = _sorted_lines(kept) == _sorted_lines(case.expected)
    if not right:
        raise WrongOutput(f"{case.source.name}: what was ingested is not what is expected")
    return events / seconds


def latency(folder: Path, source: Path, rate: float) -> Latencies:
    """Post single events at a steady rate, each of which is kept; return how long each took."""
    arrived: list[float] = []
    with running(folder, "") as daemon:
        kept = folder / "var" / "kept.ndjson"
        done = Event()
        watch = Thread(target=_watch, args=(kept, arrived, done), daemon=True)
        watch.start()
        sent = _produce(daemon.port, source, 1, 4, rate).sent
        _settle(daemon.port)
        done.set()
        watch.join()
    if len(arrived) != len(sent):
        raise WrongOutput(f"{len(sent)} events were posted, {len(arrived)} arrived")
    took = sorted(there - when for there, when in zip(arrived, sorted(sent), strict=True))
    cuts = quantiles(took, n=100)
    return Latencies(cuts[49], cuts[98])


class Production(NamedTuple):
    """When the first post was sent, and with a rate each one; seconds since the epoch."""

    began: float
    sent: list[float]


def _produce(
    port: int, source: Path, lines: int, clients: int, rate: float | None = None
) -> Production:
    command = [sys.executable, str(HERE / "producer.py"), str(port), str(source)]
    command += ["--lines", str(lines), "--clients", str(clients)]
    if rate is not None:
        command += ["--pace", str(rate)]
    done = subprocess.run(command, capture_output=True, timeout=PATIENCE, check=True)
    said = json.loads(done.stdout)
    return Production(said["began"], said["sent"])


def _sorted_lines(path: Path) -> list[bytes]:
    return sorted(path.read_bytes().splitlines())


def _settle(port: int) -> int:
    """Wait until nothing is in flight; return how many events were accepted."""
    limit = time.monotonic() + PATIENCE
    connection = HTTPConnection("127.0.0.1", port, timeout=PATIENCE)
    while time.monotonic() < limit:
        connection.request("GET", "/api/v1/stats")
        stats = json.load(connection.getresponse())
        if not stats["in_flight"]:
            connection.close()
            return int(stats["accepted"])
        time.sleep(0.005)
    raise RuntimeError("the daemon did not emit everything in time")


def _watch(kept: Path, arrived: list[float], done: Event) -> None:
    """Take down when each line of the file came."""
    with kept.open("rb") as file:
        while True:
            ending = done.is_set()
            count = file.read().count(b"\n")
            arrived += [time.time()] * count
            if ending and not count:
                return
            time.sleep(LOOK)
