"""A middleware that computes: for each event, 40 ms of one core."""

from __future__ import annotations

import time

from middleware import Middleware
from middleware.contract import Event

SECONDS = 0.04


class Busy(Middleware):
    """Passes every event, after some work."""

    reads = ("cid",)

    def handle(self, event: Event) -> Event | None:
        """Take 40 ms of the core's time, not of the clock's: two cannot share a core unseen."""
        end = time.thread_time() + SECONDS
        while time.thread_time() < end:
            pass
        return event
