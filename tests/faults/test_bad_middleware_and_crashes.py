"""A middleware raises, hangs, leaks, answers nonsense, ends its process; the daemon dies as well.

Every event that makes trouble is a dead letter, once, and every other one comes out as it should.
"""

from __future__ import annotations

import json
import random
from collections import Counter
from collections.abc import Callable
from pathlib import Path
from typing import Any, Final

import pytest

from tests.faults.mortal_daemon import DAEMON, MortalDaemon
from tests.faults.producers import Producers
from tests.sequential import sequential

pytestmark = pytest.mark.timeout(300)

TROUBLE: Final = '''
"""Passes every event on, but for those that tell it to make trouble."""

import os
import resource
import signal
import time

from middleware.contract import Middleware, SharedMiddleware

MORE = 256 << 20


def make(trouble):
    match trouble:
        case "raise":
            raise RuntimeError("no such point")
        case "hang":
            time.sleep(3600)
        case "end":
            os._exit(3)
        case "killed":
            os.kill(os.getpid(), signal.SIGKILL)
        case "leak":
            pages = int(open("/proc/self/statm").read().split()[0])
            size = pages * resource.getpagesize() + MORE
            resource.setrlimit(resource.RLIMIT_AS, (size, resource.RLIM_INFINITY))
            hoard = []
            while True:
                hoard.append(bytearray(MORE // 8))


class Local(Middleware):
    def handle(self, event):
        if event.get("where") == "worker":
            if event["trouble"] == "garbage":
                return "no event"
            make(event["trouble"])
        return event


class Shared(SharedMiddleware, Local):
    def handle(self, event):
        if event.get("where") == "state host":
            if event["trouble"] == "garbage":
                return "no event"
            make(event["trouble"])
        return event

    def snapshot(self):
        return None

    def restore(self, state):
        pass
'''
KINDS: Final = ["raise", "hang", "end", "killed", "leak", "garbage"]
BODIES: Final = 48
EVENTS: Final = 20


def bodies() -> list[bytes]:
    """Return bodies of events; every fourth body has one that makes trouble."""
    choice = random.Random(11)
    made = []
    for body in range(BODIES):
        rows: list[dict[str, Any]] = [
            {"cid": choice.randrange(300), "time": body * EVENTS + row, "n": body * EVENTS + row}
            for row in range(EVENTS)
        ]
        if body % 4 == 3:
            kind, where = divmod(body // 4, 2)
            culprit = choice.choice(rows)
            culprit["trouble"] = KINDS[kind]
            culprit["where"] = ["worker", "state host"][where]
        made.append(b"".join(json.dumps(row).encode() + b"\n" for row in rows))
    return made


def test_trouble_and_crashes_together_change_nothing_for_the_others(
    tmp_path: Path, record_property: Callable[[str, object], None]
) -> None:
    (tmp_path / "trouble.py").write_text(TROUBLE)
    choice = random.Random(12)
    daemon = MortalDaemon(
        tmp_path,
        middleware=[
            {"name": "local", "use": "trouble:Local"},
            {"name": "shared", "use": "trouble:Shared"},
            {"name": "adjacent", "use": "adjacent"},
        ],
        workers={"count": 2, "deadline": 1.0, "retries": 1},
        state={"checkpoint_bytes": "4KiB", "reserve": 1},
        block={"bytes": "4KiB"},
        event={"max_event_bytes": "4KiB"},
    )
    try:
        producers = Producers(daemon.port, bodies(), threads=2)
        try:
            for place in range(4, BODIES, 6):
                producers.wait_for(place)
                daemon.kill(DAEMON, choice)
            producers.wait_for(BODIES)
        finally:
            producers.stop()
        troubled: list[bytes] = []

        def expected(confirmed: bytes) -> bytes:
            lines = confirmed.splitlines(keepends=True)
            troubled.extend(line for line in lines if b"trouble" in line)
            return sequential(line for line in lines if b"trouble" not in line)

        stats = daemon.finish(producers, expected)
        letters = daemon.running.dead()
        assert [letter["event"].encode() + b"\n" for letter in letters] == troubled
        assert stats["dead"] == len(troubled) == 2 * len(KINDS)
        assert daemon.running.stop() == 0
    finally:
        daemon.end()
    kinds = Counter(json.loads(line)["trouble"] for line in troubled)
    record_property("faults", {"crashes": daemon.lives - 1, **kinds})
    assert set(kinds) == set(KINDS)
    assert daemon.lives == 9
