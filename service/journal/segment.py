"""One segment of the journal: an SQLite file of consecutive entries.

Invariants:

1. A segment appears whole: with its tables and the place in the chain where it begins.
2. Only the last segment is written to. Those before it are plain files, unless somebody was reading
   when one was sealed, or power was lost then: its write-ahead log is still beside it, part of it.
3. Whoever only reads leaves a write-ahead log as it is: what SQLite cannot read of it, it drops
   when it writes, and with it what a repair would set aside.
"""

from __future__ import annotations

import os
from collections.abc import Iterable, Iterator, Sequence
from contextlib import closing, suppress
from itertools import chain
from pathlib import Path
from typing import Any, Final
from zlib import crc32

import apsw

from service.database import BUSY
from service.disk import sync_directory
from service.errors import StorageBusy, StorageFull
from service.journal.files import (
    damaged,
    first_of,
    half_way,
    reading,
    remove_segment,
    shm,
    size_of_file,
    wal,
    writing,
)
from service.journal.row import Columns, Link, Row, read_row
from service.privacy import make_file

FORMAT: Final = 1
PAGE_SIZE: Final = 8192
CHECKPOINT: Final = 4 << 20
"""Bytes of write-ahead log after which it is copied into the segment: more stalls, fewer writes."""

BATCH: Final = 1 << 20
BATCH_ROWS: Final = 256
"""A read ends with the row that reaches so many bytes, or so many rows."""

PATIENCE: Final = 5_000
"""Milliseconds to wait for another process that is just taking up the write-ahead log."""

WRITE_PATIENCE: Final = 1_000
"""Milliseconds to wait for a lock before those who hand in are told; then it is tried again."""

_TABLES: Final = """
CREATE TABLE meta (format INTEGER, sequence INTEGER, block INTEGER, crc INTEGER, proof INTEGER);
CREATE TABLE entries (sequence INTEGER PRIMARY KEY, kind INTEGER, block INTEGER, time REAL,
    previous INTEGER, crc INTEGER, keys BLOB, body BLOB, payload BLOB);
CREATE TABLE keys (key TEXT, sequence INTEGER, PRIMARY KEY (key, sequence)) WITHOUT ROWID;
"""
_ENTRY: Final = (
    "SELECT sequence, kind, block, time, previous, crc, keys, body, payload FROM entries"
)


