"""One connection to a SQLite database that several threads share, and its errors as ours."""

from __future__ import annotations

import errno
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from threading import Lock
from typing import Final, Literal

import apsw

from service.errors import PipelineFailed, QueueClosed

BUSY_LIMIT: Final = 10_000
"""Milliseconds that one connection waits for another."""

_ERRNO: Final[dict[type[apsw.Error], int]] = {
    apsw.FullError: errno.ENOSPC,
    apsw.IOError: errno.EIO,
    apsw.CantOpenError: errno.EIO,
    apsw.ReadOnlyError: errno.EROFS,
    apsw.PermissionsError: errno.EACCES,
    apsw.BusyError: errno.EAGAIN,
    apsw.LockedError: errno.EAGAIN,
    apsw.ProtocolError: errno.EAGAIN,
}
"""What can pass: it is worth trying again."""


class Database:
    """A connection that one thread at a time uses.

    OSError when the disk is full, cannot be read or written, or another connection is too busy:
    what was asked did not happen. PipelineFailed when the file is damaged. QueueClosed while it is
    not open.
    """

    def __init__(self, path: Path, synchronous: Literal["full", "normal"]) -> None:
        """Let each commit survive a loss of power when ``full``.

        When ``normal``, it does from the next ``checkpoint`` on, which another connection makes.
        """
        self._path = path
        self._synchronous = synchronous
        self._lock = Lock()
        self._connection: apsw.Connection | None = None

    def open(self) -> None:
        """Open the file, made when missing."""
        with self._lock, self._errors():
            connection = apsw.Connection(str(self._path))
            connection.set_busy_timeout(BUSY_LIMIT)
            connection.pragma("journal_mode", "wal")
            connection.pragma("synchronous", self._synchronous)
            if self._synchronous == "normal":
                connection.wal_autocheckpoint(0)  # one checkpoint refuses to run beside another
            self._connection = connection

    @contextmanager
    def reading(self) -> Iterator[apsw.Connection]:
        """Lend the connection; each query sees what was committed before it."""
        with self._lock, self._errors():
            if self._connection is None:
                raise QueueClosed("the daemon is stopping, and its dead letters are closed")
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

    def checkpoint(self) -> None:
        """Return when every commit so far, of any connection, survives a loss of power."""
        with self.reading() as connection:
            connection.wal_checkpoint(mode=apsw.SQLITE_CHECKPOINT_FULL)

    def close(self) -> None:
        """Close the connection."""
        with self._lock, self._errors():
            if self._connection is not None:
                self._connection.close()
                self._connection = None

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
            raise OSError(number, str(error), str(self._path)) from error
