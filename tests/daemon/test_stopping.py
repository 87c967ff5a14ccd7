"""How a daemon stops, and why it may not start."""

from __future__ import annotations

import ctypes
import os
import signal
import socket
import subprocess
import sys
from pathlib import Path
from threading import Thread

import pytest

from tests.conftest import Command, StartDaemon
from tests.daemon.running import (
    RunningDaemon,
    eventually,
    processes_in,
    totals_agree,
    write_configuration,
)

pytestmark = pytest.mark.timeout(60)

ADJACENT = {"name": "adjacent", "use": "adjacent", "params": {"window": 300.0, "radius": 1}}
GATE = {"name": "gate", "use": "gate:Gate"}

GATE_FILE = """
import time
from pathlib import Path
from middleware.contract import Middleware

class Gate(Middleware):
    reads = ("cid",)

    def handle(self, event):
        while not Path("gate").exists():
            time.sleep(0.01)
        return event
"""


@pytest.fixture
def held_back(start_daemon: StartDaemon, tmp_path: Path) -> RunningDaemon:
    """A daemon that emits nothing until there is a file called ``gate``."""
    (tmp_path / "gate.py").write_text(GATE_FILE)
    return start_daemon(middleware=[ADJACENT, GATE], workers={"count": 2, "deadline": 60})


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGINT, signal.SIGHUP])
def test_a_first_signal_drains_and_ends_well(
    held_back: RunningDaemon, tmp_path: Path, number: signal.Signals
) -> None:
    lines = "".join(f'{{"cid":{10 * n},"time":{n}}}\n' for n in range(1000))
    held_back.accept(lines)
    held_back.signal(number)
    eventually(lambda: held_back.ask("GET", "/readyz").status == 503, "it is not ready any more")
    not_ready = held_back.ask("GET", "/readyz")
    assert not_ready.headers["Content-Type"] == "application/problem+json"
    assert "stopping" in not_ready.document["detail"]
    assert held_back.get("/livez") == {"status": "alive"}
    eventually(lambda: held_back.post(lines).status == 503, "nothing is taken in any more")
    refused = held_back.post(lines)
    assert int(refused.headers["Retry-After"]) >= 1
    assert "stopping" in refused.document["detail"]
    assert held_back.process.poll() is None

    (tmp_path / "gate").touch()
    assert held_back.wait() == 0
    assert held_back.kept().decode() == lines
    assert "everything accepted was emitted" in held_back.log


def test_a_first_signal_ends_a_start_that_finishes_another_chain(
    held_back: RunningDaemon, tmp_path: Path
) -> None:
    lines = '{"cid":1,"time":1}\n{"cid":5,"time":1}\n'
    held_back.accept(lines)
    held_back.process.kill()
    held_back.end()
    write_configuration(tmp_path, middleware=[GATE], workers={"count": 2, "deadline": 60})
    again = RunningDaemon(tmp_path)
    try:
        eventually(lambda: "the chain's structure was changed" in again.log, "it is finished")
        again.signal(signal.SIGTERM)
        assert again.wait() == 0
        assert "stopped before it was ready: the next start goes on" in again.log
        (tmp_path / "gate").touch()
        last = RunningDaemon(tmp_path)
        last.wait_until_ready()
        try:
            last.stop()
            assert last.kept().decode() == lines
        finally:
            last.end()
    finally:
        again.end()


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGINT, signal.SIGHUP])
def test_a_second_signal_stops_at_once_and_the_next_start_emits_the_rest(
    held_back: RunningDaemon, number: signal.Signals
) -> None:
    held_back.accept('{"cid":1,"time":1}\n{"cid":5,"time":1}\n')
    held_back.signal(number)
    eventually(lambda: held_back.ask("GET", "/readyz").status == 503, "it is stopping")
    held_back.insist(number)
    assert held_back.wait(5) == 0
    assert "the next start emits the 2 events in flight" in held_back.log
    assert held_back.kept() == b""
    (held_back.directory / "gate").touch()
    again = RunningDaemon(held_back.directory)
    try:
        again.wait_until_ready()
        assert again.kept() == b'{"cid":1,"time":1}\n{"cid":5,"time":1}\n'
        assert totals_agree(again.stats())
    finally:
        again.end()


