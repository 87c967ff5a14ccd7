"""A sink that fails as often as it is told to, and an emitter's patience that takes no time."""

from __future__ import annotations

import errno
import os
from threading import Event
from unittest.mock import patch

from service.sinks.ndjson import NdjsonSink
from service.sinks.sink import Emission


class Impatient(Event):
    """Pauses between two attempts are none: what fails here fails a given number of times."""

    def wait(self, timeout: float | None = None) -> bool:
        return self.is_set() if timeout is not None else super().wait(timeout)


class FailingSink(NdjsonSink):
    """The real sink, which fails as often as it is told to, half of the lines being written."""

    failures = 0

    def write(self, emission: Emission) -> None:
        if not self.failures:
            super().write(emission)
            return
        self.failures -= 1
        real = os.write

        def half(descriptor: int, data: bytes) -> int:
            real(descriptor, bytes(data)[: len(data) // 2])
            raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))

        with patch("os.write", half):
            super().write(emission)
