"""A daemon that is killed goes on where it was; so does one whose configuration was changed."""

from __future__ import annotations

import json
import signal
from pathlib import Path
from typing import Any

import pytest

from tests.daemon.running import (
    RunningDaemon,
    eventually,
    totals_agree,
    write_configuration,
)

pytestmark = pytest.mark.timeout(90)

ADJACENT = {"name": "adjacent", "use": "adjacent", "params": {"window": 300.0, "radius": 1}}
BLOCKED = {"name": "blocked", "use": "blocklist", "params": {"cids": [7]}}

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


class Daemons:
    """Daemons over one state directory, one after the other."""

    def __init__(self, directory: Path) -> None:
        self.directory = directory
        self._started: list[RunningDaemon] = []

    def start(self, *, ready: bool = True, **tables: Any) -> RunningDaemon:
        write_configuration(self.directory, **tables)
        daemon = RunningDaemon(self.directory)
        self._started.append(daemon)
        if ready:
            daemon.wait_until_ready()
        return daemon

    def end(self) -> None:
        for daemon in self._started:
            daemon.end()


@pytest.fixture
def daemons(tmp_path: Path) -> Any:
    started = Daemons(tmp_path)
    yield started
    started.end()


def kill(daemon: RunningDaemon) -> None:
    daemon.signal(signal.SIGKILL)
    assert daemon.wait() == -signal.SIGKILL


def event(cid: int, time: float) -> str:
    return json.dumps({"cid": cid, "time": time}) + "\n"


def test_memory_counts_and_switches_outlive_a_kill(daemons: Daemons) -> None:
    daemon = daemons.start(middleware=[ADJACENT, BLOCKED])
    daemon.accept(event(1, 1) + event(7, 1) + event(2, 5))
    daemon.settle()
    switched = daemon.switch("blocked", mode="disabled", reason="line 3")
    kill(daemon)
    daemon = daemons.start(middleware=[ADJACENT, BLOCKED])
    assert daemon.get("/api/v1/middleware/blocked") == switched
    assert "blocked: stays as it was switched: mode=disabled (the file says enabled)" in daemon.log
    assert "penstock middleware enable blocked" in daemon.log
    assert "adjacent: stays" not in daemon.log
    assert daemon.accept(event(7, 400) + event(3, 6))["first"] == "2.0"
    stats = daemon.settle()
    assert daemon.kept().decode() == event(1, 1) + event(7, 400)
    assert stats["accepted"] == 5
    assert stats["dropped"] == {"adjacent": 2, "blocked": 1}
    assert totals_agree(stats)


def test_what_was_confirmed_and_not_emitted_is_emitted_by_the_next_start(
    daemons: Daemons, tmp_path: Path
) -> None:
    (tmp_path / "gate.py").write_text(GATE_FILE)
    daemon = daemons.start(middleware=[GATE])
    daemon.accept(event(1, 1))
    daemon.accept(event(2, 2))
    kill(daemon)
    assert not (tmp_path / "kept.ndjson").read_bytes()
    (tmp_path / "gate").touch()
    assert daemons.start(middleware=[GATE]).kept().decode() == event(1, 1) + event(2, 2)


def test_an_idempotency_key_is_known_across_a_kill(daemons: Daemons) -> None:
    daemon = daemons.start()
    headers = {"Idempotency-Key": "a-1"}
    first = daemon.ask("POST", "/api/v1/events", event(1, 1).encode(), headers)
    kill(daemon)
    daemon = daemons.start()
    again = daemon.ask("POST", "/api/v1/events", event(1, 1).encode(), headers)
    assert (again.status, again.document) == (first.status, first.document)
    assert again.headers["Idempotency-Replayed"] == "true"
    other = daemon.ask("POST", "/api/v1/events", event(2, 1).encode(), headers)
    assert other.status == 422
    assert "use a new key" in other.document["detail"]
    assert daemon.settle()["accepted"] == 1


