"""Whoever reads, locks, links or hands in nonsense next door: the daemon goes on, or waits for it.

The daemon is a command line, HTTP, files and signals here. What it confirmed is in its output once,
in order, whatever its neighbours did.
"""

from __future__ import annotations

import os
import pwd
import shutil
import signal
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any, Final

import pytest

from service.daemon import HELD_BACK_LIMIT
from service.event_queue import connect
from service.pipeline import STOP_LIMIT
from tests.adversaries import hostile_neighbour
from tests.daemon.running import RunningDaemon, eventually, write_configuration

pytestmark = pytest.mark.timeout(180)

TERM_LIMIT: Final = 5.0
"""Seconds in which a signal must be obeyed."""

LOCKS: Final = [
    f"{kind}-{flags}" for kind in ("flock", "lockf") for flags in hostile_neighbour.FLAGS
]

TRY_ALL: Final = 'for each; do cat "$each" > /dev/null 2>&1 && echo "$each"; done'
"""Says which files can be read."""


class Neighbourhood:
    """A daemon, what it confirmed, and those next door."""

    def __init__(self, directory: Path) -> None:
        self.directory = directory
        self.state = directory / "var"
        self.confirmed: list[bytes] = []
        self.bad = 0
        self.offered = 0
        write_configuration(directory, state={"checkpoint_interval": 0.3})
        self.daemon = RunningDaemon(directory)

    def offer(self) -> int:
        """Post a good and a bad event; return the status."""
        self.offered += 1
        good = b'{"cid":%d,"time":1.0}\n' % self.offered
        status = self.daemon.post(good + b"bad\n").status
        if status == 202:
            self.confirmed.append(good)
            self.bad += 1
        return status

    def goes_on(self) -> None:
        """Wait until the daemon takes events in again, and all are out."""
        eventually(lambda: self.offer() == 202, "the daemon takes events in again")
        stats = self.daemon.settle()
        assert (stats["sinks"], stats["refusing"]) == ({}, None)

    def check(self) -> None:
        """See whether the output is what was confirmed, and nothing else."""
        stats = self.daemon.settle()
        assert self.daemon.kept() == b"".join(self.confirmed)
        assert stats["dead"] == self.bad
        assert stats["accepted"] == len(self.confirmed) + self.bad

    def stop(self, number: signal.Signals = signal.SIGTERM) -> int:
        self.daemon.signal(number)
        return self.daemon.wait(TERM_LIMIT)

    def stop_at_once(self) -> None:
        """Send signals until it has ended: those of one moment count as one."""

        def ended() -> bool:
            self.daemon.signal(signal.SIGTERM)
            return self.daemon.process.poll() is not None

        eventually(ended, "a second signal stops at once", 2 * TERM_LIMIT)

    def restart(self, number: signal.Signals = signal.SIGKILL) -> None:
        self.stop(number)
        self.daemon = RunningDaemon(self.directory)

    def files(self) -> list[Path]:
        """Return every file of the state directory."""
        return sorted(path for path in self.state.rglob("*") if path.is_file())

    def databases(self) -> list[Path]:
        return [path for path in self.files() if path.suffix in {".db", ".segment"}]

    @contextmanager
    def held(self, *holds: tuple[str, Path]) -> Iterator[list[str]]:
        """Let a neighbour hold files; yields which it could."""
        arguments = [str(each) for hold in holds for each in hold]
        command = [sys.executable, hostile_neighbour.__file__, *arguments]
        pipe = subprocess.PIPE
        neighbour = subprocess.Popen(command, stdin=pipe, stdout=pipe, text=True)
        assert neighbour.stdin is not None
        assert neighbour.stdout is not None
        try:
            yield [neighbour.stdout.readline().strip() for _ in holds]
        finally:
            neighbour.stdin.close()
            neighbour.wait(20)
            neighbour.stdout.close()


@pytest.fixture
def next_door(tmp_path: Path) -> Iterator[Neighbourhood]:
    made = Neighbourhood(tmp_path)
    yield made
    if made.daemon.process.poll() is None:
        made.daemon.process.kill()
        made.daemon.wait()


def test_whoever_reads_the_databases_holds_up_nothing_and_no_stop(
    next_door: Neighbourhood,
) -> None:
    next_door.goes_on()
    with next_door.held(*[("reads", path) for path in next_door.databases()]) as held:
        assert set(held) == {"held"}
        for _ in range(3):
            assert next_door.offer() == 202
            next_door.check()
        checkpoint = next_door.daemon.stats()["journal"]["checkpoint"]
        eventually(
            lambda: next_door.daemon.stats()["journal"]["checkpoint"] > checkpoint,
            "checkpoints are taken beside readers",
        )
        assert next_door.stop() == 0
        next_door.daemon = RunningDaemon(next_door.directory)
        next_door.goes_on()
        next_door.restart()
        next_door.goes_on()
        next_door.check()


def test_locks_on_any_file_hold_the_stream_back_and_no_longer_than_they_last(
    next_door: Neighbourhood,
) -> None:
    next_door.goes_on()
    statuses = set()
    for how in LOCKS:
        with next_door.held(*[(how, path) for path in next_door.files()]):
            statuses.add(next_door.offer())
        next_door.goes_on()
    for how in ("writes", "excludes"):
        for path in next_door.databases():
            with next_door.held((how, path)) as held:
                assert held == ["held"]
                statuses.add(next_door.offer())
            next_door.goes_on()
    next_door.check()
    assert statuses == {202, 503}
    next_door.restart()
    next_door.goes_on()
    next_door.check()


