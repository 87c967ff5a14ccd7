"""One connection to a SQLite database that several threads share, and its errors as ours."""

from __future__ import annotations

import errno
import logging
import os
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from threading import Lock
from typing import Final, Literal

import apsw

from service.disk import sync_directory
from service.errors import NotAccepted, PipelineFailed, QueueClosed
from service.privacy import make_file

log = logging.getLogger(__name__)

BUSY_LIMIT: Final = 1_000
"""Milliseconds that one connection waits for another; whoever asked may ask again."""

LARGE_LOG: Final = 64 << 20
"""Bytes of a write-ahead log that somebody's reading keeps from being folded; said in the log."""

BUSY: Final = (apsw.BusyError, apsw.LockedError, apsw.ProtocolError)
"""What SQLite raises while another connection holds a lock: not now, and nothing has changed."""

_ERRNO: Final[dict[type[apsw.Error], int]] = {
    apsw.FullError: errno.ENOSPC,
    apsw.IOError: errno.EIO,
    apsw.CantOpenError: errno.EIO,
    apsw.ReadOnlyError: errno.EROFS,
    apsw.PermissionsError: errno.EACCES,
} | dict.fromkeys(BUSY, errno.EAGAIN)
"""What can pass: it is worth trying again."""


class Database:
    """A connection that one thread at a time uses.

    OSError when the disk is full, cannot be read or written, or (EAGAIN) another connection is too
    busy: what was asked did not happen. PipelineFailed when the file is damaged. NotAccepted while
    it is not open yet, QueueClosed when it was closed.
    """

    def __init__(self, path: Path, synchronous: Literal["full", "normal"]) -> None:
        """Let each commit survive a loss of power when ``full``.

        When ``normal``, it does from the next ``sync`` on, of any connection.
        """
        self._path = path
        self._log = path.with_name(f"{path.name}-wal")
        self._synchronous = synchronous
        self._lock = Lock()
        self._connection: apsw.Connection | None = None
        self._closed = False
        self._is_large = False

    def open(self) -> None:
        """Open the file, made when missing; one that is open stays so."""
        with self._lock, self._errors():
            if self._connection is not None:
                return
            with suppress(FileNotFoundError):  # a missing folder: SQLite says so in its own words
                make_file(self._path)
            connection = apsw.Connection(str(self._path))
            try:
                connection.set_busy_timeout(BUSY_LIMIT)
                connection.pragma("journal_mode", "wal")
                connection.pragma("synchronous", self._synchronous)
                connection.pragma("journal_size_limit", LARGE_LOG)
                connection.wal_autocheckpoint(0)  # ``sync`` does that, in the checkpointer's thread
            except apsw.Error:
                connection.close()
                raise
            self._connection = connection
            self._closed = False

    @contextmanager
    def reading(self) -> Iterator[apsw.Connection]:
        """Lend the connection; each query sees what was committed before it."""
        with self._lock, self._errors():
            if self._connection is None and self._closed:
                raise QueueClosed("the daemon is stopping, and its dead letters are closed")
            if self._connection is None:
                raise NotAccepted("the dead letters are not open yet; ask again once they are")
            yield self._connection

    @contextmanager
    def transaction(self) -> Iterator[apsw.Connection]:
        """Lend the connection for changes that happen together, or, on an error, not at all."""
        with self.reading() as connection:
            connection.execute("BEGIN IMMEDIATE")
            try:
                yield connection
                connection.execute("COMMIT")
            except BaseException:
                if connection.in_transaction:  # SQLite itself rolls back when the disk is full
                    connection.execute("ROLLBACK")
                raise

    def sync(self) -> None:
        """Return when every commit so far, of any connection, survives a loss of power.

        1. The write-ahead log is synced, which nobody who reads or writes can hold up.
        2. It is copied into the database as far as nobody is still reading what was there before;
           what is left of it is copied the next time.
        """
        with self._errors():
            self._sync_log()
        with self.reading() as connection, suppress(apsw.FullError, *BUSY):
            connection.wal_checkpoint(mode=apsw.SQLITE_CHECKPOINT_PASSIVE)
        self._tell_size()

    def close(self) -> None:
        """Close the connection."""
        with self._lock, self._errors():
            self._closed = True
            if self._connection is not None:
                self._connection.close()
                self._connection = None

    def _sync_log(self) -> None:
        # SQLite holds no lock on the log: to close another descriptor of it gives none back.
        with suppress(FileNotFoundError):
            descriptor = os.open(self._log, os.O_RDWR | os.O_CLOEXEC)
            try:
                os.fsync(descriptor)
            finally:
                os.close(descriptor)
            sync_directory(self._path.parent)

    def _tell_size(self) -> None:
        try:
            size = self._log.stat().st_size
        except FileNotFoundError:
            size = 0
        if size > LARGE_LOG and not self._is_large:
            log.warning(
                "%s: has %s MiB and grows, since another process has been reading %s for long; "
                "end it (a sqlite3 shell, a backup), and the file gets smaller by itself",
                self._log,
                size >> 20,
                self._path.name,
            )
        self._is_large = size > LARGE_LOG

    @contextmanager
    def _errors(self) -> Iterator[None]:
        try:
            yield
        except (apsw.CorruptError, apsw.NotADBError) as error:
            message = (
                f"{self._path}: this database is damaged: {error}. Stop the daemon and put the file"
                " aside, with its -wal and -shm; the daemon then starts with an empty one, and"
                ' "sqlite3 FILE .recover" may still read the dead letters in the old one. No other'
                " event is touched"
            )
            raise PipelineFailed(message) from error
        except tuple(_ERRNO) as error:
            number = next(number for kind, number in _ERRNO.items() if isinstance(error, kind))
            what = "another process holds a lock on it" if isinstance(error, BUSY) else str(error)
            raise OSError(number, what, str(self._path)) from error
