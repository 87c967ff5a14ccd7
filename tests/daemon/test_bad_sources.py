"""A bad source stops nothing else: it is named, and the daemon starts, answers and ends."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from tests.conftest import StartDaemon
from tests.daemon.running import eventually

pytestmark = pytest.mark.timeout(60)

BAD_SOURCE = """
import os
import sys
import time
from pathlib import Path
from service.sources.source import Source

class BadSource(Source):
    def bad(self, method):
        how = Path("bad").read_text().split()
        if how[0] == method:
            if how[1] == "exits":
                sys.exit(4)
            if how[1] == "ends":
                os._exit(4)
            Path("hangs").touch()
            while Path("bad").exists():
                time.sleep(0.01)

    def start(self):
        self.bad("start")

    def stop(self):
        self.bad("stop")
"""

EVENT = '{"cid":1,"time":1}\n'
SOURCES: list[dict[str, Any]] = [
    {"name": "ill", "use": "bad_source:BadSource"},
    {"name": "push", "use": "http"},
]


@pytest.fixture(autouse=True)
def _bad_source(tmp_path: Path) -> None:
    (tmp_path / "bad_source.py").write_text(BAD_SOURCE)


def test_a_start_that_hangs_is_named_and_everything_else_goes_on(
    start_daemon: StartDaemon, tmp_path: Path
) -> None:
    (tmp_path / "bad").write_text("start hangs")
    daemon = start_daemon(source=SOURCES)
    told = daemon.stats()["sources"]["ill"]
    assert "start() has not returned" in told
    assert "penstock run --without ill" in told
    assert 'source \\"ill\\": start() has not returned' in daemon.log
    daemon.accept(EVENT)
    assert daemon.settle()["emitted"] == 1
    (tmp_path / "bad").rename(tmp_path / "mended")
    eventually(lambda: daemon.stats()["sources"] == {}, "it has returned")
    (tmp_path / "mended").rename(tmp_path / "bad")
    assert daemon.stop() == 0


def test_a_signal_is_heard_while_a_start_hangs(start_daemon: StartDaemon, tmp_path: Path) -> None:
    (tmp_path / "bad").write_text("start hangs")
    daemon = start_daemon(ready=False, source=SOURCES)
    eventually((tmp_path / "hangs").exists, "it hangs")
    assert daemon.stop() == 0


@pytest.mark.parametrize("method", ["start", "stop"])
def test_a_method_that_exits_is_named_and_ends_nothing(
    start_daemon: StartDaemon, tmp_path: Path, method: str
) -> None:
    (tmp_path / "bad").write_text(f"{method} exits")
    daemon = start_daemon(source=SOURCES)
    daemon.accept(EVENT)
    assert daemon.settle()["emitted"] == 1
    assert ("ill" in daemon.stats()["sources"]) == (method == "start")
    assert daemon.stop() == 0
    assert f"{method}() raised SystemExit: 4 (at " in daemon.log
    assert "penstock run --without ill" in daemon.log
    assert "Traceback" not in daemon.log


def test_a_start_that_ends_the_process_is_named_by_the_next_one(
    start_daemon: StartDaemon, tmp_path: Path
) -> None:
    (tmp_path / "bad").write_text("start ends")
    assert start_daemon(ready=False, source=SOURCES).wait() == 4
    (tmp_path / "bad").write_text("nothing ends")
    daemon = start_daemon(source=SOURCES)
    assert 'the last run ended in start() of \\"ill\\"' in daemon.log
    assert daemon.stop() == 0


def test_a_stop_that_hangs_does_not_keep_the_daemon(
    start_daemon: StartDaemon, tmp_path: Path
) -> None:
    (tmp_path / "bad").write_text("stop hangs")
    daemon = start_daemon(source=SOURCES)
    daemon.accept(EVENT)
    assert daemon.stop() == 0
    assert "stop() has not returned" in daemon.log
    assert daemon.kept() == EVENT.encode()
