"""Finding the event that ends processes: what the deaths over one block have shown."""

from __future__ import annotations

import logging
from collections import Counter
from typing import Final

from service.answer import Blame, Failure
from service.progress import ASKING, BATCH, NOTHING, RAISED, Place

log = logging.getLogger(__name__)

CARELESS_DEATHS: Final = 2
"""Deaths over one block after which its events are read and asked one by one."""


class Suspicion:
    """What is held against the events of one block; after bounded attempts one fails alone."""

    def __init__(self) -> None:
        self._careful = False
        self._deaths = 0
        self._suspects: Counter[tuple[int, int]] = Counter()
        self._failed: dict[int, dict[int, Failure]] = {}

    def learn(self, place: Place, how: str, retries: int) -> None:
        """Learn from a death at ``place``; ``how`` is the reason, should the event fail for it."""
        self._deaths += 1
        if place.position == RAISED or self._deaths >= CARELESS_DEATHS:
            self._careful = True
        if place.position in {NOTHING, ASKING, BATCH, RAISED}:
            return
        culprit = (place.step, place.position)
        self._suspects[culprit] += 1
        attempts = self._suspects[culprit]
        if attempts > retries:
            self._failed.setdefault(place.step, {})[place.position] = Failure(how, attempts)
            log.error(
                "block %s: an event %s %s times and goes to the dead letters",
                place.block,
                how,
                attempts,
            )

    def blame(self) -> Blame:
        """Return what the next attempt is to know; it does not change any more."""
        return Blame(self._careful, {step: dict(at) for step, at in self._failed.items()})
