"""Drops the events of listed points: the smallest useful middleware, and an example to copy."""

from __future__ import annotations

from typing import Annotated

import numpy as np
from pydantic import BaseModel, Field

from middleware.contract import Batch, Event, Mask, Middleware

Point = Annotated[int, Field(ge=-(2**63), lt=2**63)]


class Blocklist(Middleware):
    """Drops the events of listed points."""

    reads = ("cid",)

    class Params(BaseModel):
        """Which points are blocked."""

        cids: frozenset[Point] = Field(description="points whose events are dropped")

    def open(self) -> None:
        """Lay the points out for the batch form."""
        self._blocked = np.fromiter(self.params.cids, np.int64)

    def handle(self, event: Event) -> Event | None:
        """Drop the event of a listed point."""
        return None if event["cid"] in self.params.cids else event

    def handle_batch(self, batch: Batch) -> Mask:
        """Keep the events of all other points."""
        return np.isin(batch.cid, self._blocked, invert=True)

    def explain(self, event: Event) -> str | None:
        """Name the listed point."""
        cid = event["cid"]
        return f"point {cid} is on the blocklist" if cid in self.params.cids else None
