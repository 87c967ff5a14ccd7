"""What goes to the dead letters, by where it died: counted, and told to the log now and then."""

from __future__ import annotations

import logging
import time
from collections import Counter
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from threading import Lock
from typing import Any, Final

from service.passage import DeadLetter

log = logging.getLogger(__name__)

EVERY: Final = 60.0
"""Seconds between two words about the same place."""

NO_EVENT: Final = "no event"
"""Where lines die that are no events; no middleware can have this name."""


@dataclass(slots=True)
class Deaths:
    """How many died in one place, and the reasons of the first and the last."""

    count: int
    first: str
    last: str


class DeathNotices:
    """Counts dead letters since the start, by the middleware or sink that they died at."""

    def __init__(self) -> None:
        self._lock = Lock()
        self._deaths: dict[str, Deaths] = {}
        self._told: dict[str, tuple[int, float]] = {}

    def take(self, letters: Sequence[DeadLetter], sink: str = "") -> None:
        """Count the dead letters of a block; ``sink`` refused them, if any did."""
        counts = Counter(letter.middleware for letter in letters)
        first = {letter.middleware: letter.reason for letter in reversed(letters)}
        last = {letter.middleware: letter.reason for letter in letters}
        with self._lock:
            for name, count in counts.items():
                place = f"sink {sink}" if sink else name or NO_EVENT
                deaths = self._deaths.setdefault(place, Deaths(0, first[name], ""))
                deaths.count += count
                deaths.last = last[name]

    def describe(self) -> dict[str, dict[str, Any]]:
        """Return the ``count``, and the ``first`` and ``last`` reason, by place."""
        with self._lock:
            return {place: asdict(deaths) for place, deaths in self._deaths.items()}

    def tell(self) -> None:
        """Tell the log about each place where more died than it was told, at most once a minute."""
        now = time.monotonic()
        for place, deaths in self.describe().items():
            told, when = self._told.get(place, (0, -EVERY))
            if deaths["count"] > told and now - when >= EVERY:
                self._told[place] = (deaths["count"], now)
                log.warning(
                    "%s: %d more went to the dead letters, the last one: %s",
                    place,
                    deaths["count"] - told,
                    deaths["last"],
                )
