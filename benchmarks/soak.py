"""Measures whether a daemon's memory grows under a steady stream of posts and switches.

    python -m benchmarks.soak --minutes 60

Posts random points of 50,000 at a steady rate, a hundred events a post, each post under an
idempotency key of its own, and switches the suppressor now and then. Prints the resident memory of
each process as it goes, and at the end how much each rose in the second half.
"""

from __future__ import annotations

import argparse
import json
import tempfile
import time
from http import HTTPStatus
from http.client import HTTPConnection
from pathlib import Path
from typing import Final

import numpy as np
import psutil

from benchmarks.daemon import Running, running
from benchmarks.events import FIRST_POINT, lines_of

POINTS: Final = 50_000
EVENTS: Final = 100
"""In one post."""

PER_SECOND: Final = 10_000
"""Events in a second of event time."""

MIB: Final = 2**20


def main() -> None:
    """Print a line for each look, then the slopes of the second half."""
    options = argparse.ArgumentParser(description=__doc__)
    options.add_argument("--minutes", type=float, default=60.0)
    options.add_argument("--rate", type=int, default=20_000, help="events a second")
    options.add_argument("--switches", type=int, default=500, help="in all")
    options.add_argument("--look", type=float, default=60.0, help="seconds between two lines")
    given = options.parse_args()
    with (
        tempfile.TemporaryDirectory(prefix="penstock-benchmarks-") as name,
        running(Path(name)) as daemon,
    ):
        looks = soak(daemon, given.minutes * 60, given.rate, given.switches, given.look)
    half = [look for look in looks if look[0] >= given.minutes * 30]
    minutes = np.array([seconds for seconds, _ in half]) / 60
    for process in half[0][1]:
        slope = np.polyfit(minutes, [sizes[process] / MIB for _, sizes in half], 1)[0]
        print(f"{process}: {slope:+.3f} MiB a minute in the second half")


def soak(
    daemon: Running, seconds: float, rate: int, switches: int, look: float
) -> list[tuple[float, dict[str, int]]]:
    """Post and switch; return when it looked, in seconds, and the bytes of each process then."""
    connection = HTTPConnection("127.0.0.1", daemon.port, timeout=60)
    random = np.random.default_rng(1)
    looks: list[tuple[float, dict[str, int]]] = []
    began = time.monotonic()
    posted = switched = 0
    while (passed := time.monotonic() - began) < seconds:
        if passed >= look * len(looks):
            looks.append((passed, _resident(daemon.process.pid)))
            sizes = "  ".join(f"{name} {size / MIB:.1f}" for name, size in looks[-1][1].items())
            print(
                f"{passed / 60:6.1f} min  {posted * EVENTS:>12,} events  MiB: {sizes}", flush=True
            )
        if passed >= seconds / (switches + 1) * (switched + 1):
            mode = ("shadow", "enabled")[switched % 2]
            _ask(connection, "PATCH", "/middleware/adjacent", {"mode": mode, "reason": "soak"})
            switched += 1
        cid = FIRST_POINT + random.integers(0, POINTS, EVENTS)
        body = lines_of(cid, posted * EVENTS, PER_SECOND)
        connection.request("POST", "/api/v1/events", body, {"Idempotency-Key": f"post {posted}"})
        answer = connection.getresponse()
        answer.read()
        if answer.status != HTTPStatus.ACCEPTED:
            raise RuntimeError(f"a post was answered {answer.status}")
        posted += 1
        time.sleep(max(0.0, posted * EVENTS / rate - (time.monotonic() - began)))
    return looks


def _ask(connection: HTTPConnection, method: str, path: str, body: object) -> None:
    headers = {"Content-Type": "application/json"}
    connection.request(method, f"/api/v1{path}", json.dumps(body), headers)
    connection.getresponse().read()


def _resident(pid: int) -> dict[str, int]:
    daemon = psutil.Process(pid)
    sizes = {"daemon": daemon.memory_info().rss}
    for number, child in enumerate(daemon.children(recursive=True)):
        sizes[f"{child.name()}-{number}"] = child.memory_info().rss
    return sizes


if __name__ == "__main__":
    main()