class Segment:
    """A segment, open to read or to write; one thread at a time."""

    def __init__(self, path: Path, connection: apsw.Connection) -> None:
        self.path = path
        self._connection = connection
        self._unfolded = 0
        connection.set_busy_timeout(PATIENCE)
        connection.pragma("cache_size", -1024)

    @classmethod
    def to_read(cls, path: Path, *, last: bool) -> Segment:
        """Open a segment; ``last``: somebody may be writing to it."""
        plain = not last and not size_of_file(wal(path))
        flags = apsw.SQLITE_OPEN_READONLY | apsw.SQLITE_OPEN_URI
        with reading(path):
            # A plain file is read without locks, and without a log and an index made beside it.
            name = path.absolute().as_uri() + ("?immutable=1" if plain else "")
            segment = cls(path, apsw.Connection(name, flags=flags))
            segment._connection.config(apsw.SQLITE_DBCONFIG_NO_CKPT_ON_CLOSE, 1)
            return segment

    @classmethod
    def to_write(cls, path: Path, *, full: bool) -> Segment:
        """Open the last segment; ``full``: each commit is synced.

        Raises StorageFull, and has nothing open, where there is no room for the index of its log,
        or another process holds a lock.
        """
        with writing(path):
            connection = apsw.Connection(str(path), flags=apsw.SQLITE_OPEN_READWRITE)
            try:
                segment = cls(path, connection)
                connection.set_busy_timeout(WRITE_PATIENCE)
                connection.pragma("synchronous", "full" if full else "normal")
                connection.wal_autocheckpoint(0)  # SQLite's own hides its errors
                segment.check_lock()
            except StorageBusy:
                connection.close()
                raise
            except apsw.Error as error:
                connection.close()  # now: later it would take the log of the next file so named
                if getattr(error, "extendedresult", None) == apsw.SQLITE_IOERR_SHMSIZE:
                    raise apsw.FullError(str(error)) from error
                raise
            return segment

    @classmethod
    def begin(cls, path: Path, before: Link, *, full: bool) -> Segment:
        """Create a segment and open it to write; a full disk leaves nothing of it."""
        cls.create(path, before)
        try:
            return cls.to_write(path, full=full)
        except StorageFull:
            with half_way():
                remove_segment(path)
            raise

    @staticmethod
    def create(path: Path, before: Link, rows: Iterable[Row] = ()) -> None:
        """Make the file of a segment, whole or not at all, and let it survive power loss."""
        new = path.with_suffix(".new")
        try:
            write_file(new, before, rows)
            with writing(path):
                new.rename(path)
                sync_directory(path.parent)
        finally:
            new.unlink(missing_ok=True)

    # ---- reading

    @property
    def before(self) -> Link:
        """The place in the chain where the segment begins."""
        found = self._select("SELECT format, sequence, block, crc, proof FROM meta")
        match found:
            case [(int(form), int(sequence), int(block), int(crc), int(proof))]:
                link = Link(sequence, block, crc)
            case _:
                raise damaged(self.path, "it does not say where it begins")
        if proof != _proof(form, link) or sequence + 1 != first_of(self.path):
            raise damaged(self.path, "its beginning does not match its checksum or its name")
        if form != FORMAT:
            raise damaged(self.path, f"format {form} is not known here, only {FORMAT}")
        return link

    def read(self, after: int) -> list[Columns]:
        """Return a few entries after a sequence, in order, none if there are none."""
        found: list[Columns] = []
        size = 0
        with reading(self.path):
            query = f"{_ENTRY} WHERE sequence > ? ORDER BY sequence LIMIT {BATCH_ROWS}"
            with closing(self._connection.execute(query, (after,))) as cursor:
                for columns in cursor:
                    found.append(columns)
                    size += sum(len(each) for each in columns if isinstance(each, bytes))
                    if size >= BATCH:
                        break
        return found

    def get(self, sequence: int) -> Columns | None:
        """Return one entry, None if there is none."""
        found = self._select(f"{_ENTRY} WHERE sequence = ?", sequence)
        return found[0] if found else None

    def rows(self) -> Iterator[Row]:
        """Return all rows, each checked, and the keys as well; raises JournalDamaged."""
        link = self.before
        keys = []
        while batch := self.read(link.sequence):
            for columns in batch:
                row = self.check(columns, link)
                keys += [(key.key, row.entry.sequence) for key in row.entry.keys]
                link = row.after
                yield row
        if self.index() != sorted(set(keys), key=lambda each: (each[0].encode(), each[1])):
            raise damaged(self.path, "its index of idempotency keys does not match its entries")

    def check(self, columns: Columns, link: Link) -> Row:
        """Return the row that follows ``link``; raises JournalDamaged when it does not."""
        where = f"entry {link.sequence + 1} (block {link.block + 1} or a switch before it)"
        try:
            row = read_row(columns)
        except ValueError as error:
            raise damaged(self.path, f"{where}: {error}") from error
        if row.before != link:
            raise damaged(self.path, f"{where}: entry {row.entry.sequence} stands in its place")
        return row

    def find(self, key: str) -> int | None:
        """Return the last entry that came with an idempotency key."""
        query = "SELECT sequence FROM keys WHERE key = ? ORDER BY sequence DESC LIMIT 1"
        found = self._select(query, key)
        return found[0][0] if found else None

    def index(self) -> list[tuple[str, int]]:
        """Return the index of idempotency keys, in order."""
        return self._select("SELECT key, sequence FROM keys ORDER BY key, sequence")

    def each_key(self) -> Iterator[str]:
        """Yield the idempotency keys, in order."""
        with reading(self.path), closing(self._connection.execute("SELECT key FROM keys")) as found:
            for (key,) in found:
                yield str(key)

    def last(self) -> int:
        """Return the highest sequence, 0 if there is none."""
        return self._select("SELECT max(sequence) FROM entries")[0][0] or 0

    def _select(self, query: str, *bindings: str | int) -> list[Any]:
        with reading(self.path):
            return self._connection.execute(query, bindings).fetchall()

    # ---- writing

    def append(self, rows: Sequence[Row]) -> None:
        """Commit rows, all or none.

        Raises StorageFull when none is there, OutcomeUnknown when that cannot be told.
        """
        with writing(self.path):
            try:
                self._connection.execute("BEGIN IMMEDIATE")
                _insert(self._connection, rows)
                self._connection.execute("COMMIT")
            except (apsw.FullError, *BUSY):
                if self._connection.in_transaction:
                    self._connection.execute("ROLLBACK")
                raise
        self._unfolded += sum(max(PAGE_SIZE, len(row.entry.payload)) for row in rows)

    def check_lock(self) -> None:
        """Raise StorageBusy while another process keeps all others from writing."""
        with writing(self.path):
            self._connection.execute("BEGIN IMMEDIATE")
            self._connection.execute("ROLLBACK")

    def fold(self) -> None:
        """Copy a long write-ahead log into the segment; a full disk leaves it for later."""
        if self._unfolded >= CHECKPOINT:
            with writing(self.path), suppress(apsw.FullError, *BUSY):
                self._connection.wal_checkpoint(mode=apsw.SQLITE_CHECKPOINT_PASSIVE)
            self._unfolded = 0

    def sync(self) -> None:
        """Let everything committed survive power loss. Raises OSError."""
        # Commits are in the log until a checkpoint has synced them; SQLite holds no lock on it.
        if wal(self.path).exists():
            descriptor = os.open(wal(self.path), os.O_RDWR)
            try:
                os.fsync(descriptor)
            finally:
                os.close(descriptor)
            sync_directory(self.path.parent)

    def seal(self) -> None:
        """Copy the whole write-ahead log into the segment, if nobody is reading, and close."""
        with writing(self.path):
            self._connection.set_busy_timeout(0)
            with suppress(apsw.FullError, *BUSY):
                self._connection.wal_checkpoint(mode=apsw.SQLITE_CHECKPOINT_TRUNCATE)
            self._connection.close()

    def close(self) -> None:
        """Close the file."""
        self._connection.close()


