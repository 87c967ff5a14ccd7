"""Measures what a hostile client can do: the longest wait for /livez, and the daemon's memory.

``python benchmarks/attacks.py [ATTACK ...]``, each for ten seconds against a daemon of its own.
"""

from __future__ import annotations

import argparse
import subprocess
import sys
import tempfile
import time
from http.client import HTTPConnection
from pathlib import Path
from threading import Thread
from typing import Final, NamedTuple

sys.path.insert(0, str(Path(__file__).parent.parent))

from benchmarks.daemon import Running, running
from tests.adversaries.hostile_client import ATTACKS

CLIENT: Final = Path(__file__).parent.parent / "tests" / "adversaries" / "hostile_client.py"

SECONDS: Final = 10.0
"""How long each attack goes on."""

PAUSE: Final = 0.05
"""Seconds between an answer and the next request."""

MEBIBYTE: Final = 2**20


class Damage(NamedTuple):
    """Seconds that /livez took at most; the daemon's memory before, and at most, in bytes."""

    longest: float
    before: int
    largest: int
    asked: int


def main() -> None:
    """Attack, and print a table."""
    options = argparse.ArgumentParser(description=__doc__)
    options.add_argument("attack", nargs="*", choices=[*ATTACKS, []], default=[])
    options.add_argument("--seconds", type=float, default=SECONDS)
    given = options.parse_args()
    print("| attack | worst /livez | memory before | at most | asked |\n|---|---|---|---|---|")
    for attack in given.attack or ATTACKS:
        with tempfile.TemporaryDirectory() as folder, running(Path(folder)) as daemon:
            found = damage(daemon, attack, given.seconds)
        sizes = [f"{size / MEBIBYTE:.0f} MiB" for size in (found.before, found.largest)]
        print(f"| {attack} | {found.longest:.3f} s | {' | '.join(sizes)} | {found.asked} |")


def damage(daemon: Running, attack: str, seconds: float) -> Damage:
    """Attack a daemon, and return what that did."""
    status = Path(f"/proc/{daemon.process.pid}/status")
    before = _kilobytes(status, "VmRSS:")
    command = [sys.executable, str(CLIENT), attack, "127.0.0.1", str(daemon.port), str(seconds)]
    longest = 0.0
    asked = 0
    client = subprocess.Popen(command)
    ends = Thread(target=client.wait)
    ends.start()
    while ends.is_alive():
        began = time.perf_counter()
        _look(daemon.port)
        longest = max(longest, time.perf_counter() - began)
        asked += 1
        ends.join(PAUSE)
    largest = _kilobytes(status, "VmHWM:")
    return Damage(longest, before * 1_024, largest * 1_024, asked)


def _look(port: int) -> None:
    connection = HTTPConnection("127.0.0.1", port, timeout=600)
    try:
        connection.request("GET", "/livez")
        connection.getresponse().read()
    finally:
        connection.close()


def _kilobytes(status: Path, name: str) -> int:
    """Return a process's memory, by its name in what the system tells of it."""
    line = next(line for line in status.read_text().splitlines() if line.startswith(name))
    return int(line.split()[1])


if __name__ == "__main__":
    main()