def test_without_durability_a_second_signal_tells_what_is_lost(
    start_daemon: StartDaemon, tmp_path: Path
) -> None:
    (tmp_path / "gate.py").write_text(GATE_FILE)
    daemon = start_daemon(middleware=[GATE], state={"durability": "off"})
    daemon.accept('{"cid":1,"time":1}\n{"cid":5,"time":1}\n')
    daemon.signal(signal.SIGTERM)
    eventually(lambda: daemon.ask("GET", "/readyz").status == 503, "it is stopping")
    daemon.insist()
    assert daemon.wait(5) == 1
    assert "2 events were accepted, not emitted, and are lost" in daemon.log


def test_a_daemon_without_middleware_that_remember_ends_well(start_daemon: StartDaemon) -> None:
    daemon = start_daemon(middleware=[])
    daemon.accept('{"cid":1,"time":1}')
    assert daemon.stop() == 0
    assert "Traceback" not in daemon.log
    assert daemon.kept() == b'{"cid":1,"time":1}\n'


def test_a_signal_to_the_whole_group_drains_as_well(start_daemon: StartDaemon) -> None:
    daemon = start_daemon(middleware=[ADJACENT])
    lines = "".join(f'{{"cid":{10 * n},"time":{n}}}\n' for n in range(20_000))
    daemon.accept(lines)
    os.killpg(daemon.process.pid, signal.SIGINT)
    assert daemon.wait() == 0
    assert daemon.kept().decode() == lines
    assert "Traceback" not in daemon.log


def test_a_signal_to_the_whole_group_while_it_starts_ends_it_without_a_fuss(
    start_daemon: StartDaemon,
) -> None:
    daemon = start_daemon(ready=False, middleware=[ADJACENT])
    eventually(lambda: len(processes_in(daemon.directory)) > 2, "it starts its children")
    os.killpg(daemon.process.pid, signal.SIGINT)
    assert daemon.wait() in {0, 130}
    assert "Traceback" not in daemon.log


@pytest.mark.skipif(sys.platform != "linux", reason="addresses a single thread as Linux does")
def test_a_signal_is_heard_whichever_thread_it_reaches(start_daemon: StartDaemon) -> None:
    daemon = start_daemon(middleware=[ADJACENT])
    pid = daemon.process.pid
    threads = {int(each.name) for each in Path(f"/proc/{pid}/task").iterdir()} - {pid}
    send_to_thread(pid, max(threads), signal.SIGTERM)
    assert daemon.wait() == 0
    assert "everything accepted was emitted" in daemon.log


def send_to_thread(pid: int, thread: int, number: signal.Signals) -> None:
    """Send a signal that the kernel gives to one thread of a process."""
    library = ctypes.CDLL(None, use_errno=True)
    assert library.tgkill(pid, thread, int(number)) == 0, os.strerror(ctypes.get_errno())


def test_a_post_that_waits_in_the_queue_gets_its_receipt_when_the_daemon_stops(
    start_daemon: StartDaemon, tmp_path: Path
) -> None:
    (tmp_path / "gate.py").write_text(GATE_FILE)
    daemon = start_daemon(middleware=[ADJACENT, GATE], queue={"bytes": 3000})
    lines = "".join(f'{{"cid":{10 * n},"time":{n}}}\n' for n in range(150))
    daemon.accept(lines)
    statuses: list[int] = []
    waiting = Thread(target=lambda: statuses.append(daemon.post(lines).status))
    waiting.start()
    try:
        eventually(lambda: daemon.stats()["queue"]["events"] == 150, "the second one waits", 4)
    finally:
        daemon.signal(signal.SIGTERM)
        (tmp_path / "gate").touch()
        waiting.join(20)
    assert daemon.wait() == 0
    assert statuses == [202]


