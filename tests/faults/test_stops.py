"""A daemon that is told to stop always ends: at whatever moment, however often it is told."""

from __future__ import annotations

import os
import random
import shutil
import signal
import subprocess
import threading
import time
from collections import Counter
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Final

import pytest

from service.signals import HEARD, ONE_PRESS
from tests.daemon.running import (
    RunningDaemon,
    eventually,
    hears,
    left_behind,
    write_configuration,
)
from tests.faults.budget import faults

SEED: Final = 7
STOPS: Final = faults(30)
AT_A_TIME: Final = 2
LIMIT: Final = 60.0
"""Seconds after which a daemon counts as deaf; a busy machine may take some."""

PROMPT: Final = 5.0
"""Seconds within which a daemon should have ended: told by the figures, decided by nothing."""

ENDED: Final = {0, *(128 + number for number in HEARD)}
"""Exit codes: clean, and before anything was begun."""

WITHOUT_WAITING: Final = 1
"""The exit code where a part was stuck, and was not waited for."""

pytestmark = pytest.mark.timeout(600 + 5 * STOPS)

GATE: Final = """
import time
from pathlib import Path
from middleware.contract import Middleware

class Gate(Middleware):
    reads = ("cid",)

    def handle(self, event):
        Path("reached").touch()
        while True:
            time.sleep(1)
"""
LINES: Final = "".join(f'{{"cid":{10 * n},"time":{n}}}\n' for n in range(10_000))
SOURCE: Final = ({"name": "file", "use": "ndjson", "params": {"paths": ["in.ndjson"]}},)
SLOW: Final = {"count": 1, "deadline": 600}

Tell = Callable[[RunningDaemon, random.Random], None]


def once(daemon: RunningDaemon, choice: random.Random) -> None:
    """Tell it once."""
    del choice
    os.kill(daemon.process.pid, signal.SIGTERM)


def twice(daemon: RunningDaemon, choice: random.Random) -> None:
    """Tell it twice within microseconds, or milliseconds."""
    once(daemon, choice)
    time.sleep(choice.choice([0, 0, 0.0001, 0.001, 0.005]))
    once(daemon, choice)


def burst(daemon: RunningDaemon, choice: random.Random) -> None:
    """Tell it by every signal it knows, many times."""
    for _ in range(20):
        os.kill(daemon.process.pid, choice.choice(sorted(HEARD)))


def group(daemon: RunningDaemon, choice: random.Random) -> None:
    """Tell the group, and then the daemon again, as whoever started both passes it on."""
    os.killpg(daemon.process.pid, signal.SIGTERM)
    time.sleep(choice.choice([0, 0.001]))
    once(daemon, choice)


def two_senders(daemon: RunningDaemon, choice: random.Random) -> None:
    """Tell it from two sides at once."""
    sides = [threading.Thread(target=twice, args=(daemon, choice)) for _ in range(2)]
    for side in sides:
        side.start()
    for side in sides:
        side.join()


TELLS: Final[tuple[Tell, ...]] = (once, twice, burst, group, two_senders)


def importing(folder: Path, choice: random.Random) -> RunningDaemon:
    daemon = RunningDaemon(folder)
    # Before that, nobody is there to hear it: the interpreter itself starts, and a signal ends it.
    eventually(lambda: hears(daemon.process.pid), "it hears signals")
    time.sleep(choice.uniform(0, 0.3))
    return daemon


def starting(folder: Path, choice: random.Random) -> RunningDaemon:
    daemon = RunningDaemon(folder)
    eventually(lambda: "the state is kept" in daemon.log, "it has begun", LIMIT)
    time.sleep(choice.uniform(0, 0.2))
    return daemon


def recovering(folder: Path, choice: random.Random) -> RunningDaemon:
    shutil.copytree(folder.parent / "killed", folder, dirs_exist_ok=True)
    daemon = starting(folder, choice)
    time.sleep(choice.uniform(0, 0.5))
    return daemon


