"""Where an event came from: its source and its line there, counted as the producer counts."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, NamedTuple

from service.block import Block, FileIdentity, FileRange


class Origin(NamedTuple):
    """Where an event came from, for its producer to find it again."""

    source: str
    line: int
    """From 1: in its file, in its post, in what its program wrote."""
    received: float
    """Seconds since the epoch."""
    path: str | None = None
    """The file, where it came from one."""


class _Reached(NamedTuple):
    """How far a source is in its present file: a byte position, and the lines before it."""

    path: str
    stop: int
    lines: int
    identity: FileIdentity | None = None


class Origins:
    """Counts lines along files, which only the emitter can: it sees the blocks in order."""

    def __init__(self, position: Mapping[str, Any] | None = None) -> None:
        """Go on from what ``position`` returned, or begin."""
        self._reached = {
            source: _Reached(**{**each, "identity": range_reached(each).identity})
            for source, each in (position or {}).items()
        }

    def origin(self, block: Block, row: int) -> Origin:
        """Return where a row of a block came from, all blocks before it having passed."""
        for part in block.parts:
            if part.lines is None or row < part.lines:
                break
            row -= part.lines
        path = block.payload.path if isinstance(block.payload, FileRange) else None
        if part.first_line is not None:
            return Origin(part.source, part.first_line + row, part.received, path)
        return Origin(part.source, self._before(block, part.source) + row + 1, part.received, path)

    def passed(self, block: Block, lines: int) -> None:
        """Count the ``lines`` of a block; told about every block, in order, after its origins."""
        if isinstance(block.payload, FileRange):
            source, payload = block.parts[0].source, block.payload
            lines += self._before(block, source)
            self._reached[source] = _Reached(payload.path, payload.stop, lines, payload.identity)

    def position(self) -> dict[str, Any]:
        """Return how far each source is in its file, as plain data.

        By the source's name: ``path``, ``stop`` (bytes), ``lines`` (before ``stop``), and the
        ``identity`` of the file.
        """
        return {source: reached._asdict() for source, reached in self._reached.items()}

    def _before(self, block: Block, source: str) -> int:
        if isinstance(block.payload, FileRange) and block.payload.start == 0:
            return 0  # the next file of the source
        return self._reached[source].lines if source in self._reached else 0


def range_reached(origin: Mapping[str, Any]) -> FileRange:
    """Return the part of its file that a source had handed in, from an entry of a position."""
    known = origin.get("identity")
    return FileRange(origin["path"], 0, origin["stop"], FileIdentity(*known) if known else None)
