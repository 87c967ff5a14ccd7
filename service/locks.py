"""A lock that another process holds on a file delays a start, and does not end it."""

from __future__ import annotations

import logging
import time
from collections.abc import Callable
from typing import Final, TypeVar

from service.errors import Interrupted, StorageBusy

log = logging.getLogger(__name__)

STOPPED_EARLY: Final = "stopped before it was ready: the next start goes on with what was accepted"

LOCK_LOOK: Final = 0.2
"""Seconds between two looks whether another process still holds a lock at the start."""

_Made = TypeVar("_Made")


def once_unlocked(attempt: Callable[[], _Made], go_on: Callable[[], bool] = lambda: True) -> _Made:
    """Return what ``attempt`` returns, which is called until it meets no lock.

    It must have changed nothing where it raises StorageBusy; that is told once. Raises Interrupted
    when ``go_on`` says no.
    """
    told = False
    while True:
        try:
            return attempt()
        except StorageBusy as error:
            if not told:
                log.warning("%s; the start waits for that", error)
                told = True
        if not go_on():
            raise Interrupted(STOPPED_EARLY)
        time.sleep(LOCK_LOOK)