def test_a_locked_database_is_named_and_a_locked_journal_keeps_a_start_waiting(
    next_door: Neighbourhood,
) -> None:
    next_door.goes_on()
    with next_door.held(("excludes", next_door.state / "penstock.db")):
        assert next_door.offer() == 202
        eventually(
            lambda: "holds a lock" in next_door.daemon.stats()["sinks"].get("dead letters", ""),
            "it is said who holds the stream back",
        )
        next_door.daemon.signal(signal.SIGTERM)
        eventually(lambda: "stopping" in next_door.daemon.log, "the signal is heard", TERM_LIMIT)
        next_door.stop_at_once()
    segment = next_door.databases()[0]
    with next_door.held(("excludes", segment)) as held:
        assert held == ["held"]
        for stops in (True, False):
            next_door.daemon = RunningDaemon(next_door.directory)
            eventually(lambda: "the start waits for that" in next_door.daemon.log, "it says so")
            if stops:
                next_door.stop()
                assert "Traceback" not in next_door.daemon.log
    next_door.goes_on()
    next_door.check()


@pytest.mark.parametrize("all_of_them", [False, True], ids=["dead letters", "all databases"])
def test_one_signal_ends_a_daemon_whose_databases_are_locked(
    next_door: Neighbourhood, record_property: Callable[[str, object], None], *, all_of_them: bool
) -> None:
    next_door.goes_on()
    databases = next_door.databases() if all_of_them else [next_door.state / "penstock.db"]
    with next_door.held(*[("excludes", path) for path in databases]) as held:
        assert set(held) == {"held"}
        assert next_door.offer() == (503 if all_of_them else 202)
        began = time.monotonic()
        next_door.daemon.signal(signal.SIGTERM)
        eventually(lambda: "stopping (SIGTERM)" in next_door.daemon.log, "the signal is heard")
        assert next_door.daemon.wait(30) == 0
        record_property("took", time.monotonic() - began)
    assert HELD_BACK_LIMIT + STOP_LIMIT[False] < TERM_LIMIT, "where nothing else is slow"
    assert "Traceback" not in next_door.daemon.log
    next_door.daemon = RunningDaemon(next_door.directory)
    next_door.goes_on()
    next_door.check()


def test_nonsense_handed_in_is_told_to_whoever_hands_it_in(next_door: Neighbourhood) -> None:
    next_door.goes_on()
    queue: Any = connect(next_door.state / "queue.json")
    for source in (None, 123, ["a"], b"push", "", "\udcff", "x" * 300):
        with pytest.raises((TypeError, ValueError)):
            queue.put(source, b'{"cid":1,"time":1.0}\n')
    for lines in (None, 123, "{}", [b"{}"]):
        with pytest.raises((TypeError, ValueError)):
            queue.put("push", lines)
    for more in ({"key": 1}, {"key": "\udcff"}, {"limit": "soon"}, {"limit": float("nan")}):
        with pytest.raises((TypeError, ValueError)):
            queue.put("push", b'{"cid":1,"time":1.0}\n', **more)
    queue.put("push", bytearray(b'{"cid":0,"time":1.0}'), key="k")
    next_door.confirmed.append(b'{"cid":0,"time":1.0}\n')
    next_door.restart()
    next_door.goes_on()
    next_door.check()


def test_runtime_files_may_be_removed(next_door: Neighbourhood) -> None:
    next_door.goes_on()
    for name in ("queue.json", "lock"):
        (next_door.state / name).unlink()
    next_door.goes_on()
    assert next_door.stop() == 0
    next_door.daemon = RunningDaemon(next_door.directory)
    next_door.goes_on()
    next_door.check()


def test_a_link_in_place_of_a_file_is_named_and_not_followed(next_door: Neighbourhood) -> None:
    next_door.goes_on()
    next_door.stop()
    victim = next_door.directory / "victim"
    victim.write_text("precious")
    lock = next_door.state / "lock"
    lock.unlink()
    lock.symlink_to(victim)
    refused = RunningDaemon(next_door.directory)
    assert refused.wait() == 1
    assert "var/lock: is a symbolic link" in refused.log
    assert len(refused.log.splitlines()) == 1
    lock.unlink()
    assert victim.read_text() == "precious"
    next_door.daemon = RunningDaemon(next_door.directory)
    next_door.goes_on()
    next_door.check()


@pytest.mark.skipif(os.geteuid() != 0, reason="only root can let another user try")
def test_another_user_can_open_nothing_whatever_was_left_open() -> None:
    directory = Path(tempfile.mkdtemp(prefix="penstock-neighbours-"))
    directory.chmod(0o755)
    next_door = Neighbourhood(directory)
    try:
        next_door.goes_on()
        next_door.stop()
        for path in [next_door.state, *next_door.state.rglob("*")]:
            path.chmod(0o777 if path.is_dir() else 0o666)
        next_door.daemon = RunningDaemon(directory)
        next_door.goes_on()
        nobody = pwd.getpwnam("nobody")
        there = [next_door.state, *next_door.state.iterdir(), *next_door.files()]
        assert {path.stat().st_mode & 0o077 for path in there if path.suffix != ".ndjson"} == {0}
        control = directory / "penstock.toml"
        control.chmod(0o644)
        done = subprocess.run(
            ["/bin/sh", "-c", TRY_ALL, "sh", *map(str, [control, *next_door.files()])],
            user=nobody.pw_uid,
            group=nobody.pw_gid,
            extra_groups=[],
            capture_output=True,
            timeout=20,
            check=False,
            text=True,
        )
        assert done.stdout.split() == [str(control)]
        next_door.check()
    finally:
        next_door.daemon.process.kill()
        next_door.daemon.wait()
        shutil.rmtree(directory)
