"""A connection to SQLite: what goes wrong there is told in our words, and nothing is half done."""

from __future__ import annotations

import errno
import os
import shutil
from collections.abc import Iterator
from pathlib import Path

import apsw
import pytest

from service import database as database_module
from service.database import Database
from service.errors import PipelineFailed, QueueClosed

ADD = "INSERT INTO numbers VALUES ({})"


@pytest.fixture
def database(tmp_path: Path) -> Iterator[Database]:
    database = Database(tmp_path / "some.db", "normal")
    database.open()
    with database.transaction() as connection:
        connection.execute("CREATE TABLE numbers (number)")
    yield database
    database.close()


def numbers(database: Database) -> list[int]:
    with database.reading() as connection:
        return [number for (number,) in connection.execute("SELECT number FROM numbers")]


def insert(database: Database, *statements: str) -> None:
    with database.transaction() as connection:
        for each in statements:
            connection.execute(each)


def test_what_raises_in_a_transaction_undoes_all_of_it(database: Database) -> None:
    with pytest.raises(apsw.SQLError, match="no such table"):
        insert(database, "INSERT INTO numbers VALUES (1)", "INSERT INTO letters VALUES (1)")
    assert numbers(database) == []


def test_a_full_disk_is_an_os_error_and_can_be_tried_again(database: Database) -> None:
    with database.reading() as connection:
        pages = connection.pragma("page_count")
        connection.pragma("max_page_count", pages)
    large = "INSERT INTO numbers VALUES (zeroblob(100000))"
    with pytest.raises(OSError, match="full") as error:
        insert(database, "INSERT INTO numbers VALUES (1)", large)
    assert error.value.errno == errno.ENOSPC
    assert numbers(database) == []
    insert(database, "INSERT INTO numbers VALUES (2)")
    assert numbers(database) == [2]


def test_a_connection_that_another_one_keeps_waiting_says_so(
    database: Database, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(database_module, "BUSY_LIMIT", 0)
    other = Database(tmp_path / "some.db", "full")
    other.open()
    with database.transaction(), pytest.raises(OSError, match="holds a lock") as error:
        insert(other, "INSERT INTO numbers VALUES (1)")
    assert error.value.errno == errno.EAGAIN
    other.close()


def test_whoever_reads_holds_up_neither_a_commit_nor_a_sync(
    database: Database, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Nor a second one: what the reader keeps from being folded stays in the log, synced."""
    monkeypatch.setattr(database_module, "BUSY_LIMIT", 0)
    reader = apsw.Connection(str(tmp_path / "some.db"))
    reader.execute("BEGIN; SELECT * FROM numbers")
    for number in range(3):
        insert(database, ADD.format(number))
        database.sync()
    reader.close()
    assert numbers(database) == [0, 1, 2]


def test_a_sync_syncs_the_log_and_not_only_what_is_folded(
    database: Database, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    synced: list[int] = []
    sync = os.fsync

    def note(descriptor: int) -> None:
        synced.append(os.fstat(descriptor).st_ino)
        sync(descriptor)

    monkeypatch.setattr(os, "fsync", note)
    insert(database, "INSERT INTO numbers VALUES (7)")
    database.sync()
    assert (tmp_path / "some.db-wal").stat().st_ino in synced
    assert tmp_path.stat().st_ino in synced


def test_a_log_that_a_reader_keeps_from_being_folded_is_told_once_and_shrinks_after(
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    caplog: pytest.LogCaptureFixture,
) -> None:
    monkeypatch.setattr(database_module, "LARGE_LOG", 50_000)
    other = Database(tmp_path / "some.db", "full")
    other.open()
    insert(other, "CREATE TABLE numbers (number)")
    reader = apsw.Connection(str(tmp_path / "some.db"))
    reader.execute("BEGIN; SELECT * FROM numbers")
    for _ in range(10):
        insert(other, "INSERT INTO numbers VALUES (zeroblob(20000))")
        other.sync()
    assert caplog.text.count("another process has been reading some.db for long") == 1
    reader.close()
    for _ in range(2):
        other.sync()
        insert(other, "INSERT INTO numbers VALUES (1)")
    assert (tmp_path / "some.db-wal").stat().st_size <= 50_000
    other.close()


@pytest.mark.parametrize("umask", [0o000, 0o022, 0o777])
def test_nobody_else_may_open_its_files(tmp_path: Path, umask: int) -> None:
    before = os.umask(umask)
    try:
        database = Database(tmp_path / "some.db", "normal")
        database.open()
        insert(database, "CREATE TABLE numbers (number)")
    finally:
        os.umask(before)
    modes = {path.name: path.stat().st_mode & 0o777 for path in tmp_path.iterdir()}
    assert modes == dict.fromkeys(("some.db", "some.db-wal", "some.db-shm"), 0o600)
    database.close()


def test_a_folder_that_is_missing_is_an_os_error(tmp_path: Path) -> None:
    with pytest.raises(OSError, match="unable to open"):
        Database(tmp_path / "missing" / "some.db", "full").open()


def test_a_file_that_is_no_database_ends_the_daemon_and_says_what_to_do(tmp_path: Path) -> None:
    (tmp_path / "some.db").write_bytes(b"scribble" * 1_000)
    with pytest.raises(PipelineFailed, match=r"some\.db: .* put the file aside"):
        Database(tmp_path / "some.db", "full").open()


def test_what_is_not_open_says_that_the_daemon_stops(database: Database) -> None:
    database.close()
    database.close()
    with pytest.raises(QueueClosed, match="stopping"), database.reading():
        pytest.fail("it was closed")


def test_after_a_sync_the_file_alone_holds_everything(database: Database, tmp_path: Path) -> None:
    insert(database, "INSERT INTO numbers VALUES (7)")
    assert (tmp_path / "some.db-wal").stat().st_size > 0
    other = Database(tmp_path / "some.db", "full")
    other.open()
    other.sync()
    shutil.copy(tmp_path / "some.db", tmp_path / "copy.db")
    copy = Database(tmp_path / "copy.db", "full")
    copy.open()
    assert numbers(copy) == [7]
    copy.close()
    other.close()


@pytest.mark.parametrize(("synchronous", "level"), [("normal", 1), ("full", 2)])
def test_a_commit_is_synced_as_asked(tmp_path: Path, synchronous: str, level: int) -> None:
    database = Database(tmp_path / "some.db", "full" if synchronous == "full" else "normal")
    database.open()
    with database.reading() as connection:
        assert connection.pragma("synchronous") == level
        assert connection.pragma("journal_mode") == "wal"
    database.close()
