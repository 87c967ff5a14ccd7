"""Which step's own code keeps a child process from its work, and what can be done about it."""

from __future__ import annotations

import logging
import time
from collections.abc import Callable, Sequence
from multiprocessing.connection import Connection
from typing import Final

from service.chain import WAYS_ON, Step
from service.progress import BATCH, KEEPING, OPENING, RAISED, RESTORING, Place

log = logging.getLogger(__name__)

SLOW: Final = 4.0
"""Seconds after which it is told what a start waits for; then after twice as long each."""

_DONE: Final = {
    OPENING: "was opened",
    KEEPING: "was asked for its memory (snapshot)",
    RESTORING: "took its memory over (restore)",
}


def culprit(places: Sequence[Place], steps: Sequence[Step]) -> str | None:
    """Return the name of a step that is at something that it does apart from events."""
    return next((steps[place.step].name for place in places if place.position in _DONE), None)


def doing(places: Sequence[Place], steps: Sequence[Step]) -> str:
    """Return what that step is at, as the end of a sentence; empty if there is none."""
    for place in places:
        if place.position in _DONE:
            return f" while {steps[place.step].name} {_DONE[place.position]}"
    return ""


def handling(places: Sequence[Place], steps: Sequence[Step]) -> str:
    """Return which steps are at events, as the end of a sentence; empty if none is."""
    at = [
        f"{steps[place.step].name} handled block {place.block}"
        for place in places
        if place.step >= 0 and (place.position >= 0 or place.position in {BATCH, RAISED})
    ]
    return f" while {' and '.join(at)}" if at else ""


def doing_and_ways_on(places: Sequence[Place], steps: Sequence[Step]) -> str:
    """Return the same, and what to do about the step."""
    name = culprit(places, steps)
    return "" if name is None else f"{doing(places, steps)}; {WAYS_ON.format(name)}"


def speaks(
    pipe: Connection,
    who: str,
    places: Callable[[], Sequence[Place]],
    steps: Sequence[Step],
    limit: float,
) -> bool:
    """Wait ``limit`` seconds until a child says whether it is ready; say whether it did.

    Meanwhile the log tells which step it waits for.
    """
    began, wait = time.monotonic(), SLOW
    while not pipe.poll(min(wait, limit)):
        took = time.monotonic() - began
        if took >= limit:
            return False
        if name := culprit(places(), steps):
            log.warning(
                "%s is not ready: %.0f s have passed%s; it is given %g s; to go on without it: "
                "penstock run --without %s",
                who,
                took,
                doing(places(), steps),
                limit,
                name,
            )
        wait = min(took, limit - took)
    return True
