"""Threads that do not die in silence."""

from __future__ import annotations

import logging
from collections.abc import Callable
from threading import Thread
from typing import Final

from middleware.errors import PenstockError, in_words

log = logging.getLogger(__name__)

LONGEST_PAUSE: Final = 5.0
"""Seconds at most between two attempts at what may work again."""


def start_thread(name: str, target: Callable[[], None], failed: Callable[[str], None]) -> Thread:
    """Start a thread; what ``target`` raises is reported to ``failed``."""

    def run() -> None:
        try:
            target()
        except PenstockError as error:
            failed(str(error))
        except BaseException as error:  # an exit ends a thread in silence
            failed(f"{name}: {in_words(error)}")  # first: a log may hold it up
            log.critical("%s: unexpected error", name, exc_info=True)

    thread = Thread(target=run, name=name, daemon=True)
    thread.start()
    return thread


def ended(thread: Thread | None, limit: float) -> bool:
    """Wait for the end of a thread, ``limit`` seconds at most; say whether it is there.

    What was never started (None) is at its end.
    """
    if thread is None:
        return True
    thread.join(max(0.0, limit))
    return not thread.is_alive()


class Backoff:
    """How long to wait before the next attempt: not at all, then ever longer."""

    def __init__(self) -> None:
        self.pause = 0.0
        """Seconds."""

    def grow(self) -> None:
        """Wait longer: the attempt failed."""
        self.pause = min(LONGEST_PAUSE, 2 * self.pause + 0.1)

    def grow_at_once(self) -> None:
        """Wait for as long as one ever does: it will take a while to pass."""
        self.pause = LONGEST_PAUSE

    def reset(self) -> None:
        """Wait no more: it worked."""
        self.pause = 0.0


class Ending:
    """Ends the parts of something, one after the other."""

    def __init__(self) -> None:
        self.at = ""
        """The part that is about to end."""
        self.stuck: list[str] = []
        """The parts that did not end within their limit."""

    def end(self, part: str, end: Callable[[], bool | None]) -> bool:
        """End a part by a function that says no if it could not; say whether it ended."""
        self.at = part
        done = end() is not False
        if not done:
            self.stuck.append(part)
        return done
