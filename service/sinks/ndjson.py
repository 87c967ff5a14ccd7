"""Appends the kept lines to a file, byte for byte as they came."""

from __future__ import annotations

import logging
from pathlib import Path
from typing import Any, Literal

from pydantic import BaseModel, Field

from service.appended_file import AppendedFile
from service.settings import WrittenPath
from service.sinks.sink import Emission, Sink

log = logging.getLogger(__name__)


class NdjsonSink(Sink):
    """Appends the kept lines to a file, byte for byte as they came; exactly once.

    What is no regular file (a pipe, a terminal) has no position: at least once.
    """

    class Params(BaseModel):
        """Which file."""

        path: WrittenPath = Field(description="the file; it and its folder are made when missing")
        existing: Literal["append", "truncate"] = Field(
            "append", description="what to do with a file that is already there, at first"
        )

    def __init__(self, params: Any) -> None:
        """Take the path; nothing is opened yet."""
        super().__init__(params)
        self._file = AppendedFile(params.path, truncate=params.existing == "truncate")

    def writes(self) -> list[Path]:
        """Return the file."""
        return [self.params.path]

    def open(self, position: Any) -> None:
        """Open the file and cut off what was written after ``position``."""
        path = self.params.path
        unknown = position is None and self.params.existing == "append" and path.is_file()
        length = path.stat().st_size if unknown else 0
        self._file.open(position)
        if length:
            log.warning(
                "%s holds %d bytes that no checkpoint knows of: what comes is appended; if the "
                "state directory was removed, sources read from the beginning and their events "
                "will be there twice",
                path,
                length,
            )

    def write(self, emission: Emission) -> None:
        """Append the lines."""
        self._file.write(emission.lines)

    def position(self) -> Any:
        """Return which file and how long it is; raises SinkFailed when it was removed."""
        self._file.look()
        return self._file.position()

    def flush(self) -> None:
        """Return when the file is on the disk."""
        self._file.flush()

    def close(self) -> None:
        """Close the file."""
        self._file.close()
