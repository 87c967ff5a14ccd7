"""What code of a user's the daemon was in when it ended without a word, told by its next start.

A class may end its process (``os._exit``, a crash in a library), and then nobody there can tell. So
the calls are noted in memory that is a file's: it outlives the process.
"""

from __future__ import annotations

import logging
import mmap
import os
from collections.abc import Callable
from contextlib import suppress
from functools import partial
from pathlib import Path
from typing import Final

from middleware.wording import printable

log = logging.getLogger(__name__)

Note = Callable[[str], None]

NAME: Final = "last-calls"

LENGTH: Final = 256
"""Bytes of each note."""

MOST: Final = 64
"""Callers that are noted; of more nothing is told."""


class LastCalls:
    """Notes in a state directory, removed when the run ends as it should."""

    def __init__(self, directory: Path) -> None:
        """Make room for the notes; where there is none, nothing will be told."""
        self._path = directory / NAME
        try:
            self._path.unlink(missing_ok=True)  # told when the directory was locked
            file = os.open(self._path, os.O_RDWR | os.O_CREAT | os.O_EXCL, 0o600)
            try:
                os.posix_fallocate(file, 0, MOST * LENGTH)  # else a full disk would end the process
                self._notes = mmap.mmap(file, MOST * LENGTH)
            finally:
                os.close(file)
        except OSError:
            self._notes = mmap.mmap(-1, MOST * LENGTH)
        self._free = iter(range(0, MOST * LENGTH, LENGTH))

    def caller(self, name: str, part: object) -> Note:
        """Return what notes the method that a part is in from now on; an empty one: in none.

        Of the classes that come with Penstock nothing is noted.
        """
        own = not type(part).__module__.startswith("service.")
        start = next(self._free, None) if own else None
        return ignore if start is None else partial(self._note, start, name)

    def remove(self) -> None:
        """Leave nothing to be told: the run ended as it should."""
        with suppress(OSError):
            self._path.unlink()

    def _note(self, start: int, name: str, method: str) -> None:
        text = f"{name}\n{method}".encode()[:LENGTH] if method else b""
        self._notes[start : start + LENGTH] = text.ljust(LENGTH, b"\0")


def ignore(method: str) -> None:
    """Note nothing."""


def tell_last_calls(directory: Path) -> None:
    """Log what a run that did not end as it should was in, by what it left behind."""
    try:
        notes = (directory / NAME).read_bytes()
    except OSError:
        return
    for start in range(0, len(notes), LENGTH):
        text = notes[start : start + LENGTH].rstrip(b"\0").decode(errors="replace")
        name, _, method = map(printable, text.partition("\n"))
        if method:
            log.warning(
                'the last run ended in %s() of "%s": unless it was killed, that class ended it; '
                "mend the class, or go on without it: penstock run --without %s",
                method,
                name,
                name,
            )
