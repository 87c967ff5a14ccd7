"""What a user's first middleware looks like: asked event by event, without memory."""

from __future__ import annotations

from middleware import Middleware
from middleware.contract import Event


class EveryThird(Middleware):
    """Drops the events of every third point."""

    reads = ("cid",)

    def handle(self, event: Event) -> Event | None:
        """Drop the event if its point's number is a multiple of three."""
        return event if event["cid"] % 3 else None
