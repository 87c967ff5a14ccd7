"""Writes the kept lines to standard output, byte for byte as they came."""

from __future__ import annotations

import os
from typing import Any

from service import standard_output
from service.errors import PipelineFailed
from service.sinks.sink import Emission, Sink


class StdoutSink(Sink):
    """Writes the kept lines to standard output, byte for byte as they came; at least once.

    What was written cannot be taken back: a write that failed half way goes on where it failed.
    """

    def __init__(self, params: Any) -> None:
        super().__init__(params)
        self._rest: tuple[int, memoryview] | None = None  # of the block that could not be finished

    def writes(self) -> list[str]:
        """Return its name."""
        return ["standard output"]

    def write(self, emission: Emission) -> None:
        """Write the lines; raises PipelineFailed when nobody reads them any more."""
        rest = memoryview(emission.lines)
        if self._rest is not None and self._rest[0] == emission.block:
            rest = self._rest[1]
        try:
            while rest:
                rest = rest[os.write(standard_output.descriptor(), rest) :]
        except BrokenPipeError:
            message = "standard output was closed; restart with a reader or with another sink"
            raise PipelineFailed(message) from None
        finally:
            self._rest = (emission.block, rest)