@pytest.mark.parametrize("killed", [True, False], ids=["killed", "stopped"])
def test_a_file_is_read_once_however_often_the_daemon_starts(
    daemons: Daemons, tmp_path: Path, killed: bool
) -> None:
    lines = "".join(event(cid, cid) for cid in range(20_000))
    (tmp_path / "in.ndjson").write_text(lines)
    source = {"name": "files", "use": "ndjson", "params": {"paths": ["in.ndjson"]}}
    daemon = daemons.start(source=[source])
    eventually(lambda: daemon.stats()["emitted"] == 20_000, "all is read")
    kill(daemon) if killed else daemon.stop()
    with (tmp_path / "in.ndjson").open("a") as file:
        file.write(event(1, 20_001))
    daemon = daemons.start(source=[source])
    eventually(lambda: daemon.stats()["emitted"] == 20_001, "what was appended is read")
    assert daemon.kept().decode() == lines + event(1, 20_001)


def test_an_input_that_became_shorter_is_read_anew_from_its_beginning(
    daemons: Daemons, tmp_path: Path
) -> None:
    lines = event(1, 1) + event(2, 2)
    (tmp_path / "in.ndjson").write_text(lines)
    source = {"name": "files", "use": "ndjson", "params": {"paths": ["in.ndjson"]}}
    daemon = daemons.start(source=[source])
    eventually(lambda: daemon.stats()["emitted"] == 2, "all is read")
    daemon.stop()
    (tmp_path / "in.ndjson").write_text(event(3, 3))
    daemon = daemons.start(source=[source])
    eventually(lambda: daemon.stats()["emitted"] == 3, "it is read")
    assert daemon.kept().decode() == lines + event(3, 3)
    assert f"another file than the one of which {len(lines)} bytes were read" in daemon.log


def test_a_changed_table_holds_and_what_was_switched_elsewhere_stays(daemons: Daemons) -> None:
    daemon = daemons.start(middleware=[ADJACENT, BLOCKED])
    daemon.switch("blocked", mode="shadow", reason="trial")
    daemon.accept(event(1, 1))
    kill(daemon)
    wider = ADJACENT | {"params": {"window": 10.0, "radius": 1}}
    daemon = daemons.start(middleware=[wider, BLOCKED])
    adjacent, blocked = daemon.get("/api/v1/middleware")
    assert adjacent["params"] == {"window": 10.0, "radius": 1}
    assert adjacent["offset"] == "2.0"
    assert (blocked["mode"], blocked["reason"]) == ("shadow", "trial")
    assert "window: 300.0 -> 10.0; its memory is kept" in daemon.log
    assert "blocked: stays as it was switched: mode=shadow" in daemon.log
    daemon.accept(event(1, 12))
    daemon.settle()
    assert daemon.kept().decode() == event(1, 1) + event(1, 12)


def test_blocks_go_through_the_chain_they_were_accepted_under(
    daemons: Daemons, tmp_path: Path
) -> None:
    (tmp_path / "gate.py").write_text(GATE_FILE)
    daemon = daemons.start(middleware=[ADJACENT, GATE])
    daemon.accept(event(1, 1) + event(2, 2) + event(7, 3))
    kill(daemon)
    (tmp_path / "gate").touch()
    daemon = daemons.start(middleware=[BLOCKED, ADJACENT])
    assert "go through it as it was" in daemon.log
    assert "gate: removed" in daemon.log
    assert "blocked: added" in daemon.log
    assert "adjacent: unchanged; its memory is kept" in daemon.log
    assert daemon.kept().decode() == event(1, 1) + event(7, 3)
    daemon.accept(event(7, 500) + event(2, 50) + event(20, 50))
    daemon.settle()
    assert daemon.kept().decode() == event(1, 1) + event(7, 3) + event(20, 50)
    assert [each["name"] for each in daemon.get("/api/v1/middleware")] == ["blocked", "adjacent"]


def test_events_are_read_as_they_were_when_they_were_accepted(
    daemons: Daemons, tmp_path: Path
) -> None:
    (tmp_path / "gate.py").write_text(GATE_FILE)
    daemon = daemons.start(middleware=[GATE])
    daemon.accept(event(1, 1))
    kill(daemon)
    (tmp_path / "gate").touch()
    daemon = daemons.start(middleware=[GATE], event={"cid": "point"})
    assert daemon.kept().decode() == event(1, 1)
    assert daemon.stats()["dead"] == 0
    assert daemon.post(event(1, 1)).status == 400


