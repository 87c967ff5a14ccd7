"""Reads NDJSON files from beginning to end, each once, one after the other."""

from __future__ import annotations

import errno
import os
import stat
import time
from collections.abc import Iterator
from pathlib import Path
from threading import Event
from typing import Final

from pydantic import BaseModel, Field

from service.block import FileRange, Submission
from service.errors import PipelineFailed, QueueClosed
from service.settings import WrittenPath
from service.sources.source import Source
from service.threads import start_thread

_SCAN: Final = 65_536


class NdjsonSource(Source):
    """Hands in references to pieces of files; the workers read the bytes themselves."""

    class Params(BaseModel):
        """Which files."""

        paths: list[WrittenPath] = Field(
            min_length=1, description="the files, in the order to read them"
        )

    def start(self) -> None:
        """Begin to read, in a thread."""
        self._stopping = Event()
        start_thread(f"source {self.name}", self._run, self.surroundings.failed)

    def stop(self) -> None:
        """Stop after the piece at hand."""
        self._stopping.set()

    def _run(self) -> None:
        settings = self.surroundings.settings
        try:
            for path, start in self._left():
                for piece in pieces(
                    path, settings.block.bytes, settings.event.max_event_bytes, start
                ):
                    self.submit(Submission(self.name, piece, None, None, time.time()))
                    if self._stopping.is_set():
                        return
        except QueueClosed:
            return
        except OSError as error:
            message = f"{error.filename}: cannot be read: {error.strerror}"
            raise PipelineFailed(message) from error
        finally:
            self.finished.set()

    def _left(self) -> Iterator[tuple[Path, int]]:
        """Yield the files that are still to be read, each with where to begin."""
        paths = [path.absolute() for path in self.params.paths]
        reached, position = self.surroundings.references.get(self.name, ("", 0))
        if Path(reached) in paths:
            first = paths.index(Path(reached))
            if position > paths[first].stat().st_size:
                message = (
                    f"{reached}: {position} bytes of it were read, and now it is shorter; "
                    "an input must not be cut or replaced; put the new events into another file"
                )
                raise PipelineFailed(message)
            yield paths[first], position
            paths = paths[first + 1 :]
        for path in paths:
            yield path, 0


def pieces(path: Path, size: int, longest: int, begin: int = 0) -> Iterator[FileRange]:
    """Cut a file into ranges of whole lines, about ``size`` bytes each; ``size`` >= ``longest``.

    Goes on at ``begin``, where an earlier range ended.

    A line of more than ``size`` bytes becomes a range of its own, of its first ``longest`` + 1
    bytes: enough to see that it is too long, without ever holding it in memory.
    """
    descriptor = os.open(path, os.O_RDONLY)
    try:
        status = os.fstat(descriptor)
        if stat.S_ISDIR(status.st_mode):
            raise IsADirectoryError(errno.EISDIR, os.strerror(errno.EISDIR), str(path))
        start, end = begin, status.st_size
        if start and start < end and os.pread(descriptor, 1, start - 1) != b"\n":
            start = _next_line_end(descriptor, start, end)  # that range was cut: a line too long
        while start < end:
            stop = _last_line_end(descriptor, start, min(start + size, end), end)
            if stop is not None:
                yield FileRange(str(path), start, stop)
                start = stop
            else:
                yield FileRange(str(path), start, min(start + longest + 1, end))
                start = _next_line_end(descriptor, start + size, end)
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