def at_ready(folder: Path, choice: random.Random) -> RunningDaemon:
    del choice
    daemon = RunningDaemon(folder)
    daemon.wait_until_ready()
    return daemon


def idle(folder: Path, choice: random.Random) -> RunningDaemon:
    daemon = at_ready(folder, choice)
    time.sleep(choice.uniform(0, 0.2))
    return daemon


def draining(folder: Path, choice: random.Random) -> RunningDaemon:
    gated(folder)
    daemon = at_ready(folder, choice)
    once(daemon, choice)
    eventually(lambda: "stopping (SIGTERM)" in daemon.log, "it drains", LIMIT)
    time.sleep(ONE_PRESS)  # what comes now is another press
    return daemon


def stuck_sink(folder: Path, choice: random.Random) -> RunningDaemon:
    (folder / "in.ndjson").write_text(LINES)
    sink = ({"name": "console", "use": "stdout"},)
    write_configuration(folder, source=SOURCE, sink=sink, workers={"count": 1})
    daemon = RunningDaemon(folder, stdout=subprocess.PIPE)  # nobody ever reads
    daemon.wait_until_ready()
    once(daemon, choice)
    eventually(lambda: "stopping (SIGTERM)" in daemon.log, "it drains", LIMIT)
    time.sleep(ONE_PRESS)
    return daemon


MOMENTS: Final = (importing, starting, recovering, at_ready, idle, draining, stuck_sink)


def gated(folder: Path) -> None:
    """Let nothing ever be emitted."""
    (folder / "gate.py").write_text(GATE)
    (folder / "in.ndjson").write_text(LINES)
    write_configuration(
        folder, source=SOURCE, middleware=[{"name": "gate", "use": "gate:Gate"}], workers=SLOW
    )


def killed_while_it_had_work(folder: Path) -> None:
    """Leave the state of a daemon that accepted a file and emitted nothing of it."""
    folder.mkdir()
    gated(folder)
    daemon = RunningDaemon(folder)
    try:
        daemon.wait_until_ready()
        eventually((folder / "reached").exists, "a worker is at it", LIMIT)
        daemon.process.kill()
        daemon.wait()
    finally:
        daemon.end()
    assert left_behind(folder) == []


@pytest.mark.skipif(not Path("/proc").is_dir(), reason="looks at processes in /proc")
def test_whenever_and_however_it_is_told_it_stops(
    tmp_path: Path, record_property: Callable[[str, object], None]
) -> None:
    killed_while_it_had_work(tmp_path / "killed")
    ended: Counter[str] = Counter()
    late: list[tuple[str, float]] = []

    def stop(number: int) -> None:
        choice = random.Random(SEED * 1_000_000 + number)
        moment = MOMENTS[number % len(MOMENTS)]
        tell = TELLS[number // len(MOMENTS) % len(TELLS)]
        kind = f"{moment.__name__}/{tell.__name__}"
        folder = tmp_path / str(number)
        folder.mkdir()
        write_configuration(folder, workers={"count": 1})
        daemon = moment(folder, choice)
        try:
            began = time.monotonic()
            tell(daemon, choice)
            code = daemon.wait(LIMIT)
            took = time.monotonic() - began
            stuck = {WITHOUT_WAITING} if moment in {draining, stuck_sink} else set()
            assert code in ENDED | stuck, (kind, code, daemon.log)
            assert "Traceback" not in daemon.log, (kind, daemon.log)
        finally:
            daemon.end()
        assert left_behind(folder) == [], kind
        shutil.rmtree(folder)
        ended[kind] += 1
        if took > PROMPT:
            late.append((kind, took))

    with ThreadPoolExecutor(AT_A_TIME) as pool:
        list(pool.map(stop, range(STOPS)))
    kinds = ", ".join(f"{kind} {count}" for kind, count in sorted(ended.items()))
    record_property("faults", f"{STOPS} stops ({kinds}), later than {PROMPT:g} s: {late}")
