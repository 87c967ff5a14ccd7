"""Segments that stay open, so that reading on needs no opening."""

from __future__ import annotations

from collections import OrderedDict
from pathlib import Path
from typing import Final

from service.journal.files import path_of
from service.journal.segment import Segment

MOST: Final = 16
"""Segments that stay open; the one that was not read for longest makes room."""


class SegmentCache:
    """Opens sealed segments of a journal to read; one thread at a time."""

    def __init__(self, directory: Path) -> None:
        self._directory = directory
        self._segments: OrderedDict[int, Segment] = OrderedDict()

    def get(self, first: int) -> Segment:
        """Return the segment that begins with a sequence."""
        if first not in self._segments:
            self._segments[first] = Segment.to_read(path_of(self._directory, first), last=False)
            if len(self._segments) > MOST:
                self._segments.popitem(last=False)[1].close()
        self._segments.move_to_end(first)
        return self._segments[first]

    def drop(self, first: int) -> None:
        """Close a segment if it is open."""
        if segment := self._segments.pop(first, None):
            segment.close()

    def close(self) -> None:
        """Close all segments."""
        for first in list(self._segments):
            self.drop(first)
