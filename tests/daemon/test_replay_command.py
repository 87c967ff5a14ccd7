"""``penstock replay``: what another configuration would have made of events of before."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest

from tests.conftest import Command, StartDaemon
from tests.daemon.running import write_configuration

pytestmark = pytest.mark.timeout(60)

ADJACENT = {"name": "adjacent", "use": "adjacent", "params": {"window": 300.0, "radius": 1}}
CONFIG = ("--config", "penstock.toml")
BLOCKED = {"name": "blocked", "use": "blocklist", "params": {"cids": [7]}}


def event(cid: int, time: float) -> str:
    return json.dumps({"cid": cid, "time": time}) + "\n"


def adjacent(window: float) -> dict[str, Any]:
    return ADJACENT | {"params": {"window": window, "radius": 1}}


@pytest.fixture
def past(start_daemon: StartDaemon) -> list[str]:
    """Return the offsets of three posts; between the second and third one step was disabled."""
    daemon = start_daemon(middleware=[ADJACENT, BLOCKED])
    posts = [event(1, 0) + event(7, 0), event(2, 100) + event(7, 500), event(7, 900)]
    offsets = [daemon.accept(posts[0])["first"], daemon.accept(posts[1])["first"]]
    daemon.switch("blocked", mode="disabled")
    offsets.append(daemon.accept(posts[2])["first"])
    daemon.settle()
    assert daemon.kept().decode() == event(1, 0) + event(7, 900)
    return offsets


def test_the_same_configuration_makes_no_difference_but_where_it_was_switched(
    past: list[str], penstock: Command
) -> None:
    done = penstock("replay", "--config", "penstock.toml")
    assert done.returncode == 0, done.stderr
    assert done.stdout.decode() == f"- {past[2]} " + event(7, 900)


def test_a_candidate_is_compared_event_by_event(
    past: list[str], penstock: Command, tmp_path: Path
) -> None:
    write_configuration(tmp_path, middleware=[adjacent(50.0)])
    before = (tmp_path / "kept.ndjson").read_bytes()
    done = penstock("replay", "--config", "penstock.toml")
    first, second = (offset.split(".")[0] for offset in past[:2])
    assert done.stdout.decode() == (
        f"+ {first}.1 {event(7, 0)}+ {second}.0 {event(2, 100)}+ {second}.1 {event(7, 500)}"
    )
    summary = done.stderr.decode().split("\n")
    assert [
        line.split() for line in summary if line.startswith(("events compared", "emitted"))
    ] == [
        ["events", "compared", "5"],
        ["emitted", "2", "5"],
    ]
    assert (tmp_path / "kept.ndjson").read_bytes() == before


def test_a_range_is_compared_with_memories_filled_before_it(
    past: list[str], penstock: Command, tmp_path: Path
) -> None:
    write_configuration(tmp_path, middleware=[adjacent(50.0), BLOCKED])
    done = penstock(
        "replay", "--from", past[1], "--to", past[1], "--json", "--config", "penstock.toml"
    )
    (line,) = done.stdout.decode().splitlines()
    assert json.loads(line) == {"offset": past[1], "then": None, "now": event(2, 100).strip()}
    write_configuration(tmp_path, middleware=[adjacent(300.0), BLOCKED])
    same = penstock("replay", "--from", past[1], "--to", past[1], *CONFIG)
    assert (same.returncode, same.stdout) == (0, b"")


def test_what_lies_within_the_range_is_counted_to_the_event_and_nothing_behind_it_is_run(
    past: list[str], penstock: Command, tmp_path: Path
) -> None:
    write_configuration(tmp_path, middleware=[adjacent(50.0)])
    first, second = (offset.split(".")[0] for offset in past[:2])
    done = penstock("replay", "--from", f"{first}.1", "--to", f"{second}.0", *CONFIG)
    assert done.stdout.decode() == f"+ {first}.1 {event(7, 0)}+ {second}.0 {event(2, 100)}"
    assert counted(done.stderr) == {
        "events compared": ["2"],
        "events before, to fill memories": ["1"],
        "emitted": ["0", "2"],
        "dead": ["0", "0"],
        "dropped by adjacent": ["1", "0"],
        "dropped by blocked": ["1", "0"],
    }


def test_a_chain_of_another_structure_is_gone_through_as_it_was(
    start_daemon: StartDaemon, penstock: Command, tmp_path: Path
) -> None:
    daemon = start_daemon(middleware=[ADJACENT])
    daemon.accept(event(1, 0) + event(7, 0))
    daemon.stop()
    daemon = start_daemon(middleware=[BLOCKED, ADJACENT])
    last = daemon.accept(event(7, 2000) + event(9, 2000))["first"].split(".")[0]
    daemon.settle()
    daemon.stop()
    write_configuration(tmp_path, middleware=[])
    done = penstock("replay", "--from", last, *CONFIG)
    assert done.returncode == 0, done.stderr
    assert done.stdout.decode() == f"+ {last}.0 {event(7, 2000)}"
    assert counted(done.stderr)["events before, to fill memories"] == ["2"]


def test_a_class_of_before_that_is_gone_is_named(
    start_daemon: StartDaemon, penstock: Command, tmp_path: Path
) -> None:
    mine = "from middleware import Middleware\n\n\nclass Mine(Middleware):\n"
    (tmp_path / "mine.py").write_text(f"{mine}    def handle(self, event):\n        return event\n")
    daemon = start_daemon(middleware=[{"name": "mine", "use": "mine:Mine"}])
    daemon.accept(event(1, 1))
    daemon.stop()
    (tmp_path / "mine.py").unlink()
    write_configuration(tmp_path, middleware=[BLOCKED])
    done = penstock("replay", *CONFIG)
    assert (done.returncode, done.stdout) == (1, b"")
    said = done.stderr.decode()
    assert 'use = "mine:Mine": there is no module "mine"' in said
    assert "`penstock journal export`" in said
    assert "Traceback" not in said


def counted(stderr: bytes) -> dict[str, list[str]]:
    """Return the figures of a comparison by the name of their line."""
    rows = [line for line in stderr.decode().splitlines() if line[:1].isalpha()]
    return {row[:34].strip(): row[34:].split("  from ")[0].split() for row in rows}


@pytest.mark.parametrize("place", ["2999-01-01T00:00:00Z", "@32503680000.5", "999999"])
def test_beyond_the_end_there_is_nothing(past: list[str], penstock: Command, place: str) -> None:
    assert past
    done = penstock("replay", "--from", place, "--config", "penstock.toml")
    assert (done.returncode, done.stdout) == (0, b"")


def test_a_place_that_is_none_is_told(penstock: Command) -> None:
    done = penstock("replay", "--from", "yesterday")
    assert done.returncode == 2
    assert b"--from: expected an offset" in done.stderr


def test_without_a_journal_it_says_so(penstock: Command, tmp_path: Path) -> None:
    write_configuration(tmp_path)
    done = penstock("replay", "--config", "penstock.toml")
    assert done.returncode == 1
    assert b"there is no journal" in done.stderr
