"""``penstock journal``: damage is named, and mended without losing anything else."""

from __future__ import annotations

import json
import signal
from pathlib import Path

import pytest

from tests.conftest import Command, StartDaemon
from tests.daemon.running import RunningDaemon
from tests.journal.damage import flip

pytestmark = pytest.mark.timeout(60)

VERIFY = ("journal", "verify", "--config", "penstock.toml")
REPAIR = ("journal", "repair", "--config", "penstock.toml")


def event(cid: int) -> str:
    return json.dumps({"cid": cid, "time": cid, "text": "x" * 3000}) + "\n"


def segment(directory: Path) -> Path:
    (path,) = (directory / "var" / "journal").glob("*.segment")
    return path


@pytest.fixture
def killed(start_daemon: StartDaemon) -> RunningDaemon:
    """Return a daemon that was killed after three posts, with nothing checkpointed."""
    daemon = start_daemon(middleware=[])
    for cid in (1, 2, 3):
        daemon.accept(event(cid))
    daemon.settle()
    daemon.signal(signal.SIGKILL)
    daemon.wait()
    return daemon


def test_a_sound_journal_is_ok_also_beside_the_daemon(
    start_daemon: StartDaemon, penstock: Command
) -> None:
    daemon = start_daemon()
    daemon.accept(event(1))
    done = penstock(*VERIFY)
    assert done.returncode == 0
    assert b"blocks 1 to 1" in done.stdout
    assert done.stdout.rstrip().endswith(b"ok")


def test_repair_is_refused_beside_the_daemon(start_daemon: StartDaemon, penstock: Command) -> None:
    start_daemon()
    done = penstock(*REPAIR)
    assert done.returncode == 1
    assert b"another penstock runs here" in done.stderr


@pytest.mark.usefixtures("killed")
def test_a_damaged_block_is_named_and_the_daemon_does_not_start_over_it(
    penstock: Command, tmp_path: Path
) -> None:
    wal = segment(tmp_path).with_name(segment(tmp_path).name + "-wal")
    data = wal.read_bytes()
    flip(wal, 8 * (data.index(b'"cid": 2') + 7))
    verified = penstock(*VERIFY)
    assert verified.returncode == 1
    assert b"blocks 2 to 3" in verified.stdout
    assert b"penstock journal repair" in verified.stderr
    again = RunningDaemon(tmp_path)
    try:
        assert again.wait() == 1
        assert "penstock journal" in again.log
    finally:
        again.end()
    repaired = penstock(*REPAIR)
    assert repaired.returncode == 0, repaired.stderr
    assert b"blocks 2 to 3" in repaired.stdout
    assert list((tmp_path / "var").glob("journal-damaged-*/*"))
    assert penstock(*VERIFY).returncode == 0
    after = RunningDaemon(tmp_path)
    try:
        after.wait_until_ready()
        assert after.kept().decode() == event(1)
        assert after.accept(event(4))["first"] == "4.0", "no number is given out again"
        after.settle()
        assert after.kept().decode() == event(1) + event(4)
    finally:
        after.end()


@pytest.mark.usefixtures("killed")
def test_a_sound_journal_needs_no_repair(penstock: Command) -> None:
    assert b"there is nothing to repair" in penstock(*REPAIR).stdout
