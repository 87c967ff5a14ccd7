"""Appends the kept lines to a file, byte for byte as they came."""

from __future__ import annotations

import os
import stat
from pathlib import Path
from typing import Any, Literal

from pydantic import BaseModel, Field

from service.sinks.sink import Sink


class AppendedFile:
    """A file that grows by whole writes: one that fails half way is cut off again.

    The file and its folder are made when they are first needed.
    """

    def __init__(self, path: Path, *, truncate: bool = False) -> None:
        """Append to what is there, or start empty with ``truncate``."""
        self._path = path
        self._flags = (
            os.O_WRONLY | os.O_CREAT | os.O_APPEND | os.O_CLOEXEC | (os.O_TRUNC if truncate else 0)
        )
        self._descriptor: int | None = None
        self._length = 0
        self._is_regular = False  # a pipe or a terminal has no length
        self._torn = False

    def open(self) -> None:
        """Open the file; raises OSError."""
        self._path.parent.mkdir(parents=True, exist_ok=True)
        self._descriptor = os.open(self._path, self._flags, 0o644)
        self._is_regular = stat.S_ISREG(os.fstat(self._descriptor).st_mode)
        if self._is_regular:
            self._length = os.lseek(self._descriptor, 0, os.SEEK_END)

    def write(self, data: bytes) -> None:
        """Append all of ``data``; raises OSError with the file as it was before."""
        if self._descriptor is None:
            self.open()
        assert self._descriptor is not None  # noqa: S101 - just opened
        self._mend(self._descriptor)
        self._torn = self._is_regular
        try:
            write_all(self._descriptor, data)
        except OSError:
            self._mend(self._descriptor)
            raise
        self._torn = False
        self._length += len(data)

    def close(self) -> None:
        """Close the file."""
        if self._descriptor is not None:
            os.close(self._descriptor)
            self._descriptor = None

    def _mend(self, descriptor: int) -> None:
        """Cut half a write off; what fails is tried again before the next write."""
        if self._torn:
            os.ftruncate(descriptor, self._length)
            self._torn = False


def write_all(descriptor: int, data: bytes) -> None:
    """Write all of ``data``; raises OSError, with part of it written."""
    view = memoryview(data)
    while view:
        view = view[os.write(descriptor, view) :]


class NdjsonSink(Sink):
    """Appends the kept lines to a file, byte for byte as they came."""

    class Params(BaseModel):
        """Which file."""

        path: Path = Field(description="the file; it and its folder are made when missing")
        existing: Literal["append", "truncate"] = Field(
            "append", description="what to do with a file that is already there"
        )

    def __init__(self, params: Any) -> None:
        """Take the path; nothing is opened yet."""
        super().__init__(params)
        self._file = AppendedFile(params.path, truncate=params.existing == "truncate")

    def open(self) -> None:
        """Open the file."""
        self._file.open()

    def write(self, lines: bytes) -> None:
        """Append lines."""
        self._file.write(lines)

    def close(self) -> None:
        """Close the file."""
        self._file.close()
