"""A file that takes nothing in until it is told to, as a disk that hangs."""

from __future__ import annotations

from threading import Event

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
