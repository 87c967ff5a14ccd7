"""Bounds the bodies of all requests together, as long as they are in memory and not handled yet.

Beyond the bound only the oldest unfinished one is still read, and the others when it is their turn.
So one always gets on, as long as its producer sends; and one whose producer does not is given up.
"""

from __future__ import annotations

import time
from threading import Lock
from typing import Final, Protocol

MOST_BYTES: Final = 2**25
"""Bytes of all bodies together, or of the two largest ones."""

SLOW: Final = 5.0
"""Seconds that the oldest body may take to arrive while the others wait for it."""


class Sender(Protocol):
    """A connection."""

    @property
    def unfinished(self) -> bool:
        """Say whether its body is not all there yet."""

    def give_up(self) -> None:
        """Refuse its request."""


class Bodies:
    """Who holds how much: a connection's body counts from its first byte until it was handled."""

    def __init__(self, longest: int) -> None:
        """Hold at most ``MOST_BYTES``, and two bodies of ``longest`` bytes in any case."""
        self._most = max(MOST_BYTES, 2 * longest)
        self._held: dict[Sender, int] = {}
        self._total = 0
        self._lock = Lock()
        self._awaited: Sender | None = None
        self._since = 0.0

    def hold(self, sender: Sender, size: int) -> None:
        """Take note of how large a body is by now."""
        with self._lock:
            self._total += size - self._held.get(sender, 0)
            self._held[sender] = size

    def release(self, sender: Sender) -> None:
        """Forget a body, if it was large enough to be counted."""
        if sender not in self._held:
            return
        with self._lock:
            self._total -= self._held.pop(sender, 0)

    def holds_back(self, sender: Sender) -> bool:
        """Say whether no more of an unfinished body may be read now."""
        return self._total >= self._most and sender is not self._oldest()

    def slow(self) -> Sender | None:
        """Return who has kept the others waiting for too long; asked once a second."""
        oldest = self._oldest() if self._total >= self._most else None
        now = time.monotonic()
        if oldest is not self._awaited:
            self._awaited, self._since = oldest, now
        return oldest if now - self._since >= SLOW else None

    def _oldest(self) -> Sender | None:
        """Return who began the oldest unfinished body."""
        with self._lock:
            return next((sender for sender in self._held if sender.unfinished), None)
