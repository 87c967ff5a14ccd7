"""A middleware that raises, hangs or ends its process takes down its one event and nothing else."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from tests.conftest import StartDaemon
from tests.daemon.running import RunningDaemon, totals_agree

pytestmark = pytest.mark.timeout(120)

TROUBLE = '''
"""Passes every event on, but for one point, at which it makes trouble."""

import os
import time

import numpy as np
from pydantic import BaseModel

from middleware.contract import Middleware, SharedMiddleware


class Local(Middleware):
    reads = ("cid",)

    class Params(BaseModel):
        cid: int
        trouble: str

    def handle(self, event):
        if event["cid"] == self.params.cid:
            self.make_trouble()
        return event

    def make_trouble(self):
        match self.params.trouble:
            case "raise":
                raise RuntimeError("no such point")
            case "hang":
                time.sleep(3600)
            case "end":
                os._exit(3)
            case "exit":
                raise SystemExit(4)


class LocalBatch(Local):
    def handle_batch(self, batch):
        if (batch.cid == self.params.cid).any():
            self.make_trouble()
        return np.ones(len(batch), bool)


class Shared(SharedMiddleware, Local):
    """Drops a point's second event."""

    def __init__(self, params):
        super().__init__(params)
        self.seen = set()

    def handle(self, event):
        super().handle(event)
        if event["cid"] in self.seen:
            return None
        self.seen.add(event["cid"])
        return event

    def snapshot(self):
        return sorted(self.seen)

    def restore(self, state):
        self.seen = set(state)


class SharedBatch(Shared):
    def handle_batch(self, batch):
        keep = [self.handle(event) is not None for event in batch]
        return np.array(keep, bool)
