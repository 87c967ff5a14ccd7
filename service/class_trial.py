"""Trying out the classes of users before this process loads them: in one that may hang, or end."""

from __future__ import annotations

import contextlib
import logging
import os
from collections.abc import Collection
from multiprocessing.connection import Connection
from pathlib import Path
from typing import Final

from middleware.errors import ConfigurationError
from service.chain import WAYS_ON
from service.child import end_child, start_child
from service.configured import checked_settings

log = logging.getLogger(__name__)

SLOW: Final = 4.0
"""Seconds after which it is told which class keeps everything waiting."""

START_LIMIT: Final = 60.0
"""Seconds until the other process says what it is at."""

LIMIT: Final = 30.0
"""Seconds that importing one class and making its instance may take."""


def try_out_classes(path: Path, without: Collection[str]) -> None:
    """Check a configuration in another process.

    Raises ConfigurationError, which names the part, only for what that process does not survive.
    """
    try:
        process, pipe = start_child("penstock-check", None, "service.class_trial:run_class_trial")
    except OSError:
        return  # too many processes: what is started next will say so
    name, problem = "", f"did not come to an end within {LIMIT:g} s"
    try:
        pipe.send((path, tuple(without)))
        while _speaks(pipe, name):
            if (told := pipe.recv()) is None:
                return
            name = told
    except (EOFError, OSError):
        process.join(SLOW)
        problem = f"ended its process (exit code {process.exitcode})"
    finally:
        pipe.close()
        end_child(process)
    if name:
        message = f'{path}: "{name}" {problem} as its class was tried out; {WAYS_ON.format(name)}'
        raise ConfigurationError(message)


def _speaks(pipe: Connection, name: str) -> bool:
    if not name:
        return pipe.poll(START_LIMIT)
    if pipe.poll(SLOW):
        return True
    log.warning(
        "%s: %.0f s have passed while its class was tried out; it is given %g s; to go on "
        "without it: penstock run --without %s",
        name,
        SLOW,
        LIMIT,
        name,
    )
    return pipe.poll(LIMIT - SLOW)


def run_class_trial(pipe: Connection) -> bool:
    """Check what is told, saying the name of each part before it; then None."""
    null = os.open(os.devnull, os.O_WRONLY)
    for stream in (1, 2):
        os.dup2(null, stream)  # whoever waits for this does the same, and lets it be heard
    path, without = pipe.recv()
    with contextlib.suppress(Exception):  # as above
        checked_settings(path, without, trying=pipe.send)
    pipe.send(None)
    return True
