"""What child processes print, line by line in the log of the daemon."""

from __future__ import annotations

import logging
import os
from multiprocessing.connection import Connection
from threading import Thread
from typing import Final

log = logging.getLogger(__name__)

LAST_LINES: Final = 1.0
"""Seconds that a dead child's last lines are waited for: a process of its own may hold the pipe."""

LONGEST: Final = 65_536
"""Bytes of a line; what is longer becomes several."""


class ChildOutput:
    """Logs what a child writes to its standard output and error, until its end."""

    def __init__(self, name: str, pipe: Connection) -> None:
        """Read from our end of the child's pipe, in a thread."""
        self._name = name
        self._pipe = pipe
        self._thread = Thread(target=self._read, name=f"output of {name}", daemon=True)
        self._thread.start()

    def finish(self) -> None:
        """Wait for the last lines of a child that is dead."""
        self._thread.join(LAST_LINES)

    def _read(self) -> None:
        rest = b""
        with self._pipe:
            while data := os.read(self._pipe.fileno(), LONGEST):
                *lines, rest = (rest + data).split(b"\n")
                for line in lines:
                    self._log(line)
                if len(rest) >= LONGEST:
                    self._log(rest)
                    rest = b""
        if rest:
            self._log(rest)

    def _log(self, line: bytes) -> None:
        text = line.decode(errors="backslashreplace").rstrip("\r")
        # ``before`` is for logs that are plain text, ``process`` for those that are JSON.
        log.warning("%s", text, extra={"process_title": self._name, "before": f"{self._name}: "})
