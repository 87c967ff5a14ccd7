"""Reads NDJSON files from beginning to end, each once, one after the other."""

from __future__ import annotations

import errno
import logging
import os
import stat
import time
from collections.abc import Iterator
from enum import Enum
from pathlib import Path
from threading import Event
from typing import Annotated, Final

import msgspec
from pydantic import AfterValidator, BaseModel, Field

from service.block import FileIdentity, FileRange, Submission
from service.errors import PipelineFailed, QueueClosed
from service.settings import WrittenPath
from service.sources.source import Source
from service.threads import Backoff

log = logging.getLogger(__name__)

_SCAN: Final = 65_536
_READ: Final = os.O_RDONLY | os.O_CLOEXEC | os.O_NONBLOCK  # waits for no writer of a pipe


_PATTERN: Final = frozenset("*?[")
"""What a shell would expand."""


def _no_folder(path: Path) -> Path:
    if path.is_dir():
        raise ValueError("is a folder; name its files")
    return path


_InputFile = Annotated[WrittenPath, AfterValidator(_no_folder)]


class Rest(Enum):
    """What is left of a file after what was handed in."""

    NONE = "nothing"
    WHOLE = "lines that were added meanwhile"
    HALF = "a line that has no end yet"


class NdjsonSource(Source):
    """Hands in references to pieces of files; the workers read the bytes themselves."""

    class Params(BaseModel):
        """Which files."""

        paths: list[_InputFile] = Field(
            min_length=1, description="the files, in the order to read them"
        )

    def reads(self) -> list[Path]:
        """Return the files."""
        return list(self.params.paths)

    def start(self) -> None:
        """Begin to read, in a thread."""
        self._stopping = Event()
        self.start_thread(self._run)

    def stop(self) -> None:
        """Stop after the piece at hand."""
        self._stopping.set()

    def _run(self) -> None:
        paths = [path.absolute() for path in self.params.paths]
        reached = self.surroundings.references.get(self.name)
        if reached is not None and Path(reached.path) in paths:
            paths = paths[paths.index(Path(reached.path)) :]
        try:
            for path in paths:
                is_last = self.surroundings.patient and path == paths[-1]
                began = reached is not None and Path(reached.path) == path
                self._read(path, reached if began else None, growing=is_last)
        except QueueClosed:
            return
        finally:
            self.finished.set()

    def _read(self, path: Path, reached: FileRange | None, *, growing: bool) -> None:
        """Hand in a file from where it was ``reached`` to its end, waiting for what is not there.

        A file that may be ``growing`` is at its end when its last line is whole.
        """
        settings = self.surroundings.settings
        longest = settings.event.max_event_bytes
        backoff = Backoff()
        while not self._stopping.wait(backoff.pause):
            backoff.grow()
            try:
                read = self._begin(path, reached)
                for piece in pieces(path, settings.block.bytes, longest, read, growing=growing):
                    self.submit(Submission(self.name, piece, None, None, time.time()))
                    reached, read, self.problem = piece, piece.stop, None
                    backoff.reset()
                    if self._stopping.is_set():
                        return
                rest = _rest(path, read, longest) if growing else Rest.NONE
                if rest is Rest.WHOLE:
                    backoff.reset()
                    continue
                if rest is Rest.NONE:
                    self.problem = None
                    if self.surroundings.patient:
                        log.info(
                            "%s: read to its end; lines added later are read at the next start",
                            path,
                        )
                    return
                self.fail(f"{path}: its last line is not whole; it is read once it has its end")
            except OSError as error:
                problem = f"{error.filename or path}: cannot be read: {error.strerror}"
                if not self.surroundings.patient:
                    raise PipelineFailed(problem) from error
                if _PATTERN & set(str(path)):
                    problem = f"{problem} (a pattern is not expanded: name each file)"
                self.fail(f"{problem}; it is looked for again and again")

    def _begin(self, path: Path, reached: FileRange | None) -> int:
        """Return where to go on: at the beginning of a file that is not the one of before."""
        if reached is None:
            return 0
        descriptor = os.open(path, _READ)
        try:
            known = reached.identity
            status = os.fstat(descriptor)
            same = known is None or (
                status.st_ino == known.inode and known.begins_alike(descriptor)
            )
            if same and status.st_size >= reached.stop:
                return reached.stop
        finally:
            os.close(descriptor)
        log.warning(
            "%s: is another file than the one of which %d bytes were read: it is read from its "
            "beginning; what the one of before held after these was not read",
            path,
            reached.stop,
        )
        return 0


