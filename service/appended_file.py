"""A file that grows by whole writes, and is taken back to where a checkpoint saw it."""

from __future__ import annotations

import errno
import logging
import os
import select
import stat
from pathlib import Path
from threading import Lock
from typing import Any, Final

from service.block import HEAD, FileIdentity
from service.disk import sync_directory, write_all
from service.errors import PipelineFailed, SinkFailed
from service.file_position import cut, find, hold, take_back

log = logging.getLogger(__name__)

PATIENCE: Final = 5.0
"""Seconds that the reader of a full pipe may take nothing before that is told."""


class AppendedFile:
    """A file that grows by whole writes, and can be taken back to where it was.

    Its position is ``{"path": str, "length": int, "identity": [...]}``, as of FileIdentity. The
    file and its folder are made when they are first needed. One thread opens, writes and closes;
    another one may flush.

    Invariants:

    1. The first ``length`` bytes are whole writes; what is beyond them is half a write, which is
       cut off before the next one begins. What others cut or append meanwhile stays as it is.
    2. A position never lies behind bytes that may be cut: ``length`` grows when a write is whole.
    """

    def __init__(self, path: Path, *, truncate: bool = False) -> None:
        """Append to what is there, or start empty with ``truncate``, unless there is a position."""
        self._path = path
        self._truncate = truncate
        self._descriptor: int | None = None
        self._reader: int | None = None
        """The same file to read from: it may bear another name by then."""
        self._in_use = Lock()  # the descriptor, while it is flushed, must not become another file's
        self._length = 0
        self._end = 0
        """Where the file ended before the last write."""
        self._is_regular = False  # a pipe or a terminal has no length
        self._torn = False
        self._moved = False
        self._unread: tuple[bytes, memoryview] | None = None
        """What a pipe took in part, and the rest."""

    def open(self, position: Any = None) -> None:
        """Open the file and take it back to ``position``, one that ``position()`` returned.

        A position of another file counts as none. Raises OSError, SinkFailed when nobody reads the
        pipe that it is, when another process writes there, or when its folder is gone, and
        PipelineFailed when the file no longer holds what lies before the position.
        """
        length = self._length_in(position)
        made = self._make_folder()
        # Without waiting for the reader of a pipe: the stream waits, and can be stopped meanwhile.
        flags = os.O_WRONLY | os.O_CREAT | os.O_APPEND | os.O_CLOEXEC | os.O_NONBLOCK
        try:
            descriptor = os.open(self._path, flags, 0o644)
        except OSError as error:
            if error.errno == errno.ENXIO:
                raise SinkFailed(f"{self._path}: nobody reads this pipe") from None
            raise
        try:
            status = os.fstat(descriptor)
            self._is_regular = stat.S_ISREG(status.st_mode)
            self._length = status.st_size
            if self._is_regular:
                hold(descriptor, self._path)
            if self._truncate and length is None and self._is_regular:
                os.ftruncate(descriptor, 0)
                self._length = 0
            if length is not None:
                self._take_back(descriptor, length)
            if self._is_regular:
                for folder in made:
                    sync_directory(folder)  # or a power loss takes the file itself away
                self._reader = os.open(self._path, os.O_RDONLY | os.O_CLOEXEC)
        except BaseException:
            os.close(descriptor)
            raise
        self._torn = self._moved = False
        self._descriptor = descriptor

    def write(self, data: bytes) -> None:
        """Append all of ``data``; raises OSError with the file as it was before.

        A pipe cannot be taken back: the same data, written again, goes on where it stopped. Raises
        SinkFailed while its reader takes nothing.
        """
        if self._descriptor is None:
            self.open()
        assert self._descriptor is not None  # noqa: S101 - just opened
        if not self._is_regular:
            self._write_through(self._descriptor, data)
            return
        self._mend(self._descriptor)
        self._end = os.fstat(self._descriptor).st_size
        self._torn = True
        try:
            write_all(self._descriptor, data)
        except OSError:
            self._mend(self._descriptor)
            raise
        self._torn = False
        self._length += len(data)

    def position(self) -> dict[str, Any] | None:
        """Return where the last whole write ended; None for what is no regular file.

        Of a file that is not open it is the present end.
        """
        length = self._length
        if self._descriptor is None:
            if self._path.exists() and not self._path.is_file():
                return None
            length = self._path.stat().st_size if self._path.exists() else 0
        elif not self._is_regular:
            return None
        position = {"path": str(self._path.resolve()), "length": length}
        if self._reader is not None:
            position["identity"] = [*FileIdentity.of(self._reader, min(HEAD, length))]
        elif length and self._path.exists():
            with self._path.open("rb") as file:
                position["identity"] = [*FileIdentity.of(file.fileno(), min(HEAD, length))]
        return position

    def look(self) -> None:
        """See what others did to the file meanwhile; where it was cut or appended to, go on there.

        A file that was moved is followed. Raises SinkFailed when it was removed, since nobody would
        find what is written.
        """
        if self._descriptor is None or not self._is_regular or self._torn:
            return
        status = os.fstat(self._descriptor)
        try:
            there = self._path.stat()
        except FileNotFoundError:
            there = None
        moved = there is None or not os.path.samestat(there, status)
        if moved and not status.st_nlink:
            message = (
                f"{self._path}: was removed while it was written; restart the daemon: a new one "
                "begins then, with all since the last checkpoint"
            )
            raise SinkFailed(message)
        if moved and not self._moved:
            log.error(
                "%s: was moved while it is written, and gets what comes, under its new name; "
                "restart the daemon to have a new one begin here",
                self._path,
            )
        self._moved = moved
        if status.st_size != self._length:
            log.error(
                "%s: others changed it: %d bytes were written up to here, it has %d; it goes on at "
                "its end",
                self._path,
                self._length,
                status.st_size,
            )
            self._length = status.st_size

    def flush(self) -> None:
        """Return when all that was written is on the disk; raises OSError when it may not be."""
        with self._in_use:
            if self._descriptor is not None and self._is_regular:
                os.fsync(self._descriptor)

    def close(self) -> None:
        """Close the file."""
        with self._in_use:
            if self._descriptor is not None:
                os.close(self._descriptor)
                self._descriptor = None
            if self._reader is not None:
                os.close(self._reader)
                self._reader = None

    def _length_in(self, position: Any) -> int | None:
        """Return the length that the position tells, None when it is not one of this file.

        What another file of this output holds after the position is cut off: it is written again.
        """
        if position is None:
            return None
        if not isinstance(position, dict) or "path" not in position:
            log.warning("%s: the last checkpoint knows another output; this one begins", self._path)
            return None
        before, length = Path(position["path"]), int(position["length"])
        known = position.get("identity")
        identity = FileIdentity(*known) if known else None
        moved = find(before, identity)
        if moved is not None and self._path.exists() and self._path.samefile(moved):
            return length
        if before != self._path.resolve():
            log.warning(
                "%s: the last checkpoint knows another output (%s); this one begins now",
                self._path,
                before,
            )
        elif moved is None and self._path.exists():
            self._see_that_it_begins_alike(identity, length)
            return length
        elif length and not self._path.parent.is_dir():
            message = (
                f"{self._path}: its folder is gone: bring it back (is a disk not mounted?), or "
                "make it anew to have a new file begin there"
            )
            raise SinkFailed(message)
        elif length:
            log.warning("%s: is gone, moved away as it seems; a new one begins", self._path)
        if moved is not None:
            take_back(position)
        else:
            log.warning(
                "%s: the events after the last checkpoint are in this one, and may be in the other "
                "as well",
                self._path,
            )
        return None

    def _see_that_it_begins_alike(self, identity: FileIdentity | None, length: int) -> None:
        """Raise PipelineFailed when another file is there that would be cut."""
        if identity is None or not self._path.is_file() or self._path.stat().st_size < length:
            return  # what it is instead is found when it is open
        with self._path.open("rb") as file:
            if identity.begins_alike(file.fileno()):
                return
        message = (
            f"{self._path}: begins otherwise than what was written up to the last checkpoint: it "
            "was replaced; put it back, or give the sink another path, where only events emitted "
            "from now on will be"
        )
        raise PipelineFailed(message)

    def _make_folder(self) -> list[Path]:
        """Make the folder; return the folders that get a new entry, innermost first."""
        if self._path.exists():
            return []
        changed = [self._path.parent]
        while not changed[-1].exists():
            changed.append(changed[-1].parent)
        self._path.parent.mkdir(parents=True, exist_ok=True)
        return changed

    def _take_back(self, descriptor: int, length: int) -> None:
        """Cut off what was written after the position, unless something before it is missing."""
        if not self._is_regular or self._length < length:
            found = f"it has {self._length}" if self._is_regular else "it is no regular file now"
            message = (
                f"{self._path}: {length} bytes were written up to the last checkpoint, {found}: it "
                "was cut, emptied or replaced; put it back, or give the sink another path, where "
                "only events emitted from now on will be"
            )
            raise PipelineFailed(message)
        if beyond := cut(descriptor, length):
            log.info("%s: %d bytes after the last checkpoint cut off", self._path, beyond)
        self._length = length

    def _write_through(self, descriptor: int, data: bytes) -> None:
        """Write to a pipe or a device, waiting for its reader no longer than it is told."""
        rest = memoryview(data)
        if self._unread is not None and self._unread[0] == data:
            rest = self._unread[1]
        writable = select.poll()
        writable.register(descriptor, select.POLLOUT)
        try:
            while rest:
                try:
                    rest = rest[os.write(descriptor, rest) :]
                except BlockingIOError:
                    if not writable.poll(PATIENCE * 1000):
                        message = f"{self._path}: its reader takes nothing"
                        raise SinkFailed(message) from None
        except BrokenPipeError:
            rest = memoryview(data)  # the next reader begins with a whole line
            raise SinkFailed(f"{self._path}: its reader has gone") from None
        finally:
            self._unread = (data, rest) if rest else None

    def _mend(self, descriptor: int) -> None:
        """Cut half a write off; what fails is tried again before the next write."""
        if self._torn:
            if os.fstat(descriptor).st_size > self._end:  # others may have cut it meanwhile
                os.ftruncate(descriptor, self._end)
            self._torn = False