@pytest.mark.parametrize(("gone", "after"), [("checkpoints", "a kill"), ("journal", "a stop")])
def test_a_folder_that_is_gone_is_told_before_anything_is_made_and_can_be_brought_back(
    daemons: Daemons, tmp_path: Path, gone: str, after: str
) -> None:
    daemon = daemons.start()
    daemon.accept(event(1, 1))
    if after == "a kill":
        kill(daemon)
    else:
        assert daemon.stop() == 0
    folder = tmp_path / "var" / gone
    folder.rename(tmp_path / "away")
    before = listing(tmp_path / "var")
    daemon = daemons.start(ready=False)
    assert daemon.wait() == 1
    assert f"var/{gone}: " in daemon.log
    assert "nothing was changed; bring it back from a backup" in daemon.log
    assert "move the whole state directory away to start anew" in daemon.log
    assert listing(tmp_path / "var") == before
    (tmp_path / "away").rename(folder)
    daemon = daemons.start()
    assert daemon.kept().decode() == event(1, 1)


def listing(folder: Path) -> dict[Path, bytes]:
    """Return every file of the state but the lock, and what is in it; folders are empty."""
    found = (path for path in sorted(folder.rglob("*")) if path.name != "lock")
    return {path: path.read_bytes() if path.is_file() else b"" for path in found}


def test_without_durability_a_journal_of_before_is_not_forgotten(daemons: Daemons) -> None:
    daemons.start().stop()
    daemon = daemons.start(ready=False, state={"durability": "off"})
    assert daemon.wait() == 1
    assert "holds what another durability accepted" in daemon.log


def test_a_second_sink_begins_when_it_is_configured(daemons: Daemons, tmp_path: Path) -> None:
    daemon = daemons.start()
    daemon.accept(event(1, 1))
    daemon.stop()
    sinks = [
        {"name": name, "use": "ndjson", "params": {"path": f"{name}.ndjson"}}
        for name in ("kept", "late")
    ]
    for again in range(2):
        daemon = daemons.start(sink=sinks)
        assert ("it holds only what is emitted from now on" in daemon.log) == (not again)
        daemon.accept(event(2, 2))
        daemon.settle()
        kill(daemon)
    daemons.start(sink=sinks)
    assert (tmp_path / "late.ndjson").read_text() == event(2, 2) * 2
    assert (tmp_path / "kept.ndjson").read_text() == event(1, 1) + event(2, 2) * 2


def test_a_daemon_that_was_stopped_has_nothing_to_do_again(daemons: Daemons) -> None:
    daemon = daemons.start(middleware=[ADJACENT])
    daemon.accept(event(1, 1))
    assert daemon.stop() == 0
    again = daemons.start(middleware=[ADJACENT])
    assert "cut off" not in again.log
    assert again.kept().decode() == event(1, 1)
    assert again.stats()["accepted"] == 1


def test_the_first_step_that_remembers_may_come_later(daemons: Daemons) -> None:
    daemon = daemons.start()
    daemon.accept(event(1, 1))
    assert daemon.stop() == 0
    for number, again in enumerate((True, False)):
        daemon = daemons.start(middleware=[ADJACENT])
        daemon.accept(event(2, 2) + event(1, 3))
        daemon.settle()
        assert daemon.kept().decode() == event(1, 1) + event(2, 2), f"it began empty: {number}"
        if again:
            kill(daemon)


FIRST_OF_THREE = {"name": "first", "use": "blocklist", "params": {"cids": [3]}}


@pytest.mark.parametrize("before", [[], [ADJACENT], [ADJACENT, FIRST_OF_THREE]])
def test_a_crash_soon_after_the_structure_was_changed_changes_nothing(
    daemons: Daemons, before: list[dict[str, Any]]
) -> None:
    daemon = daemons.start(middleware=before)
    daemon.accept(event(1, 1))
    assert daemon.stop() == 0
    steps = [FIRST_OF_THREE, ADJACENT]
    daemon = daemons.start(middleware=steps)
    daemon.accept(event(3, 2) + event(6, 2))
    daemon.settle()
    kill(daemon)
    daemon = daemons.start(middleware=steps)
    daemon.accept(event(6, 3) + event(9, 3))
    daemon.settle()
    assert daemon.kept().decode() == event(1, 1) + event(6, 2) + event(9, 3)