def pieces(
    path: Path, size: int, longest: int, begin: int = 0, *, growing: bool = False
) -> Iterator[FileRange]:
    """Cut a file into ranges of whole lines, about ``size`` bytes each; ``size`` >= ``longest``.

    Goes on at ``begin``, where an earlier range ended. Of a file that is ``growing`` a last line
    that is not whole is left out.

    A line of more than ``size`` bytes becomes a range of its own, of its first ``longest`` + 1
    bytes: enough to see that it is too long, without ever holding it in memory.
    """
    descriptor = os.open(path, _READ)
    try:
        status = os.fstat(descriptor)
        if stat.S_ISDIR(status.st_mode):
            raise IsADirectoryError(errno.EISDIR, os.strerror(errno.EISDIR), str(path))
        if not stat.S_ISREG(status.st_mode):
            raise OSError(errno.EINVAL, "it is a pipe or a device, no file", str(path))
        identity = FileIdentity.of(descriptor)
        start, end = begin, status.st_size
        if start and start < end and os.pread(descriptor, 1, start - 1) != b"\n":
            start = _next_line_end(descriptor, start, end)  # that range was cut: a line too long
        if growing and start < end:
            end = _whole_lines_end(descriptor, start, end, longest)
        while start < end:
            stop = _last_line_end(descriptor, start, min(start + size, end), end)
            if stop is not None:
                yield FileRange(str(path), start, stop, identity)
                start = stop
            else:
                stop = min(start + longest + 1, end)
                yield FileRange(str(path), start, stop, identity)
                start = _next_line_end(descriptor, start + size, end)
    finally:
        os.close(descriptor)


def _whole_lines_end(descriptor: int, start: int, end: int, longest: int) -> int:
    """Return where the last whole line ends; one without a line end is whole if it is JSON."""
    begin = max(start, end - longest - 1)
    tail = os.pread(descriptor, end - begin, begin)
    rest = tail[tail.rfind(b"\n") + 1 :]
    if not rest or len(rest) > longest:
        return end
    try:
        msgspec.json.decode(rest)
    except (msgspec.DecodeError, RecursionError):
        return end - len(rest)
    return end


def _rest(path: Path, begin: int, longest: int) -> Rest:
    """Say what there is from ``begin`` on, where a line begins or one was cut that is too long."""
    descriptor = os.open(path, _READ)
    try:
        end = os.fstat(descriptor).st_size
        if end <= begin or (begin and os.pread(descriptor, 1, begin - 1) != b"\n"):
            return Rest.NONE
        whole = _whole_lines_end(descriptor, begin, end, longest)
        return Rest.WHOLE if whole > begin else Rest.HALF
    finally:
        os.close(descriptor)


def _last_line_end(descriptor: int, start: int, stop: int, end: int) -> int | None:
    """Return the position after the last line end in [start, stop), the end of the file as one."""
    if stop == end:
        return end
    while stop > start:
        begin = max(start, stop - _SCAN)
        found = os.pread(descriptor, stop - begin, begin).rfind(b"\n")
        if found >= 0:
            return begin + found + 1
        stop = begin
    return None


def _next_line_end(descriptor: int, start: int, end: int) -> int:
    """Return the position after the next line end from ``start`` on, or the end of the file."""
    while start < end:
        found = os.pread(descriptor, _SCAN, start).find(b"\n")
        if found >= 0:
            return start + found + 1
        start += _SCAN
    return end
