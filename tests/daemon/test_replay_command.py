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
    assert penstock("replay", "--from", past[1], "--to", past[1]).stdout == b""


@pytest.mark.parametrize("place", ["2999-01-01T00:00:00Z", "32503680000.5", "999999"])
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
