"""Writes the kept lines to standard output, byte for byte as they came."""

from __future__ import annotations

import sys

from service.errors import PipelineFailed
from service.sinks.ndjson import write_all
from service.sinks.sink import Sink


class StdoutSink(Sink):
    """Writes the kept lines to standard output, byte for byte as they came."""

    def write(self, lines: bytes) -> None:
        """Write lines; raises PipelineFailed when nobody reads them any more."""
        try:
            write_all(sys.stdout.fileno(), lines)
        except BrokenPipeError:
            message = "standard output was closed; restart with a reader or with another sink"
            raise PipelineFailed(message) from None
