"""Trying out the classes of users before this process loads them: in one that may hang, or end."""

from __future__ import annotations

import contextlib
import logging
import os
import time
from collections.abc import Callable, Collection, Iterable
from multiprocessing.connection import Connection
from pathlib import Path
from typing import Any, Final

from middleware.errors import ConfigurationError
from service.chain import WAYS_ON, Step
from service.child import end_child, start_child
from service.configured import BUILT_IN, checked_settings
from service.errors import Interrupted, PipelineFailed
from service.locks import STOPPED_EARLY

log = logging.getLogger(__name__)

SLOW: Final = 4.0
"""Seconds after which it is told which class keeps everything waiting."""

START_LIMIT: Final = 60.0
"""Seconds until the other process says what it is at."""

LIMIT: Final = 30.0
"""Seconds that importing one class and making its instance may take."""

_LOOK: Final = 0.05
"""Seconds between two looks whether to go on waiting."""


def try_out_classes(path: Path, without: Collection[str]) -> None:
    """Check a configuration in another process.

    Raises ConfigurationError, which names the part, only for what that process does not survive.
    """
    if failed := _not_survived("run_class_trial", (path, tuple(without)), lambda: True):
        name, problem = failed
        message = f'{path}: "{name}" {problem} as its class was tried out; {WAYS_ON.format(name)}'
        raise ConfigurationError(message)


def try_out_steps(steps: Iterable[Step], go_on: Callable[[], bool]) -> None:
    """Load steps in another process, those of the user's own classes, while ``go_on`` says yes.

    Raises PipelineFailed, which names the step, only for what that process does not survive, and
    Interrupted when ``go_on`` says no.
    """
    own = [step for step in steps if step.use not in BUILT_IN]
    if own and (failed := _not_survived("run_step_trial", own, go_on)):
        name, problem = failed
        message = (
            f"{name}: its class {problem} as it was tried out with params of before, which blocks "
            "that were accepted then, its memory or a switch need: bring the class of before back, "
            f"or let events pass it undecided: penstock run --without {name}"
        )
        raise PipelineFailed(message)
    if not go_on():
        raise Interrupted(STOPPED_EARLY)


def _not_survived(target: str, told: object, go_on: Callable[[], bool]) -> tuple[str, str] | None:
    """Run a function of this module in another process, which says the name of what it tries next.

    Returns the name of what it did not survive, and what became of it; None where it came to its
    end, or ``go_on`` said no.
    """
    try:
        process, pipe = start_child("penstock-check", None, f"service.class_trial:{target}")
    except OSError:
        return None  # too many processes: what is started next will say so
    name, problem = "", f"did not come to an end within {LIMIT:g} s"
    try:
        pipe.send(told)
        while _speaks(pipe, name, go_on):
            if (next_name := pipe.recv()) is None:
                return None
            name = next_name
    except (EOFError, OSError):
        process.join(SLOW)
        problem = f"ended its process (exit code {process.exitcode})"
    finally:
        pipe.close()
        end_child(process)
    return (name, problem) if name and go_on() else None


def _speaks(pipe: Connection, name: str, go_on: Callable[[], bool]) -> bool:
    if not name:
        return _polled(pipe, START_LIMIT, go_on)
    if _polled(pipe, SLOW, go_on):
        return True
    if go_on():
        log.warning(
            "%s: %.0f s have passed while its class was tried out; it is given %g s; to go on "
            "without it: penstock run --without %s",
            name,
            SLOW,
            LIMIT,
            name,
        )
    return _polled(pipe, LIMIT - SLOW, go_on)


def _polled(pipe: Connection, limit: float, go_on: Callable[[], bool]) -> bool:
    """Wait so many seconds for a word, while ``go_on`` says yes; say whether there is one."""
    until = time.monotonic() + limit
    while not (there := pipe.poll(min(_LOOK, limit))) and go_on() and time.monotonic() < until:
        pass
    return there


def run_class_trial(pipe: Connection) -> bool:
    """Check what is told, saying the name of each part before it; then None."""
    path, without = _told_in_silence(pipe)
    with contextlib.suppress(Exception):  # whoever waits for this does the same, and hears it
        checked_settings(path, without, trying=pipe.send)
    pipe.send(None)
    return True


def run_step_trial(pipe: Connection) -> bool:
    """Load each of the steps that are told, saying its name before it; then None."""
    for step in _told_in_silence(pipe):
        pipe.send(step.name)
        with contextlib.suppress(Exception):  # as above
            step.load()
    pipe.send(None)
    return True


def _told_in_silence(pipe: Connection) -> Any:
    """Return what is told; from then on nothing that classes print is heard."""
    null = os.open(os.devnull, os.O_WRONLY)
    for stream in (1, 2):
        os.dup2(null, stream)  # whoever waits for this does the same, and lets it be heard
    return pipe.recv()
