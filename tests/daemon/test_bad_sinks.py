"""A bad sink stops nothing else: it is named, tried again, and nothing is lost."""

from __future__ import annotations

import json
import os
import socket
import sqlite3
import urllib.error
import urllib.request
from contextlib import suppress
from http.client import HTTPException
from pathlib import Path
from typing import Any

import pytest

from tests.conftest import Command, StartDaemon
from tests.daemon.running import eventually, totals_agree, write_configuration

pytestmark = pytest.mark.timeout(60)

BAD_SINK = """
import asyncio
import os
import time
from pathlib import Path
from service.sinks.sink import Sink

def bad(method):
    told = Path("bad").read_text() if Path("bad").exists() else ""
    if told == "exit " + method:
        os._exit(3)
    return told == method

class BadSink(Sink):
    def open(self, position):
        self.file = Path("kept.ndjson").open("ab")
        self.file.truncate(position or 0)
        if bad("open"):
            raise KeyError("no such door")

    def write(self, emission):
        if bad("write"):
            raise ValueError("out of ink")
        if bad("cancel"):
            raise asyncio.CancelledError
        while bad("hang"):
            time.sleep(0.01)
        self.file.write(emission.lines)
        self.file.flush()

    def position(self):
        if bad("position"):
            return {"here": {1, 2}}
        return os.fstat(self.file.fileno()).st_size

    def flush(self):
        if bad("flush"):
            raise ConnectionError("nobody there")

    def close(self):
        self.file.close()
        if bad("close"):
            raise RuntimeError("the door is stuck")
"""

EVENT = '{"cid":1,"time":1}\n'


@pytest.fixture
def bad_sink(tmp_path: Path) -> list[dict[str, Any]]:
    """The table of a sink, one of whose methods is bad while the file "bad" names it."""
    (tmp_path / "bad_sink.py").write_text(BAD_SINK)
    return [{"name": "ill", "use": "bad_sink:BadSink"}]


def test_a_write_that_raises_holds_the_stream_back_and_is_named_until_it_is_mended(
    start_daemon: StartDaemon, bad_sink: list[dict[str, Any]], tmp_path: Path
) -> None:
    (tmp_path / "bad").write_text("write")
    daemon = start_daemon(sink=bad_sink)
    daemon.accept(EVENT)
    eventually(lambda: daemon.stats()["sinks"], "the sink is named")
    told = daemon.stats()["sinks"]["ill"]
    assert "BadSink.write raised ValueError: out of ink" in told
    assert "bad_sink.py:23" in told
    assert "penstock run --without ill" in told
    assert daemon.stats()["in_flight"] == 1
    assert "BadSink.write raised ValueError" in daemon.log
    assert "Traceback" not in daemon.log
    (tmp_path / "bad").unlink()
    daemon.settle()
    assert daemon.stats()["sinks"] == {}
    assert daemon.kept() == EVENT.encode()
    assert daemon.stop() == 0


def test_whatever_a_write_raises_it_is_asked_again(
    start_daemon: StartDaemon, bad_sink: list[dict[str, Any]], tmp_path: Path
) -> None:
    (tmp_path / "bad").write_text("cancel")
    daemon = start_daemon(sink=bad_sink)
    daemon.accept(EVENT)
    eventually(lambda: daemon.stats()["sinks"], "the sink is named")
    assert "BadSink.write raised CancelledError" in daemon.stats()["sinks"]["ill"]
    (tmp_path / "bad").unlink()
    daemon.settle()
    assert daemon.kept() == EVENT.encode()


def test_a_write_that_hangs_is_told_keeps_no_stop_waiting_and_the_next_start_goes_on(
    start_daemon: StartDaemon, bad_sink: list[dict[str, Any]], tmp_path: Path
) -> None:
    (tmp_path / "bad").write_text("hang")
    daemon = start_daemon(sink=bad_sink)
    daemon.accept(EVENT)
    eventually(lambda: daemon.stats()["sinks"], "the sink is named")
    assert "write has taken" in daemon.stats()["sinks"]["ill"]
    eventually(lambda: 'sink \\"ill\\": write has taken' in daemon.log, "the log tells")
    assert daemon.stop() == 0
    assert "the next start emits the 1 events in flight" in daemon.log
    (tmp_path / "bad").write_text("write")
    again = start_daemon(ready=False, sink=bad_sink)
    eventually(lambda: "BadSink.write raised" in again.log, "it starts, and waits again")
    (tmp_path / "bad").unlink()
    again.wait_until_ready()
    assert again.kept() == EVENT.encode()
    assert totals_agree(again.stats())


@pytest.mark.parametrize("method", ["open", "write"])
def test_a_sink_that_ends_the_process_is_named_by_the_next_start(
    start_daemon: StartDaemon, bad_sink: list[dict[str, Any]], tmp_path: Path, method: str
) -> None:
    (tmp_path / "bad").write_text(f"exit {method}")
    daemon = start_daemon(ready=False, sink=bad_sink)
    if method == "write":
        with suppress(OSError, HTTPException):  # its answer may go with the process
            daemon.accept(EVENT)
    assert daemon.wait() == 3
    again = start_daemon(ready=False, sink=bad_sink)
    assert again.wait() == 3
    assert (
        f'the last run ended in {method}() of \\"ill\\": unless it was killed, that class ended '
        "it; mend the class, or go on without it: penstock run --without ill"
    ) in again.log
    (tmp_path / "bad").unlink()
    mended = start_daemon(sink=bad_sink)
    assert f"the last run ended in {method}" in mended.log
    assert mended.stop() == 0
    assert mended.kept() == (EVENT.encode() if method == "write" else b"")
    well = start_daemon(sink=bad_sink)
    assert "the last run ended" not in well.log


