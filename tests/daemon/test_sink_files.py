"""Whatever is changed about the sinks before the next start: each event is there once."""

from __future__ import annotations

import json
import os
import random
import signal
import sqlite3
import time
from collections.abc import Iterator
from contextlib import closing
from pathlib import Path
from typing import Any

import pytest

from tests.daemon.running import RunningDaemon, eventually, write_configuration

pytestmark = pytest.mark.timeout(90)

SELDOM = {"checkpoint_interval": "1h"}
OFTEN = {"checkpoint_interval": 0.05}


EXISTING = pytest.mark.parametrize("existing", ["append", "truncate"])


def ndjson(name: str, path: str, existing: str = "append") -> dict[str, Any]:
    return {"name": name, "use": "ndjson", "params": {"path": path, "existing": existing}}


def events(first: int, count: int) -> bytes:
    return b"".join(
        json.dumps({"cid": each, "time": each}).encode() + b"\n"
        for each in range(first, first + count)
    )


class Lives:
    """Daemons over one state directory, each of them killed but the last one."""

    def __init__(self, directory: Path) -> None:
        self.directory = directory
        self.daemon: RunningDaemon | None = None
        self.block = 0

    def start(self, *sinks: dict[str, Any], options: tuple[str, ...] = (), **tables: Any) -> None:
        self.end()
        write_configuration(self.directory, sink=sinks, **{"state": SELDOM} | tables)
        self.daemon = RunningDaemon(self.directory, options=options)
        self.daemon.wait_until_ready()

    @property
    def log(self) -> str:
        assert self.daemon is not None
        return self.daemon.log

    def post(self, body: bytes, *, settle: bool = True) -> None:
        assert self.daemon is not None
        self.block = int(self.daemon.accept(body)["last"].partition(".")[0])
        if settle:
            self.daemon.settle()

    def wait_until_saved(self) -> None:
        """Wait for a checkpoint that has all that was posted."""
        daemon = self.daemon
        assert daemon is not None
        eventually(lambda: daemon.stats()["journal"]["checkpoint"] >= self.block, "it is saved")

    def end(self) -> None:
        """Kill the daemon with all its processes."""
        if self.daemon is not None and self.daemon.process.poll() is None:
            os.killpg(self.daemon.process.pid, signal.SIGKILL)
            self.daemon.wait()

    def read(self, path: str) -> bytes:
        file = self.directory / path
        return file.read_bytes() if file.exists() else b""


@pytest.fixture
def lives(tmp_path: Path) -> Iterator[Lives]:
    found = Lives(tmp_path)
    yield found
    found.end()


@pytest.mark.parametrize("chain", ["the same", "another one"])
def test_with_another_path_before_the_first_checkpoint_all_is_in_the_new_file(
    lives: Lives, chain: str
) -> None:
    lives.start(ndjson("kept", "old.ndjson"))
    lives.post(events(0, 200))
    steps = [{"name": "blocked", "use": "blocklist", "params": {"cids": [7]}}]
    lives.start(ndjson("kept", "new.ndjson"), middleware=steps if chain == "another one" else [])
    assert (lives.read("old.ndjson"), lives.read("new.ndjson")) == (b"", events(0, 200))


@EXISTING
def test_under_another_name_a_sink_goes_on_with_the_file(lives: Lives, existing: str) -> None:
    lives.start(ndjson("kept", "kept.ndjson", existing), state=OFTEN)
    lives.post(events(0, 20))
    lives.wait_until_saved()
    lives.start(ndjson("renamed", "kept.ndjson", existing))
    assert 'sink "renamed": goes on with' in lives.log.replace("\\", "")
    assert "no checkpoint knows of" not in lives.log
    lives.post(events(20, 5))
    lives.start(ndjson("renamed", "kept.ndjson", existing))
    assert lives.read("kept.ndjson") == events(0, 25)