def test_a_sink_that_cannot_be_written_is_told_and_does_not_keep_a_second_signal_waiting(
    start_daemon: StartDaemon,
) -> None:
    daemon = start_daemon(
        middleware=[ADJACENT],
        sink=[{"name": "full", "use": "ndjson", "params": {"path": "/dev/full"}}],
    )
    daemon.accept('{"cid":1,"time":1}')
    eventually(lambda: daemon.stats()["sinks"], "the sink is told to fail")
    assert "No space left" in daemon.stats()["sinks"]["full"]
    assert daemon.stats()["in_flight"] == 1
    daemon.signal(signal.SIGTERM)
    eventually(lambda: daemon.ask("GET", "/readyz").status == 503, "it is stopping")
    daemon.insist()
    assert daemon.wait(5) == 0


def test_a_reader_that_does_not_read_does_not_keep_a_second_signal_waiting(
    start_daemon: StartDaemon,
) -> None:
    daemon = start_daemon(
        middleware=[ADJACENT],
        sink=[{"name": "console", "use": "stdout"}],
        stdout=subprocess.PIPE,
    )
    daemon.accept("".join(f'{{"cid":{10 * n},"time":{n}}}\n' for n in range(10_000)))
    daemon.signal(signal.SIGTERM)
    eventually(lambda: daemon.ask("GET", "/readyz").status == 503, "it is stopping")
    daemon.insist()
    assert daemon.wait(5) == 0
    assert "ended without waiting for: emitter" in daemon.log


def test_a_reader_that_went_away_ends_the_daemon_with_a_message(start_daemon: StartDaemon) -> None:
    daemon = start_daemon(
        middleware=[ADJACENT],
        sink=[{"name": "console", "use": "stdout"}],
        stdout=subprocess.PIPE,
    )
    assert daemon.process.stdout is not None
    daemon.process.stdout.close()
    daemon.accept('{"cid":1,"time":1}')
    assert daemon.wait() == 1
    assert "standard output was closed" in daemon.log
    assert "Traceback" not in daemon.log


def test_a_second_daemon_does_not_touch_the_state_directory_of_the_first(
    start_daemon: StartDaemon, penstock: Command
) -> None:
    daemon = start_daemon(middleware=[ADJACENT])
    second = penstock("run", "--config", "penstock.toml")
    assert second.returncode == 1
    assert f"another penstock runs here (pid {daemon.process.pid})" in second.stderr.decode()
    assert b"Traceback" not in second.stderr
    assert daemon.accept('{"cid":1,"time":1}')["accepted"] == 1


def test_a_taken_port_is_named_and_nothing_is_begun(tmp_path: Path, penstock: Command) -> None:
    (tmp_path / "in.ndjson").write_text('{"cid":1,"time":1}\n')
    with socket.create_server(("127.0.0.1", 0)) as taken:
        listen = f"127.0.0.1:{taken.getsockname()[1]}"
        write_configuration(
            tmp_path,
            middleware=[ADJACENT],
            source=[{"name": "file", "use": "ndjson", "params": {"paths": ["in.ndjson"]}}],
            http={"listen": listen},
        )
        answer = penstock("run", "--config", "penstock.toml")
    assert answer.returncode == 1
    assert f"cannot listen on {listen}" in answer.stderr.decode()
    assert b"Traceback" not in answer.stderr
    assert not (tmp_path / "kept.ndjson").exists() or not (tmp_path / "kept.ndjson").read_bytes()


def test_a_sink_that_cannot_be_opened_is_named_and_waited_for(
    start_daemon: StartDaemon, tmp_path: Path
) -> None:
    (tmp_path / "folder").mkdir()
    sink = {"name": "kept", "use": "ndjson", "params": {"path": "folder"}}
    daemon = start_daemon(ready=False, middleware=[ADJACENT], sink=[sink])
    eventually(lambda: "kept cannot be opened: [Errno 21] Is a directory" in daemon.log, "a word")
    (tmp_path / "folder").rmdir()
    daemon.wait_until_ready()
    assert "Traceback" not in daemon.log