def test_no_start_leads_from_blocks_of_one_structure_to_those_of_another(
    daemons: Daemons, tmp_path: Path
) -> None:
    """Here the checkpoint that was taken with the change is gone."""
    daemon = daemons.start()
    for _ in range(2):
        daemon.accept(event(1, 1))
        daemon.stop()
        daemon = daemons.start()
    daemon.stop()
    daemon = daemons.start(middleware=[ADJACENT])
    daemon.accept(event(2, 2))
    kill(daemon)
    *_, newest = sorted((tmp_path / "var" / "checkpoints").iterdir())
    newest.unlink()
    daemon = daemons.start(ready=False, middleware=[ADJACENT])
    assert daemon.wait() == 1
    assert "from before the chain's structure was changed" in daemon.log
    assert "penstock journal export" in daemon.log


REMEMBERS = """
from middleware.contract import SharedMiddleware
from middleware.errors import ContractError

FORMAT = {format}

class Once(SharedMiddleware):
    reads = ("cid",)

    def __init__(self, params):
        super().__init__(params)
        self.seen = []

    def handle(self, event):
        if event["cid"] in self.seen:
            return None
        self.seen.append(event["cid"])
        return event

    def snapshot(self):
        return {{"format": FORMAT, "seen": self.seen}}

    def restore(self, state):
        if state["format"] != FORMAT:
            raise ContractError(f"this is a memory of format {{state['format']}}, not {{FORMAT}}")
        self.seen = state["seen"]
"""


def test_a_memory_of_another_format_is_refused_by_name_and_can_be_forgotten(
    daemons: Daemons, tmp_path: Path
) -> None:
    once = {"name": "first-time", "use": "once:Once"}
    (tmp_path / "once.py").write_text(REMEMBERS.format(format=1))
    daemon = daemons.start(middleware=[once])
    daemon.accept(event(1, 1) + event(1, 2))
    daemon.stop()
    (tmp_path / "once.py").write_text(REMEMBERS.format(format=2))
    daemon = daemons.start(ready=False, middleware=[once])
    assert daemon.wait() == 1
    assert "first-time: what it remembers cannot be restored: " in daemon.log
    assert "this is a memory of format 1, not 2" in daemon.log
    assert "--forget first-time" in daemon.log
    assert "Traceback" not in daemon.log
    for options in (["--forget", "first-time"], []):
        daemon = RunningDaemon(tmp_path, options=options)
        try:
            daemon.accept(event(1, 3))
            kill(daemon)
        finally:
            daemon.end()
    daemon = daemons.start(middleware=[once])
    assert daemon.kept().decode() == event(1, 1) + event(1, 3)
    assert daemon.get("/api/v1/middleware/first-time")["resets"] == 1


def test_a_memory_that_is_still_needed_is_not_forgotten(daemons: Daemons, tmp_path: Path) -> None:
    daemon = daemons.start(middleware=[ADJACENT])
    daemon.accept(event(1, 1))
    kill(daemon)
    daemon = RunningDaemon(tmp_path, options=["--forget", "adjacent"])
    assert daemon.wait() == 1
    assert "1 blocks that were accepted before need what it remembers" in daemon.log


@pytest.mark.parametrize(
    ("name", "problem"),
    [("nobody", "there is no middleware called 'nobody'"), ("listed", "listed remembers nothing")],
)
def test_only_a_step_that_remembers_is_told_to_forget(
    tmp_path: Path, name: str, problem: str
) -> None:
    """All names are looked at first: a mistake in one leaves the others' memory as it is."""
    listed = {"name": "listed", "use": "blocklist", "params": {"cids": [1]}}
    write_configuration(tmp_path, middleware=[ADJACENT, listed])
    daemon = RunningDaemon(tmp_path, options=["--forget", "adjacent", "--forget", name])
    try:
        assert daemon.wait() == 78
    finally:
        daemon.end()
    assert f"--forget: {problem}" in daemon.log
    assert "was emptied" not in daemon.log
    assert not (tmp_path / "var" / "journal").exists()