'''

REASONS = {
    "raise": "handle raised RuntimeError: no such point",
    "hang": "deadline of 0.5 s",
    "end": "exit code 3",
    "exit": "handle raised SystemExit: 4",
}


def _start(
    start_daemon: StartDaemon, tmp_path: Path, *steps: tuple[str, str, int]
) -> RunningDaemon:
    """Start a daemon with a chain of (class, trouble, point at which it makes it)."""
    (tmp_path / "trouble.py").write_text(TROUBLE)
    chain = [
        {"name": name.lower(), "use": f"trouble:{name}", "params": {"trouble": trouble, "cid": cid}}
        for name, trouble, cid in steps
    ]
    return start_daemon(middleware=chain, workers={"count": 2, "deadline": 0.5, "retries": 1})


def _lines(count: int) -> list[str]:
    return [f'{{"cid":{cid},"time":{cid}}}\n' for cid in range(count)]


@pytest.mark.parametrize("trouble", ["raise", "hang", "end", "exit"])
@pytest.mark.parametrize("form", ["", "Batch"], ids=["event form", "batch form"])
def test_only_the_guilty_event_is_dead_lettered_with_its_reason(
    start_daemon: StartDaemon, tmp_path: Path, trouble: str, form: str
) -> None:
    daemon = _start(
        start_daemon, tmp_path, (f"Local{form}", trouble, 30), (f"Shared{form}", trouble, 60)
    )
    lines = _lines(100)
    first = daemon.accept("".join(lines))["first"]
    # Remembered by the shared step before, and after, the trouble: all but 60 are there twice.
    daemon.accept("".join(lines[:30] + lines[31:60] + lines[61:]))
    stats = daemon.settle(60)

    assert daemon.kept().decode() == "".join(lines[:30] + lines[31:60] + lines[61:])
    block, row = map(int, first.split("."))
    letters = daemon.dead()
    assert [letter["offset"] for letter in letters] == [
        f"{block}.{row + 30}",
        f"{block}.{row + 60}",
    ]
    names = [f"local{form}".lower(), f"shared{form}".lower()]
    assert [letter["middleware"] for letter in letters] == names
    assert [letter["event"] + "\n" for letter in letters] == [lines[30], lines[60]]
    assert [letter["attempts"] for letter in letters] == [2, 2]
    raised = trouble in {"raise", "exit"}
    for letter in letters:
        assert ("traceback" in letter) == raised
    assert REASONS[trouble] in letters[0]["reason"]
    if raised:
        assert letters[0]["reason"] == letters[1]["reason"]
        assert "make_trouble" in letters[0]["traceback"]
    else:
        assert "state host" in letters[1]["reason"]
    assert (stats["accepted"], stats["emitted"], stats["dead"]) == (198, 98, 2)
    assert stats["dropped"] == {names[0]: 0, names[1]: 98}
    assert totals_agree(stats)


def test_an_answer_that_is_no_event_is_a_dead_letter(
    start_daemon: StartDaemon, tmp_path: Path
) -> None:
    (tmp_path / "odd.py").write_text(
        "from middleware.contract import Middleware\n"
        "class Odd(Middleware):\n"
        "    def handle(self, event):\n"
        "        return 5 if event['cid'] == 1 else event\n"
    )
    daemon = start_daemon(middleware=[{"name": "odd", "use": "odd:Odd"}])
    daemon.accept("".join(_lines(3)))
    daemon.settle()
    (letter,) = daemon.dead()
    assert letter["event"] == '{"cid":1,"time":1}'
    assert letter["reason"] == "handle returned int, not an event or None"


def test_an_event_that_brings_back_its_trouble_again_and_again_holds_nothing_back_for_ever(
    start_daemon: StartDaemon, tmp_path: Path
) -> None:
    daemon = _start(start_daemon, tmp_path, ("Local", "end", 7), ("Shared", "end", 8))
    body = "".join(_lines(9))
    daemon.accept(body)
    daemon.accept(body)
    stats = daemon.settle(60)
    assert stats["dead"] == 4
    assert stats["emitted"] == 7
    assert totals_agree(stats)


PRINTS = """
from middleware.contract import Middleware

class Prints(Middleware):
    reads = ("cid",)

    def handle(self, event):
        print("hello from", event["cid"], flush=True)
        return event
"""


def test_what_a_middleware_prints_does_not_get_between_the_data(
    start_daemon: StartDaemon, tmp_path: Path
) -> None:
    (tmp_path / "prints.py").write_text(PRINTS)
    out = tmp_path / "stdout"
    with out.open("wb") as stdout:
        daemon = start_daemon(
            middleware=[{"name": "prints", "use": "prints:Prints"}],
            sink=[{"name": "console", "use": "stdout"}],
            stdout=stdout,
        )
        daemon.accept("".join(_lines(20)))
        daemon.settle()
    assert out.read_text() == "".join(_lines(20))
    assert "hello from 19" in daemon.log


BROKEN_MEMORY = """
from middleware.contract import SharedMiddleware

class Broken(SharedMiddleware):
    reads = ("cid",)
    seen = {seen}

    def handle(self, event):
        self.seen = True
        return event

    def snapshot(self):
        if self.seen:
            {snapshot}

    def restore(self, state):
        pass
"""


@pytest.mark.parametrize("snapshot", ['raise RuntimeError("no memory")', "return object()"])
def test_a_memory_that_cannot_be_kept_does_not_hold_the_stream_back_in_silence(
    start_daemon: StartDaemon, tmp_path: Path, snapshot: str
) -> None:
    """The daemon ends and says which middleware it was, and how to go on."""
    (tmp_path / "broken.py").write_text(BROKEN_MEMORY.format(snapshot=snapshot, seen=False))
    daemon = start_daemon(
        middleware=[{"name": "remembers", "use": "broken:Broken"}],
        queue={"bytes": 2000},
        state={"checkpoint_bytes": 1000},
    )
    body = "".join(_lines(100))
    _accepts_all(daemon, [body] * 10)
    assert daemon.wait(20) == 1
    assert "run --without remembers" in daemon.log.splitlines()[-1]


def test_a_memory_that_cannot_be_kept_even_empty_is_named_at_the_start(
    start_daemon: StartDaemon, tmp_path: Path
) -> None:
    broken = BROKEN_MEMORY.format(snapshot='raise RuntimeError("no memory")', seen=True)
    (tmp_path / "broken.py").write_text(broken)
    remembers = {"name": "remembers", "use": "broken:Broken"}
    daemon = start_daemon(ready=False, middleware=[remembers])
    assert daemon.wait() == 1
    last: Any = daemon.log.splitlines()[-1]
    assert "remembers: its memory cannot be kept" in last
    assert "penstock run --without remembers" in last


def _accepts_all(daemon: RunningDaemon, bodies: list[str]) -> bool:
    try:
        return all(daemon.post(body, limit=10).status == 202 for body in bodies)
    except OSError:
        return False


def test_a_middleware_that_cannot_open_is_named_at_the_start(
    start_daemon: StartDaemon, tmp_path: Path
) -> None:
    (tmp_path / "closed.py").write_text(
        "from middleware.contract import Middleware\n"
        "class Closed(Middleware):\n"
        "    def open(self):\n"
        "        raise OSError('no such table')\n"
        "    def handle(self, event):\n"
        "        return event\n"
    )
    daemon = start_daemon(ready=False, middleware=[{"name": "lookup", "use": "closed:Closed"}])
    assert daemon.wait() == 1
    last: Any = daemon.log.splitlines()[-1]
    assert "no such table" in last
    assert "lookup" in last