@pytest.mark.parametrize("method", ["position", "flush"])
def test_a_position_or_flush_that_fails_is_named_and_asked_again(
    start_daemon: StartDaemon, bad_sink: list[dict[str, Any]], tmp_path: Path, method: str
) -> None:
    daemon = start_daemon(sink=bad_sink, state={"checkpoint_interval": 0.1})
    (tmp_path / "bad").write_text(method)
    daemon.accept(EVENT)
    eventually(lambda: daemon.stats()["sinks"], "the sink is named")
    (tmp_path / "bad").unlink()
    eventually(lambda: daemon.stats()["sinks"] == {}, "it is well again")
    eventually(lambda: daemon.stats()["journal"]["checkpoint"] > 1, "a checkpoint is taken")
    daemon.process.kill()
    daemon.wait()
    if method == "position":
        told = "position()['here'] is a set, not plain data"
        assert told in daemon.log
    assert start_daemon(sink=bad_sink).kept() == EVENT.encode()


def test_a_close_that_raises_is_told_and_nothing_else(
    start_daemon: StartDaemon, bad_sink: list[dict[str, Any]], tmp_path: Path
) -> None:
    daemon = start_daemon(sink=bad_sink)
    daemon.accept(EVENT)
    daemon.settle()
    (tmp_path / "bad").write_text("close")
    assert daemon.stop() == 0
    assert "BadSink.close raised RuntimeError: the door is stuck" in daemon.log
    assert "Traceback" not in daemon.log


def test_an_open_that_fails_keeps_the_daemon_from_taking_anything_in_until_it_works(
    start_daemon: StartDaemon, bad_sink: list[dict[str, Any]], tmp_path: Path
) -> None:
    (tmp_path / "bad").write_text("open")
    with socket.create_server(("127.0.0.1", 0)) as free:
        port = free.getsockname()[1]
    daemon = start_daemon(ready=False, sink=bad_sink, http={"listen": f"127.0.0.1:{port}"})

    def why_not_ready() -> str:
        try:
            with urllib.request.urlopen(f"http://127.0.0.1:{port}/readyz", timeout=5):
                return ""
        except urllib.error.HTTPError as answer:
            return str(json.loads(answer.read())["detail"])
        except OSError:
            return ""

    eventually(lambda: "no such door" in why_not_ready(), "it answers, and tells why")
    with urllib.request.urlopen(
        f"http://127.0.0.1:{port}/api/v1/dead-letters", timeout=5
    ) as answer:
        assert json.loads(answer.read())["dead_letters"] == [], "the dead letters can be seen"
    assert "BadSink.open raised KeyError" in daemon.log
    assert "ready on" not in daemon.log
    assert daemon.process.poll() is None
    (tmp_path / "bad").unlink()
    daemon.accept(EVENT)
    daemon.settle()
    assert daemon.kept() == EVENT.encode()


@pytest.mark.parametrize(
    ("kind", "source", "expected"),
    [
        ("sink", "from service.sinks.sink import Sink\nclass Empty(Sink): pass\n", "no write"),
        (
            "source",
            "from service.sources.source import Source\nclass Empty(Source): pass\n",
            "no start",
        ),
        (
            "sink",
            "from service.sinks.sink import Sink\nclass Empty(Sink):\n  write = __init__ = open\n",
            "TypeError",
        ),
    ],
)
def test_a_class_that_cannot_do_its_work_is_refused_before_anything_starts(
    penstock: Command, tmp_path: Path, kind: str, source: str, expected: str
) -> None:
    (tmp_path / "empty.py").write_text(source)
    write_configuration(tmp_path, **{kind: [{"name": "mine", "use": "empty:Empty"}]})  # type: ignore[arg-type]
    done = penstock("check", "--config", "penstock.toml")
    assert done.returncode == 78
    assert f'{kind}[0] "mine"' in done.stderr.decode()
    assert expected in done.stderr.decode()
    assert b"Traceback" not in done.stderr


def test_a_database_that_is_locked_at_the_start_is_waited_for(
    start_daemon: StartDaemon, tmp_path: Path
) -> None:
    url = "sqlite:///kept.db?timeout=0"
    database = sqlite3.connect(tmp_path / "kept.db", isolation_level=None)
    database.execute("BEGIN EXCLUSIVE")
    daemon = start_daemon(
        ready=False, sink=[{"name": "table", "use": "sql", "params": {"url": url}}]
    )
    eventually(lambda: "table cannot be opened" in daemon.log, "the sink is named")
    database.execute("ROLLBACK")
    database.close()
    daemon.accept(EVENT)
    daemon.settle()
    assert daemon.stop() == 0
    with sqlite3.connect(tmp_path / "kept.db") as database:
        assert database.execute("SELECT count(*) FROM events").fetchall() == [(1,)]
    database.close()


def test_a_pipe_that_nobody_reads_is_waited_for_and_a_stop_is_heard(
    start_daemon: StartDaemon, tmp_path: Path
) -> None:
    os.mkfifo(tmp_path / "pipe")
    sink = [{"name": "pipe", "use": "ndjson", "params": {"path": "pipe"}}]
    daemon = start_daemon(ready=False, sink=sink)
    eventually(lambda: "pipe cannot be opened" in daemon.log, "the sink is named")
    assert daemon.stop(10) == 0
    assert "stopping (SIGTERM) before it was ready" in daemon.log
    again = start_daemon(ready=False, sink=sink)
    reader = os.open(tmp_path / "pipe", os.O_RDONLY | os.O_NONBLOCK)
    again.accept(EVENT)
    again.settle()
    assert os.read(reader, 100) == EVENT.encode()
    os.close(reader)
