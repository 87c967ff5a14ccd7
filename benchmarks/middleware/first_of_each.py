"""A user's middleware with a memory: asked event by event, in the state host."""

from __future__ import annotations

from typing import Any

from middleware import SharedMiddleware
from middleware.contract import Event


class FirstOfEach(SharedMiddleware):
    """Passes the first event of each point."""

    reads = ("cid",)

    def open(self) -> None:
        """Begin with nothing seen."""
        self._seen: set[int] = set()

    def handle(self, event: Event) -> Event | None:
        """Drop the event if its point had one before."""
        cid = event["cid"]
        if cid in self._seen:
            return None
        self._seen.add(cid)
        return event

    def snapshot(self) -> Any:
        """Return the points seen."""
        return sorted(self._seen)

    def restore(self, state: Any) -> None:
        """Take over the points seen."""
        self._seen = set(state)