def write_file(path: Path, before: Link, rows: Iterable[Row]) -> None:
    """Write a segment into a file of any name, in place of another, and sync it."""
    for each in (path, wal(path), shm(path)):
        each.unlink(missing_ok=True)
    with writing(path):
        make_file(path)
    with writing(path), closing(apsw.Connection(str(path))) as connection:
        connection.pragma("page_size", PAGE_SIZE)
        connection.pragma("journal_mode", "wal")
        connection.pragma("synchronous", "full")
        for statement in filter(str.strip, _TABLES.split(";")):
            connection.execute(statement)
        meta = (FORMAT, *before, _proof(FORMAT, before))
        connection.execute("INSERT INTO meta VALUES (?, ?, ?, ?, ?)", meta)
        connection.execute("BEGIN")
        for row in rows:
            _insert(connection, [row])
        connection.execute("COMMIT")
        connection.wal_checkpoint(mode=apsw.SQLITE_CHECKPOINT_TRUNCATE)


def _insert(connection: apsw.Connection, rows: Sequence[Row]) -> None:
    connection.executemany(
        "INSERT INTO entries VALUES (?, ?, ?, ?, ?, ?, ?, ?, ?)", (row.columns for row in rows)
    )
    keys = chain.from_iterable(
        ((key.key, row.entry.sequence) for key in row.entry.keys) for row in rows
    )
    connection.executemany("INSERT OR IGNORE INTO keys VALUES (?, ?)", keys)


def _proof(form: int, link: Link) -> int:
    return crc32(repr((form, *link)).encode())
