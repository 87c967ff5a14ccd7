"""Makes events at a steady rate, from a job of the scheduler: for a first look, and for tests."""

from __future__ import annotations

import contextlib
import random
import time
from typing import Annotated, Final

from apscheduler.jobstores.base import JobLookupError
from pydantic import BaseModel, Field, ValidationInfo, field_validator

from service.block import Submission
from service.errors import QueueClosed
from service.settings import LEAST_INTEGER, MOST_INTEGER
from service.sources.source import Source

SHORTEST_TICK: Final = 0.1
"""Seconds between two ticks at high rates; each makes all events due since the last."""

MOST_AT_ONCE: Final = 10_000
"""Events handed in together when a tick is behind."""


Point = Annotated[int, Field(ge=LEAST_INTEGER, le=MOST_INTEGER)]


class Generator(Source):
    """Makes events of uniformly random points, with the present as their time."""

    class Params(BaseModel):
        """How many events, how fast, of which points."""

        rate: float = Field(5.0, gt=0, le=1_000_000, description="events a second")
        count: int | None = Field(None, ge=0, description="events in all; without end when absent")
        seed: int | None = Field(None, description="the same seed makes the same points")
        first: Point = Field(131_000_000_201, description="lowest point")
        last: Point = Field(131_000_001_299, description="highest point")

        @field_validator("last")
        @classmethod
        def _upwards(cls, last: int, info: ValidationInfo) -> int:
            if last < info.data.get("first", last):
                raise ValueError(f"expected first, {info.data['first']}, or more")
            return last

    def start(self) -> None:
        """Add the job to the scheduler."""
        scheduler = self.surroundings.scheduler
        if scheduler is None:
            raise RuntimeError("the generator needs the daemon's scheduler")
        self._random = random.Random(self.params.seed)  # noqa: S311 - not cryptography
        self._made = 0
        self._began = time.monotonic()
        # A late tick makes up for those it missed: one pending run is enough, none is too late.
        scheduler.add_job(
            id=f"source {self.name}",
            func=self._tick,
            trigger="interval",
            seconds=max(SHORTEST_TICK, 1 / self.params.rate),
            coalesce=True,
            max_instances=1,
            misfire_grace_time=None,
        )

    def stop(self) -> None:
        """Take the job out of the scheduler."""
        self._remove_job()

    def _tick(self) -> None:
        due = int((time.monotonic() - self._began) * self.params.rate)
        if self.params.count is not None:
            due = min(due, self.params.count)
        try:
            while self._made < due and not self.finished.is_set():
                self._make(min(MOST_AT_ONCE, due - self._made))
        except QueueClosed:
            return
        if self._made == self.params.count:
            self._remove_job()

    def _make(self, number: int) -> None:
        point, now = self._random.randint, time.time()
        first, last = self.params.first, self.params.last
        lines = [f'{{"cid":{point(first, last)},"time":{now:.6f}}}\n' for _ in range(number)]
        self.submit(Submission.of_lines(self.name, "".join(lines).encode(), self._made + 1))
        self._made += number

    def _remove_job(self) -> None:
        if not self.finished.is_set() and self.surroundings.scheduler is not None:
            self.finished.set()
            with contextlib.suppress(JobLookupError):  # the tick and stop may both come here
                self.surroundings.scheduler.remove_job(f"source {self.name}")
