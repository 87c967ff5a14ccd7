"""A file that takes nothing in until it is told to, as a disk that hangs."""

from __future__ import annotations

from threading import Event
from typing import Any

from service.errors import SinkFailed
from service.sinks.ndjson import NdjsonSink
from service.sinks.sink import Emission

OPEN = Event()
"""While it is not set, nothing is written."""


class StuckSink(NdjsonSink):
    """The real sink, which fails while it is not open."""

    def write(self, emission: Emission) -> None:
        if not OPEN.is_set():
            raise SinkFailed("stuck")
        super().write(emission)


class MortalSink(NdjsonSink):
    """The real sink, which takes in so many writes in one life."""

    WRITES = 80

    def __init__(self, params: Any) -> None:
        super().__init__(params)
        self._left = self.WRITES

    def write(self, emission: Emission) -> None:
        if not self._left:
            raise SinkFailed("the next write would be the last")
        self._left -= 1
        super().write(emission)
