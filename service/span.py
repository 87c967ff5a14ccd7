"""A range of accepted events, from one offset or moment to another, and what a block has of it."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, replace
from typing import NamedTuple

from service.block import Block, Offset, Part
from service.journal.row import Entry


class Piece(NamedTuple):
    """Consecutive lines of a block, from ``row`` on, all ``within`` the span or all outside."""

    block: Block
    row: int
    within: bool


@dataclass(frozen=True, slots=True)
class Span:
    """From where to where, both included: offsets, or times of acceptance in seconds."""

    start: Offset | float | None = None
    stop: Offset | float | None = None

    def ends_before(self, entry: Entry) -> bool:
        """Say whether every event of an entry lies after the end."""
        if isinstance(self.stop, float):
            return entry.time > self.stop
        return self.stop is not None and entry.block > self.stop.block

    def begins_after(self, entry: Entry) -> bool:
        """Say whether every event of an entry lies before the beginning."""
        if isinstance(self.start, float):
            return entry.time < self.start
        return self.start is not None and entry.block < self.start.block

    def pieces(self, entry: Entry, block: Block) -> Iterator[Piece]:
        """Yield the block of an entry, cut where the span begins and ends, if it does so there.

        What lies behind its end is left out.

        Raises PipelineFailed when it is to be cut and its file is no longer there.
        """
        if self.ends_before(entry) or self.begins_after(entry):
            yield Piece(block, 0, within=False)
            return
        first = _row_in(self.start, entry) or 0
        last_row = _row_in(self.stop, entry)
        stop = None if last_row is None else last_row + 1
        if not first and stop is None:
            yield Piece(block, 0, within=True)
            return
        lines = _lines(block)
        for begin, end, within in ((0, first, False), (first, stop, True)):
            if kept := lines[begin:end]:
                parts = _parts(block.parts, begin, begin + len(kept))
                yield Piece(replace(block, payload=b"".join(kept), parts=parts), begin, within)


def _row_in(place: Offset | float | None, entry: Entry) -> int | None:
    """Return the row of a place that lies in the block of an entry."""
    return place.row if isinstance(place, Offset) and place.block == entry.block else None


def _lines(block: Block) -> list[bytes]:
    """Return the lines of a block, each with its line end."""
    return [line + b"\n" for line in block.read().split(b"\n")[:-1]]


def _parts(parts: tuple[Part, ...], begin: int, end: int) -> tuple[Part, ...]:
    """Return the parts of some lines of a block; a part that does not know its lines is alone."""
    cut = []
    row = 0
    for part in parts:
        if part.lines is None:
            return parts
        lines = min(end, row + part.lines) - max(begin, row)
        if lines > 0:
            cut.append(replace(part, lines=lines))
        row += part.lines
    return tuple(cut)
