"""The log of the daemon: whoever writes a line of it, it is one JSON object with the same keys."""

from __future__ import annotations

import io
import json
import logging
import os
import socket
from collections.abc import Iterator
from pathlib import Path
from typing import IO, Any

import pytest

from service.logs import LoggedLines
from tests.conftest import Command, StartDaemon
from tests.daemon.running import RunningDaemon, eventually, left_behind, write_configuration

pytestmark = pytest.mark.timeout(60)

KEYS = {"event", "level", "logger", "process", "timestamp"}
LOUD = """
import logging, os, signal, sys, time, warnings
from middleware import Middleware

class Loud(Middleware):
    def handle(self, event):
        print("printed")
        print("to standard error", file=sys.stderr)
        warnings.warn("a warning")
        logging.getLogger("mine").error("logged")
        os.system("echo by a shell >&2")
        return event

class Dies(Middleware):
    def handle(self, event):
        if event["cid"] == 13:
            print("last words")
            os.kill(os.getpid(), signal.SIGKILL)
        return event
"""
SINK = """
import sys, threading, warnings
from service.sinks.sink import Sink

class LoudSink(Sink):
    def write(self, emission):
        print("the sink", file=sys.stderr)
        print("and once more")
        warnings.warn("the sink warns")
        thread = threading.Thread(target=lambda: 1 / 0)
        thread.start()
        thread.join()
"""


@pytest.fixture(params=["a full disk", "a pipe nobody reads"])
def lost_log(request: pytest.FixtureRequest) -> Iterator[IO[bytes]]:
    """Return a file that takes nothing."""
    if request.param == "a full disk":
        descriptor = os.open("/dev/full", os.O_WRONLY)
    else:
        reader, descriptor = os.pipe()
        os.close(reader)
    with os.fdopen(descriptor, "wb") as file:
        yield file


def entries(daemon: RunningDaemon) -> list[Any]:
    """Return the lines of a daemon's log, all of which are objects with the same keys."""
    found = [json.loads(line) for line in daemon.log.splitlines()]
    assert all(entry.keys() - {"exception"} == KEYS for entry in found)
    return found


def told(daemon: RunningDaemon, process: str) -> str:
    """Return what a kind of process had to say."""
    return "\n".join(
        entry["event"] for entry in entries(daemon) if entry["process"].startswith(process)
    )


def test_every_line_is_an_object_whoever_wrote_it(
    start_daemon: StartDaemon, tmp_path: Path
) -> None:
    (tmp_path / "loud.py").write_text(LOUD)
    (tmp_path / "loud_sink.py").write_text(SINK)
    daemon = start_daemon(
        middleware=[{"name": "loud", "use": "loud:Loud"}],
        sink=[{"name": "loud", "use": "loud_sink:LoudSink"}],
    )
    daemon.accept('{"cid": 1, "time": 1}\n')
    daemon.settle()
    daemon.stop()
    of_a_worker = told(daemon, "penstock-worker ")
    for words in ("printed", "to standard error", "a warning", "logged", "by a shell"):
        assert words in of_a_worker
    of_the_daemon = told(daemon, "penstock")
    for words in (
        "the sink",
        "and once more",
        "the sink warns",
        "division by zero",
        "everything accepted was",
    ):
        assert words in of_the_daemon
    (raised,) = [entry for entry in entries(daemon) if "exception" in entry]
    assert "ZeroDivisionError" in raised["exception"]


def test_the_last_words_of_a_worker_that_is_killed_are_there(
    start_daemon: StartDaemon, tmp_path: Path
) -> None:
    (tmp_path / "loud.py").write_text(LOUD)
    daemon = start_daemon(
        middleware=[{"name": "dies", "use": "loud:Dies"}], workers={"retries": 0, "count": 1}
    )
    daemon.accept('{"cid": 13, "time": 1}\n')
    daemon.settle()
    assert "last words" in told(daemon, "penstock-worker ")


def test_a_start_that_is_refused_says_so_in_an_object(
    start_daemon: StartDaemon, penstock: Command, tmp_path: Path
) -> None:
    start_daemon()
    second = penstock("run", "--config", "penstock.toml")
    (entry,) = [json.loads(line) for line in second.stderr.splitlines()]
    assert second.returncode == 1
    assert entry.keys() == KEYS
    assert (entry["logger"], entry["level"]) == ("penstock", "error")
    assert entry["event"].startswith(f"{tmp_path / 'var'}: another penstock runs here")
    write_configuration(tmp_path, workers={"count": 0}, queue={"events": 0})
    refused = penstock("run", "--config", "penstock.toml")
    lines = [json.loads(line) for line in refused.stderr.splitlines()]
    assert {line["logger"] for line in lines} == {"penstock"}
    told = [line["event"].split(":")[1].strip() for line in lines]
    assert (refused.returncode, told) == (78, ["queue.events", "workers.count"])


def test_a_switch_is_told_with_its_parameters_as_json(start_daemon: StartDaemon) -> None:
    adjacent = {"name": "adjacent", "use": "adjacent", "params": {"window": 300, "by": ["line"]}}
    daemon = start_daemon(middleware=[adjacent])
    since = daemon.switch("adjacent", mode="shadow", reason="a look")["offset"]
    expected = f'adjacent: shadow with window=300 by=["line"] from offset {since} on (a look)'
    assert expected in told(daemon, "penstock")


def test_a_log_that_cannot_be_written_disturbs_nothing(tmp_path: Path, lost_log: IO[bytes]) -> None:
    (tmp_path / "loud.py").write_text(LOUD)
    (tmp_path / "loud_sink.py").write_text(SINK)
    with socket.create_server(("127.0.0.1", 0)) as free:
        host, port = free.getsockname()
    write_configuration(
        tmp_path,
        middleware=[{"name": "loud", "use": "loud:Loud"}],
        sink=[{"name": "loud", "use": "loud_sink:LoudSink"}],
        http={"listen": f"{host}:{port}"},
    )
    daemon = RunningDaemon(tmp_path, stderr=lost_log, address=(host, port))
    try:
        eventually((tmp_path / "var" / "queue.json").exists, "it is ready", 60)
        daemon.accept('{"cid": 1, "time": 1}\n')
        assert daemon.switch("loud", mode="disabled")["mode"] == "disabled"
        assert daemon.settle()["emitted"] == 1
        assert daemon.stop() == 0
    finally:
        daemon.end()
    assert left_behind(tmp_path) == []


def test_a_log_handler_that_prints_does_not_log_without_end() -> None:
    lines = LoggedLines(io.StringIO())
    seen: list[str] = []

    class Complains(logging.Handler):
        def emit(self, record: logging.LogRecord) -> None:
            seen.append(record.getMessage())
            lines.write("complaint\n")

    printed, handler = logging.getLogger("printed"), Complains()
    printed.addHandler(handler)
    try:
        lines.write("one\ntwo\n")
    finally:
        printed.removeHandler(handler)
    assert seen == ["one", "two"]