@EXISTING
def test_two_sinks_that_exchange_their_files_write_each_event_to_each_file_once(
    lives: Lives, existing: str
) -> None:
    lives.start(
        ndjson("one", "a.ndjson", existing), ndjson("two", "b.ndjson", existing), state=OFTEN
    )
    lives.post(events(0, 10))
    lives.wait_until_saved()
    lives.post(events(10, 10))
    exchanged = [ndjson("one", "b.ndjson", existing), ndjson("two", "a.ndjson", existing)]
    lives.start(*exchanged)
    lives.post(events(20, 5))
    assert "others changed it" not in lives.log
    lives.start(*exchanged)
    assert lives.read("a.ndjson") == lives.read("b.ndjson") == events(0, 25)


@EXISTING
def test_a_sink_that_takes_over_the_file_of_one_that_left_goes_on_there(
    lives: Lives, existing: str
) -> None:
    lives.start(ndjson("one", "a.ndjson", existing), ndjson("two", "b.ndjson", existing))
    lives.post(events(0, 20))
    lives.start(ndjson("one", "b.ndjson", existing))
    assert (lives.read("a.ndjson"), lives.read("b.ndjson")) == (b"", events(0, 20))


@EXISTING
@pytest.mark.parametrize("how", ["removed", "left out"])
def test_a_sink_that_comes_back_before_a_checkpoint_goes_on_exactly(
    lives: Lives, how: str, existing: str
) -> None:
    both = [ndjson("one", "a.ndjson", existing), ndjson("two", "b.ndjson", existing)]
    lives.start(*both)
    lives.post(events(0, 20))
    if how == "removed":
        lives.start(both[0])
    else:
        lives.start(*both, options=("--without", "two"))
    assert lives.read("b.ndjson") == events(0, 20), "its file stays as it is meanwhile"
    lives.start(*both)
    assert lives.read("a.ndjson") == lives.read("b.ndjson") == events(0, 20)


def test_a_sink_left_out_of_a_run_lacks_what_that_run_emitted_and_nothing_else(
    lives: Lives,
) -> None:
    database = {"name": "three", "use": "sql", "params": {"url": "sqlite:///kept.db"}}
    sinks = [ndjson("one", "a.ndjson"), ndjson("two", "b.ndjson"), database]
    lives.start(*sinks)
    lives.post(events(0, 10))
    assert lives.daemon is not None
    assert lives.daemon.stop() == 0
    lives.start(*sinks, options=("--without", "two", "--without", "three"), state=OFTEN)
    lives.post(events(10, 10))
    assert lives.daemon.stop() == 0
    lives.start(*sinks)
    lives.post(events(20, 10))
    assert lives.read("a.ndjson") == events(0, 30)
    assert lives.read("b.ndjson") == events(0, 10) + events(20, 10)
    with closing(sqlite3.connect(lives.directory / "kept.db")) as connection:
        cids = [cid for (cid,) in connection.execute("SELECT cid FROM events ORDER BY block, line")]
    assert cids == [*range(10), *range(20, 30)]


def test_killed_at_any_moment_with_its_file_moved_or_its_path_changed_each_event_is_there_once(
    lives: Lives,
) -> None:
    choice = random.Random(11)
    files, count = ["file-0"], 0
    for life in range(6):
        lives.start(ndjson("kept", files[-1]), state=OFTEN)
        for _ in range(choice.randrange(1, 5)):
            lives.post(events(count, 50), settle=bool(choice.randrange(2)))
            count += 50
            time.sleep(choice.random() * 0.1)  # any moment between two checkpoints, or in one
            moved = lives.directory / f"moved-{life}"
            if choice.randrange(3) == 0 and not moved.exists():
                lives.wait_until_saved()  # one that was empty is not looked for under other names
                (lives.directory / files[-1]).rename(moved)
                files.insert(-1, moved.name)
        lives.end()
        if choice.randrange(2):
            files.append(f"file-{life + 1}")
    lives.start(ndjson("kept", files[-1]), state=OFTEN)
    assert b"".join(map(lives.read, files)) == events(0, count)
