"""The dead letters: events that could not be handled, each with its reason, as NDJSON lines."""

from __future__ import annotations

import base64
from datetime import UTC, datetime
from pathlib import Path
from typing import Any, Final

import msgspec

from service.block import Block, FileRange, Offset
from service.passage import DeadLetter, Result
from service.sinks.ndjson import AppendedFile

EXCERPT: Final = 65_536
"""Bytes of a bad line that are kept; longer ones are cut."""


class DeadLetterFile:
    """Writes dead letters in offset order; the file appears with the first one."""

    def __init__(self, path: Path) -> None:
        self._file = AppendedFile(path)
        self._lines_before: dict[str, int] = {}

    def write(self, block: Block, result: Result) -> None:
        """Write the dead letters of a block; called for every block, in order, to count lines."""
        if result.dead:
            records = [self._record(block, letter) for letter in result.dead]
            self._file.write(b"".join(msgspec.json.encode(record) + b"\n" for record in records))
        if isinstance(block.payload, FileRange):
            source = block.parts[0].source
            before = 0 if block.payload.start == 0 else self._lines_before.get(source, 0)
            self._lines_before[source] = before + result.lines

    def close(self) -> None:
        """Close the file."""
        self._file.close()

    def _record(self, block: Block, letter: DeadLetter) -> dict[str, Any]:
        source, line, received = self._origin(block, letter.row)
        record: dict[str, Any] = {
            "offset": str(Offset(block.number, letter.row)),
            "source": source,
            "line": line,
            "time": datetime.fromtimestamp(received, UTC).isoformat(timespec="milliseconds"),
            "reason": letter.reason,
        }
        if isinstance(block.payload, FileRange):
            record["path"] = block.payload.path
        if letter.middleware is not None:
            record |= {"middleware": letter.middleware, "attempts": letter.attempts}
        if letter.traceback is not None:
            record["traceback"] = letter.traceback
        return {name: _writable(value) for name, value in record.items()} | _readable(letter.event)

    def _origin(self, block: Block, row: int) -> tuple[str, int, float]:
        """Return the source of a row, its line there, and when it was received."""
        for part in block.parts:
            if part.lines is None or row < part.lines:
                break
            row -= part.lines
        if part.first_line is not None:
            return part.source, part.first_line + row, part.received
        restarts = isinstance(block.payload, FileRange) and block.payload.start == 0
        before = 0 if restarts else self._lines_before.get(part.source, 0)
        return part.source, before + row + 1, part.received


def _writable(value: Any) -> Any:
    """Return text that JSON can hold: what is no character is spelt out."""
    return value.encode(errors="backslashreplace").decode() if isinstance(value, str) else value


def _readable(event: bytes) -> dict[str, Any]:
    """Return the event as text, or as base64 where it is none; cut if it is very long."""
    cut: dict[str, Any] = {"event_bytes": len(event)} if len(event) > EXCERPT else {}
    excerpt = event[:EXCERPT]
    try:
        text = excerpt.decode()
    except UnicodeDecodeError as error:
        if not cut or error.end < len(excerpt) or error.reason != "unexpected end of data":
            return {"event_base64": base64.b64encode(excerpt).decode()} | cut
        text = excerpt[: error.start].decode()  # the cut went through a letter
    return {"event": text} | cut
