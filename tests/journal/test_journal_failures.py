"""A full disk changes nothing and may pass; any other failure ends the journal until a start."""

from __future__ import annotations

import errno
import os
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import apsw
import pytest

from service.errors import JournalDamaged, OutcomeUnknown, StorageFull
from service.journal.segment import Segment
from tests.journal.damage import crashed
from tests.journal.failing_disk import FailingDisk, Fault, failing_disk
from tests.journal.journals import appended, block, opened

BIG = b"x" * 1_000


@pytest.fixture
def disk() -> Iterator[FailingDisk]:
    with failing_disk() as disk:
        yield disk


@pytest.mark.parametrize("after", range(4))
def test_what_does_not_fit_is_not_there_and_can_be_tried_again(
    tmp_path: Path, disk: FailingDisk, after: int
) -> None:
    with opened(tmp_path, segment_bytes=1 << 20) as it:
        it.append(block(1))
        disk.fault = Fault("write", apsw.FullError, after=after)
        with pytest.raises(StorageFull, match="make room"):
            it.append(block(2, BIG * 50, "a"), block(3, BIG * 50))
        with pytest.raises(StorageFull):
            it.append(block(2, BIG))
        assert appended(it) == [block(1)]
        assert (it.last, it.find("a")) == (1, None)
        disk.fault = None
        assert it.append(block(2, b"", "a"), block(3)) == 3
    with opened(tmp_path) as it:
        assert appended(it) == [block(1), block(2, b"", "a"), block(3)]


@pytest.mark.parametrize("after", range(0, 16, 2))
def test_a_disk_that_is_full_when_the_next_segment_is_due_changes_nothing(
    tmp_path: Path, disk: FailingDisk, after: int
) -> None:
    with opened(tmp_path) as it:
        it.append(block(1, BIG * 3))
        disk.fault = Fault("write", apsw.FullError, after=after)
        try:
            it.append(block(2, BIG))
            kept = 2
        except StorageFull:
            kept = 1
        assert it.last == kept
        assert len(appended(it)) == kept
        disk.fault = None
        it.append(block(kept + 1, BIG))
        assert [entry.block for entry in appended(it)] == list(range(1, kept + 2))
    with opened(tmp_path) as it:
        assert it.last == kept + 1


def test_a_disk_too_full_to_open_the_next_segment_changes_nothing(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """There is room for its file, and none for the index that SQLite makes of its log."""

    def too_full(*_: Any) -> None:
        error = apsw.IOError("disk I/O error")
        error.extendedresult = apsw.SQLITE_IOERR_SHMSIZE  # type: ignore[attr-defined]  # not in stubs
        raise error

    with opened(tmp_path) as it:
        it.append(block(1, BIG * 3))
        before = sorted(tmp_path.rglob("*.segment"))
        with monkeypatch.context() as patch:
            patch.setattr(Segment, "__init__", too_full)
            with pytest.raises(StorageFull, match="make room"):
                it.append(block(2, BIG))
        assert sorted(tmp_path.rglob("*.segment")) == before
        it.append(block(2, BIG))
        assert len([*tmp_path.rglob("*.segment")]) == len(before) + 1
    with opened(tmp_path) as it:
        assert appended(it) == [block(1, BIG * 3), block(2, BIG)]


def test_a_full_disk_does_not_keep_the_journal_from_giving_room_back(
    tmp_path: Path, disk: FailingDisk
) -> None:
    with opened(tmp_path) as it:
        for number in range(1, 6):
            it.append(block(number, BIG))
        before = it.size
        disk.fault = Fault("write", apsw.FullError)
        it.trim(5, time.time() + 10)
        assert it.first == 5
        assert it.size < before
        assert appended(it, 4) == [block(5, BIG)]
        disk.fault = None


@pytest.mark.parametrize("call", ["write", "sync"])
@pytest.mark.parametrize("error", [apsw.IOError, apsw.CantOpenError])
def test_any_other_failure_leaves_the_outcome_open_and_ends_the_journal(
    tmp_path: Path, disk: FailingDisk, call: str, error: type[apsw.Error]
) -> None:
    with opened(tmp_path / "a") as it:
        it.append(block(1))
        disk.fault = Fault(call, error, times=1)
        with pytest.raises(OutcomeUnknown, match="not known"):
            it.append(block(2))
        for refused in (lambda: it.append(block(2)), it.sync, lambda: it.trim(1, 0.0)):
            with pytest.raises(OutcomeUnknown, match="closed"):
                refused()
        with pytest.raises(OutcomeUnknown, match="closed"):
            list(it.entries(0))
        left = crashed(tmp_path / "a", tmp_path / "b")
    with opened(left) as it:
        assert appended(it) in ([block(1)], [block(1), block(2)])


def test_a_sync_that_finds_the_disk_full_leaves_the_outcome_open(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def full(*_: Any) -> None:
        raise OSError(errno.ENOSPC, "no space")

    with opened(tmp_path, full=False) as it:
        it.append(block(1))
        with monkeypatch.context() as patched:
            patched.setattr(os, "fsync", full)
            with pytest.raises(OutcomeUnknown):
                it.sync()
        with pytest.raises(OutcomeUnknown, match="closed"):
            it.append(block(2))


def test_a_mark_that_cannot_be_written_leaves_the_outcome_open(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def full(*_: Any) -> int:
        raise OSError(errno.ENOSPC, "no space")

    with opened(tmp_path) as it:
        with monkeypatch.context() as patched:
            patched.setattr(os, "pwrite", full)
            with pytest.raises(OutcomeUnknown):
                it.append(block(1))
        with pytest.raises(OutcomeUnknown, match="closed"):
            it.append(block(1))
    with opened(tmp_path) as it:
        assert appended(it) == [block(1)]


def test_a_failing_checkpoint_of_the_log_ends_the_journal_but_a_full_disk_does_not(
    tmp_path: Path, disk: FailingDisk
) -> None:
    large = b"x" * (5 << 20)
    with opened(tmp_path / "a", segment_bytes=1 << 30) as it:
        it.append(block(1))
        # Only a checkpoint writes into the segment itself; commits go to its log.
        disk.fault = Fault("write", apsw.FullError, name=".segment")
        it.append(block(2, large))
        disk.fault = Fault("write", apsw.IOError, name=".segment")
        with pytest.raises(OutcomeUnknown):
            it.append(block(3, large))
        disk.fault = None
        left = crashed(tmp_path / "a", tmp_path / "b")
    with opened(left) as it:
        assert appended(it) == [block(1), block(2, large), block(3, large)]


def test_a_disk_that_cannot_be_read_is_not_taken_for_damage(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def fails(*_: Any) -> bytes:
        raise OSError(errno.EIO, "input/output error")

    with opened(tmp_path) as it:
        it.append(block(1))
    monkeypatch.setattr(Path, "read_bytes", fails)
    with pytest.raises(OutcomeUnknown) as raised, opened(tmp_path):
        pass
    assert not isinstance(raised.value, JournalDamaged)
