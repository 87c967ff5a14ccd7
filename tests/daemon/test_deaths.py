"""Processes killed while events come in over HTTP: nothing lost, nothing twice, nobody left."""

from __future__ import annotations

import os
import random
import signal
import tempfile
from pathlib import Path
from threading import Thread
from typing import Any

import psutil
import pytest

from tests.conftest import StartDaemon
from tests.daemon.clients import post_all
from tests.daemon.running import (
    RunningDaemon,
    eventually,
    left_behind,
    processes_in,
    totals_agree,
    write_configuration,
)
from tests.daemon.switched import Posts, Suppressor, event_lines

pytestmark = pytest.mark.timeout(120)

ADJACENT = {"name": "adjacent", "use": "adjacent", "params": {"window": 300.0, "radius": 1}}
BLOCKED = {"name": "blocked", "use": "blocklist", "params": {"cids": [13]}}
POSTS = 150


def test_the_processes_are_called_what_they_are(start_daemon: StartDaemon) -> None:
    daemon = start_daemon(middleware=[ADJACENT], workers={"count": 2})
    stats = daemon.stats()
    names = {psutil.Process(worker["pid"]).name() for worker in stats["workers"]}
    assert names == {"penstock-worker"}
    assert psutil.Process(stats["state_host"]["pid"]).name() == "penstock-state"


def test_workers_and_the_state_host_killed_at_random_change_no_byte(
    start_daemon: StartDaemon,
) -> None:
    daemon = start_daemon(
        middleware=[ADJACENT], queue={"bytes": "256KiB"}, state={"checkpoint_bytes": "1MiB"}
    )
    bodies = [_body(number, 2000) for number in range(POSTS)]
    posts = Posts()
    clients = [
        Thread(target=post_all, args=(daemon.address, bodies[start::2], posts.posted))
        for start in (0, 1)
    ]
    for client in clients:
        client.start()
    killed = _kill_at_random(daemon, random.Random(1), clients)
    for client in clients:
        client.join()

    daemon.settle(60)
    assert daemon.kept() == posts.expected(Suppressor(window=300.0))
    eventually(lambda: daemon.ask("GET", "/readyz").status == 200, "all are up again")
    stats = daemon.stats()
    assert totals_agree(stats)
    assert stats["accepted"] == POSTS * 2000
    assert stats["dead"] == 0
    assert len(killed) >= 3
    assert _restarts(stats) == len(killed)


def _body(number: int, events: int) -> bytes:
    choice = random.Random(number)
    start = number * events
    rows = ((choice.randrange(4000), (start + row) / 20) for row in range(events))
    return event_lines(rows, start)


def _kill_at_random(
    daemon: RunningDaemon, choice: random.Random, clients: list[Thread]
) -> set[int]:
    """Kill a process that is up each time a few blocks more were emitted; returns the pids."""
    killed: set[int] = set()
    emitted = 0
    while any(client.is_alive() for client in clients) and len(killed) < 12:
        stats = daemon.stats()
        processes = [*stats["workers"], stats["state_host"]]
        up = [each["pid"] for each in processes if each["ready"] and each["pid"] not in killed]
        progress = stats["accepted"] - stats["in_flight"]
        if up and progress >= emitted:
            pid = choice.choice(up)
            os.kill(pid, signal.SIGKILL)
            killed.add(pid)
            emitted = progress + choice.randrange(10_000)
    return killed


def _restarts(stats: Any) -> int:
    return sum(each["restarts"] for each in [*stats["workers"], stats["state_host"]])


@pytest.mark.parametrize("chain", [[ADJACENT], [BLOCKED]], ids=["shared", "local"])
def test_nothing_outlives_a_killed_daemon(tmp_path: Path, chain: list[Any]) -> None:
    with tempfile.TemporaryDirectory() as temporary:
        write_configuration(tmp_path, middleware=chain)
        daemon = RunningDaemon(tmp_path, env=os.environ | {"TMPDIR": temporary})
        try:
            daemon.wait_until_ready()
            children = psutil.Process(daemon.process.pid).children(recursive=True)
            assert len(children) >= 2
            daemon.accept(_body(0, 2000))
            daemon.process.kill()
            daemon.wait()
            assert psutil.wait_procs(children, timeout=20)[1] == []
            assert processes_in(tmp_path) == []
            assert list(Path(temporary).iterdir()) == []
        finally:
            daemon.end()


HANGS = """
import time
from middleware.contract import Middleware, SharedMiddleware

class Local(Middleware):
    reads = ("cid",)

    def handle(self, event):
        time.sleep(3600)

class Shared(Local, SharedMiddleware):
    def snapshot(self):
        return None

    def restore(self, state):
        pass
"""


@pytest.mark.parametrize("kind", ["Local", "Shared"])
def test_children_that_hang_in_a_middleware_go_with_a_killed_daemon(
    start_daemon: StartDaemon, tmp_path: Path, kind: str
) -> None:
    (tmp_path / "hangs.py").write_text(HANGS)
    daemon = start_daemon(
        middleware=[ADJACENT, {"name": "hangs", "use": f"hangs:{kind}"}], workers={"deadline": 60}
    )
    children = psutil.Process(daemon.process.pid).children(recursive=True)
    daemon.accept('{"cid":1,"time":1}')
    daemon.process.kill()
    daemon.wait()
    assert psutil.wait_procs(children, timeout=20)[1] == []


def test_after_a_killed_daemon_the_next_one_starts(start_daemon: StartDaemon) -> None:
    daemon = start_daemon(middleware=[ADJACENT])
    daemon.process.kill()
    daemon.wait()
    again = start_daemon(middleware=[ADJACENT])
    assert again.accept('{"cid":1,"time":1}')["accepted"] == 1


def test_the_server_that_children_are_forked_from_may_die_as_well(
    start_daemon: StartDaemon,
) -> None:
    daemon = start_daemon(middleware=[ADJACENT], workers={"count": 2, "deadline": 2})
    posts = Posts()
    bodies = [_body(number, 500) for number in range(12)]
    for body in bodies[:4]:
        post_all(daemon.address, [body], posts.posted)
    tree = psutil.Process(daemon.process.pid).children(recursive=True)
    (server,) = [process for process in tree if process.name() == "penstock-fork"]
    server.kill()
    for body in bodies[4:8]:
        post_all(daemon.address, [body], posts.posted)
    os.kill(daemon.stats()["workers"][0]["pid"], signal.SIGKILL)
    for body in bodies[8:]:
        post_all(daemon.address, [body], posts.posted)
    stats = daemon.settle()
    assert daemon.kept() == posts.expected(Suppressor(window=300.0))
    assert totals_agree(stats)
    assert daemon.stop() == 0
    assert left_behind(daemon.directory) == []
