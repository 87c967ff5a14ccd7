"""No event gets the offset of another one's dead letter, whatever of the state was lost or kept."""

from __future__ import annotations

import json
import shutil
from pathlib import Path
from typing import Any

import pytest

from tests.conftest import Command, StartDaemon
from tests.daemon.running import RunningDaemon, totals_agree

pytestmark = pytest.mark.timeout(60)

CHOOSY = """
from service.errors import RecordRefused
from service.sinks.ndjson import NdjsonSink

class Choosy(NdjsonSink):
    def write(self, emission):
        for offset, line in emission:
            if b"ugly" in line:
                raise RecordRefused(offset.row, "it is ugly")
        super().write(emission)
"""

BAD, UGLY = "no event\n", '{"cid":0,"time":0,"text":"ugly"}\n'


@pytest.fixture
def choosy(tmp_path: Path) -> dict[str, Any]:
    """The tables of a sink that refuses some events, which then go to the dead letters."""
    (tmp_path / "choosy.py").write_text(CHOOSY)
    kept = {"name": "kept", "use": "choosy:Choosy", "params": {"path": "kept.ndjson"}}
    return {"sink": [kept | {"refused": "dead"}]}


def good(*cids: int) -> str:
    return "".join(json.dumps({"cid": each, "time": 1}) + "\n" for each in cids)


def letters(daemon: RunningDaemon) -> list[str]:
    return [each["id"] for each in daemon.dead()]


def fill(daemon: RunningDaemon) -> list[str]:
    """Hand in good events and others, in blocks of several lines; return the ids of the letters."""
    for block in range(3):
        daemon.accept(good(3 * block, 3 * block + 1) + BAD + UGLY + good(3 * block + 2))
    daemon.settle()
    found = letters(daemon)
    assert len(found) == 6
    return found


@pytest.mark.parametrize("then", ["off", "normal"])
def test_without_a_checkpoint_numbers_go_on_after_the_letters_that_are_there(
    start_daemon: StartDaemon, penstock: Command, choosy: dict[str, Any], then: str
) -> None:
    first = start_daemon(**choosy, state={"durability": "off"})
    before = fill(first)
    assert first.stop() == 0
    for life in range(2):
        daemon = start_daemon(**choosy, state={"durability": then})
        assert letters(daemon) == before, "those that wait are never dropped"
        for cid in range(100 * life, 100 * life + 12, 4):
            receipt = daemon.accept(good(*range(cid, cid + 4)))
            assert int(receipt["first"].partition(".")[0]) > int(before[-1].partition(".")[0])
        daemon.accept(BAD + UGLY)
        daemon.settle()
        assert totals_agree(daemon.stats())
        assert len(letters(daemon)) == len(before) + 2
        before = letters(daemon)
        daemon.process.kill()
        daemon.wait()
    assert daemon.kept().decode() == good(*range(9), *range(12), *range(100, 112))
    if then != "off":
        assert penstock("journal", "verify", "--config", "penstock.toml").returncode == 0


def test_what_a_loss_of_power_took_of_the_journal_leaves_its_numbers_to_the_letters(
    start_daemon: StartDaemon, choosy: dict[str, Any], tmp_path: Path
) -> None:
    """A refusal is on the disk at once, and with ``normal`` its block in the journal is not."""
    state = {"durability": "normal", "checkpoint_interval": "1h"}
    assert start_daemon(**choosy, state=state).stop() == 0
    shutil.copytree(tmp_path / "var", tmp_path / "before")
    daemon = start_daemon(**choosy, state=state)
    refused = [each for each in fill(daemon) if each.endswith(":kept")]
    daemon.process.kill()
    daemon.wait()
    for name in ("journal", "checkpoints"):
        shutil.rmtree(tmp_path / "var" / name)
        (tmp_path / "before" / name).rename(tmp_path / "var" / name)
    again = start_daemon(**choosy, state=state)
    assert letters(again) == refused
    for cid in range(0, 12, 4):
        again.accept(good(*range(cid, cid + 4)))
    again.settle()
    assert again.kept().decode() == good(*range(12))
    assert letters(again) == refused
    assert "blocks 1 to 3 are lost: only sinks or dead letters know" in again.log


def test_a_start_that_finds_the_dead_letters_gone_says_so_and_how_to_get_them(
    start_daemon: StartDaemon, tmp_path: Path
) -> None:
    daemon = start_daemon()
    daemon.accept(good(1) + BAD * 20)
    daemon.settle()
    assert daemon.stop() == 0
    for path in (tmp_path / "var").glob("penstock.db*"):
        path.rename(tmp_path / path.name)
    again = start_daemon()
    assert again.dead() == []
    assert again.stats()["dead"] == 20
    (told,) = [line for line in again.log.splitlines() if '"level": "error"' in line]
    assert "var/penstock.db: this file was removed or emptied" in told
    assert "20 events had died" in told
    assert "bring the file back from a backup, with its -wal and -shm" in told
    assert again.stop() == 0
    for path in tmp_path.glob("penstock.db*"):
        path.rename(tmp_path / "var" / path.name)
    restored = start_daemon()
    assert len(restored.dead()) == 20, "what was told to do works"
    assert "removed or emptied" not in restored.log
