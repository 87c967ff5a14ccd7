"""Kills the processes of a running pipeline at random, each time the output has grown a bit."""

from __future__ import annotations

import random
import time
from collections import Counter
from pathlib import Path

import psutil

WORKER, STATE = "penstock-worker", "penstock-state"
PATIENCE = 60.0
"""Seconds the output may stand still before the pipeline is taken for hung."""


def children(process: psutil.Process | psutil.Popen, name: str = "") -> list[psutil.Process]:
    """Return the living children of a pipeline, of one kind or of both."""
    wanted = {name} if name else {WORKER, STATE}
    found = []
    for child in process.children(recursive=True):
        try:
            if child.name() in wanted and child.status() != psutil.STATUS_ZOMBIE:
                found.append(child)
        except psutil.NoSuchProcess:
            continue
    return found


class Chaos:
    """Kills one child after the other, at places of the output that the seed decides."""

    def __init__(self, process: psutil.Popen, output: Path, seed: int) -> None:
        self._process = process
        self._output = output
        self._random = random.Random(seed)
        self.kills: Counter[str] = Counter()

    def kill_along(self, size: int, kills: int) -> None:
        """Kill ``kills`` children while the output grows to ``size`` bytes."""
        places = sorted(self._random.randrange(size) for _ in range(kills))
        for place in places:
            if not self._wait_for(place):
                return
            victims = children(self._process)
            if victims:
                victim = self._random.choice(victims)
                try:
                    name = victim.name()
                    victim.kill()
                except psutil.NoSuchProcess:
                    continue
                self.kills[name] += 1

    def _wait_for(self, size: int) -> bool:
        """Wait until the output has ``size`` bytes; False when the pipeline has ended."""
        last, since = -1, time.monotonic()
        while (now := self._size()) < size:
            if self._process.poll() is not None:
                return False
            if now != last:
                last, since = now, time.monotonic()
            assert time.monotonic() - since < PATIENCE, f"the output stands still at {now} bytes"
            time.sleep(0.002)
        return self._process.poll() is None

    def _size(self) -> int:
        return self._output.stat().st_size if self._output.exists() else 0
