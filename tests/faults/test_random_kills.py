"""Any process is killed or stopped at any time while producers post: each event counts once.

A producer forgets a post only when it is confirmed. In the order of the offsets that the receipts
name, the output is what one loop over the confirmed posts gives.
"""

from __future__ import annotations

import json
import random
import signal
import time
from collections import Counter
from collections.abc import Callable
from contextlib import suppress
from functools import partial
from pathlib import Path
from typing import Any, Final

import psutil
import pytest

from tests.conftest import Command, StartDaemon
from tests.daemon.running import RunningDaemon, eventually, totals_agree
from tests.faults.budget import faults
from tests.faults.chaos import STATE, WORKER
from tests.faults.posting import LOST, Producers, free_port, posting, some_events
from tests.sequential import sequential

pytestmark = pytest.mark.timeout(3_600)

DAEMON: Final = "penstock"
EVENTS: Final = 30
"""Events in a post."""

STILL: Final = faults(1_000) / 1_000
"""Seconds that a stopped daemon stands still."""

ELEVENTH: Final = '''
"""Drops the events of every eleventh point."""

from middleware.contract import Middleware

class Eleventh(Middleware):
    reads = ("cid",)

    def handle(self, event):
        return event if event["cid"] % 11 else None
'''
CHAIN: Final = [
    {"name": "eleventh", "use": "eleventh:Eleventh"},
    {"name": "adjacent", "use": "adjacent"},
]


def body(number: int) -> bytes:
    """Return a post; one in fifty has a line that is no event."""
    return some_events(number, EVENTS) + (b"" if number % 50 else b"no event\n")


def expected(lines: list[bytes]) -> bytes:
    return sequential([line for line in lines if json.loads(line)["cid"] % 11])


def children(daemon: RunningDaemon, name: str) -> list[psutil.Process]:
    """Return the living children of one kind."""
    found = []
    for child in psutil.Process(daemon.process.pid).children(recursive=True):
        try:
            if child.name() == name and child.status() != psutil.STATUS_ZOMBIE:
                found.append(child)
        except psutil.NoSuchProcess:
            continue
    return found


def any_child(daemon: RunningDaemon, name: str, choice: random.Random) -> psutil.Process:
    """Return a child; waits while one that died is being replaced."""
    eventually(lambda: children(daemon, name), f"there is a {name}")
    found = children(daemon, name)
    return choice.choice(found) if found else any_child(daemon, name, choice)


def killed(daemon: RunningDaemon) -> None:
    daemon.signal(signal.SIGKILL)
    assert daemon.wait() == -signal.SIGKILL


def check(daemon: RunningDaemon, producers: Producers, penstock: Command) -> None:
    """Check that all confirmed posts, and nothing else, went the one way."""
    stats = daemon.settle(60)
    lines, bad = producers.lines, producers.bad
    kept = daemon.kept()
    assert kept == expected(lines)
    assert [letter["offset"] for letter in daemon.dead()] == bad
    assert totals_agree(stats)
    assert (stats["accepted"], stats["dead"]) == (len(lines) + len(bad), len(bad))
    assert stats["emitted"] == kept.count(b"\n")
    assert stats["dropped"]["eleventh"] == sum(not json.loads(line)["cid"] % 11 for line in lines)
    for _ in ("beside the daemon", "after it"):
        verified = penstock("journal", "verify", "--config", "penstock.toml")
        assert verified.returncode == 0, verified.stdout
        if daemon.process.poll() is None:
            assert daemon.stop() == 0


@pytest.fixture
def start(start_daemon: StartDaemon, tmp_path: Path) -> Callable[..., RunningDaemon]:
    """Start one daemon after the other, each on the same port."""
    (tmp_path / "eleventh.py").write_text(ELEVENTH)
    tables: dict[str, Any] = {
        "http": {"listen": f"127.0.0.1:{free_port()}"},
        "middleware": CHAIN,
        "state": {"checkpoint_bytes": "16KiB", "reserve": 1},
    }
    return partial(start_daemon, **tables)


def test_kills_at_any_time_lose_nothing_and_double_nothing(
    start: Callable[..., RunningDaemon],
    penstock: Command,
    record_property: Callable[[str, object], None],
) -> None:
    wanted = faults(100)
    choice = random.Random(1)
    kills: Counter[str] = Counter()
    daemon = start()
    with posting(daemon.address[1], body) as producers:
        confirmed = 10
        while kills.total() < wanted:
            producers.wait_for(confirmed)
            confirmed = producers.confirmed + choice.randrange(8)
            name = choice.choice([DAEMON, WORKER, STATE])
            if name == DAEMON:
                killed(daemon)
                kills[DAEMON] += 1
                daemon = start(ready=False)
                if not choice.randrange(4):
                    any_child(daemon, choice.choice([WORKER, STATE]), choice)
                    killed(daemon)
                    kills["penstock, starting"] += 1
                    daemon = start(ready=False)
                daemon.wait_until_ready()
            else:
                victim = any_child(daemon, name, choice)
                victim.kill()
                kills[name] += 1
        producers.finish()
        check(daemon, producers, penstock)
    record_property("faults", dict(kills))
    record_property("answers", dict(producers.answers))
    assert producers.answers[LOST], "no kill met a post"
    assert all(kills[name] >= wanted // 8 for name in (DAEMON, WORKER, STATE))


def test_processes_that_stand_still_for_a_while_change_no_byte(
    start: Callable[..., RunningDaemon],
    penstock: Command,
    record_property: Callable[[str, object], None],
) -> None:
    choice = random.Random(2)
    stops: Counter[str] = Counter()
    daemon = start(workers={"count": 2, "deadline": 1.0})
    with posting(daemon.address[1], body) as producers:
        producers.wait_for(20)
        for name in [WORKER, STATE, DAEMON] * faults(3):
            if name == DAEMON:
                stand_still(daemon)
            else:
                stop_until_replaced(a_ready_one(daemon, name, choice))
            stops[name] += 1
            producers.wait_for(producers.confirmed + 1 + choice.randrange(20))
        producers.finish()
        check(daemon, producers, penstock)
    record_property("faults", dict(stops))
    assert stops.total() == 3 * faults(3)


def stand_still(daemon: RunningDaemon) -> None:
    daemon.signal(signal.SIGSTOP)
    try:
        process = psutil.Process(daemon.process.pid)
        eventually(lambda: process.status() == psutil.STATUS_STOPPED, "the daemon stands still")
        time.sleep(STILL)  # the fault itself, not a wait for anything
    finally:
        daemon.signal(signal.SIGCONT)


def a_ready_one(daemon: RunningDaemon, name: str, choice: random.Random) -> psutil.Process:
    eventually(lambda: daemon.ask("GET", "/readyz").status == 200, "all are up")
    stats = daemon.stats()
    up = [stats["state_host"]] if name == STATE else stats["workers"]
    return psutil.Process(choice.choice(up)["pid"])


def stop_until_replaced(child: psutil.Process) -> None:
    """Stop a child for good: the daemon has to kill it, for it never answers again."""
    child.suspend()
    try:
        child.wait(30)
    finally:
        with suppress(psutil.NoSuchProcess):
            child.kill()
