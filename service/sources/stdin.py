"""Reads NDJSON from standard input, a pipe or a device until its end."""

from __future__ import annotations

import os
import sys
from pathlib import Path
from threading import Event

from pydantic import BaseModel, Field

from service.block import Submission
from service.errors import PipelineFailed, QueueClosed
from service.settings import WrittenPath
from service.sources.source import Source


class StdinSource(Source):
    """Hands in complete lines as soon as they arrive."""

    class Params(BaseModel):
        """Which stream."""

        path: WrittenPath | None = Field(
            None, description="a pipe or a device to read in place of standard input"
        )

    def reads(self) -> list[Path | str]:
        """Return its path, or its name."""
        return [self.params.path or "standard input"]

    def start(self) -> None:
        """Begin to read, in a thread."""
        self._stopping = Event()
        # A blocked read cannot be interrupted; the thread ends with the process.
        self.start_thread(self._run)

    def stop(self) -> None:
        """Hand in nothing more."""
        self._stopping.set()

    def _run(self) -> None:
        cutter = LineCutter(self.surroundings.settings.event.max_event_bytes)
        path = self.params.path
        try:
            descriptor = os.open(path, os.O_RDONLY) if path else sys.stdin.fileno()
            while not self._stopping.is_set():
                data = os.read(descriptor, self.surroundings.settings.block.bytes)
                lines, first_line = cutter.cut(data)
                if lines:
                    self.submit(Submission.of_lines(self.name, lines, first_line))
                if not data:
                    break
        except QueueClosed:
            return
        except OSError as error:
            message = f"{path or 'standard input'}: cannot be read: {error.strerror}"
            raise PipelineFailed(message) from error
        finally:
            self.finished.set()


class LineCutter:
    """Cuts a stream of bytes into whole lines.

    Of a line longer than ``longest`` bytes it lets ``longest`` + 1 through, enough to see that it
    is too long, and never holds more.
    """

    def __init__(self, longest: int) -> None:
        self._longest = longest
        self._rest = b""
        self._skipping = False
        self._next_line = 1

    def cut(self, data: bytes) -> tuple[bytes, int]:
        """Return the lines that ``data`` completes and the first one's number; b"" is the end."""
        if not data:
            lines, self._rest = self._rest, b""
            return self._count(lines + b"\n" if lines else b"")
        if self._skipping:
            _, line_end, data = data.partition(b"\n")
            if not line_end:
                return b"", self._next_line
            self._skipping = False
        complete, line_end, rest = (self._rest + data).rpartition(b"\n")
        self._rest = rest
        lines = complete + line_end
        if len(lines) > self._longest + 1:  # else none can be too long
            longest = self._longest + 1
            lines = b"".join([line[:longest] + b"\n" for line in lines.split(b"\n")[:-1]])
        if len(rest) > self._longest:
            lines += rest[: self._longest + 1] + b"\n"
            self._rest = b""
            self._skipping = True
        return self._count(lines)

    def _count(self, lines: bytes) -> tuple[bytes, int]:
        first_line = self._next_line
        self._next_line += lines.count(b"\n")
        return lines, first_line
