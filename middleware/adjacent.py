"""Drops an event when its point or a neighbour had one shortly before."""

from __future__ import annotations

import logging
from typing import Annotated, Any, ClassVar, Final, Literal, Self

import msgspec
import numpy as np
from pydantic import AfterValidator, BaseModel, Field, model_validator

from middleware.contract import Batch, Event, Mask, SharedMiddleware
from middleware.errors import ContractError
from middleware.forgetting import MOST_SAMPLED, Cycle
from middleware.meeting import to_walk, with_earlier
from middleware.memories import Memories, OneMemory, SeparateMemories
from middleware.near_rows import NearRows
from middleware.parameters import SomeSeconds
from middleware.point_times import HIGHEST_POINT, LOWEST_POINT, NEVER, Points, Times
from middleware.touched import Touched

log = logging.getLogger(__name__)

FORMAT: Final = 3
FORMATS: Final = (2, FORMAT)
"""Those that ``restore`` takes: 2 knew no cycles and nothing beyond its memories."""

NO_ROWS: Points = np.empty(0, np.int64)


def _other_fields(names: tuple[str, ...]) -> tuple[str, ...]:
    if len(set(names)) < len(names) or {"cid", "time"} & set(names):
        raise ValueError("expected different fields, other than cid and time")
    return names


class AdjacentSuppressor(SharedMiddleware):
    """Suppresses the events that follow another one nearby, in time and in points.

    An event's reference is the largest time remembered for any point within ``radius`` of its own;
    its age is its time less the reference. It is suppressed when ``-window < age < window``. An
    event of age ``-window`` or less is late. Only event time counts, no clock.

    Invariants:

    - A remembered time never falls: a late event does not lower it.
    - What is forgotten, and when, follows from the sequence of events alone, however it is cut into
      batches. Events are counted in cycles of ``LEAST_CYCLE`` or a quarter of the points
      remembered, whichever is more. At the end of each, where more than ``remember`` points are
      remembered, all times more than two windows before the one that the stream has come to (see
      ``Cycle``) are forgotten; and where more than ``most`` are left, those touched longest ago.
      Memories separated by ``by`` are counted together and share the cycle.
    - While no more than ``remember`` points are remembered at a cycle's end, every decision is that
      of an unlimited memory.
    - What raises does so before anything is remembered.
    """

    LEAST_CYCLE: ClassVar[int] = 65_536
    MOST_SAMPLED: ClassVar[int] = MOST_SAMPLED
    FEW: ClassVar[int] = 16
    """Fewer events than this are decided one by one: columns are not worth their fixed cost."""

    class Params(BaseModel):
        """How near is near."""

        window: SomeSeconds = Field(default=300.0, description="how near in time is near")
        radius: int = Field(
            default=1, ge=0, le=1000, strict=True, description="how far away a neighbour may be"
        )
        refresh: Literal["seen", "kept"] = Field(
            default="seen", description="remember every event, or only those kept"
        )
        late: Literal["keep", "suppress"] = Field(
            default="keep", description="what to do with an event a window or more behind"
        )
        by: Annotated[tuple[str, ...], AfterValidator(_other_fields)] = Field(
            default=(),
            max_length=16,
            description="fields; events with different values there do not meet",
        )
        remember: int = Field(
            default=250_000,
            ge=0,
            strict=True,
            description="up to so many points, all stay",
        )
        most: int = Field(
            default=10_000_000,
            ge=1,
            strict=True,
            description="points; beyond, those idle longest go",
        )

        @model_validator(mode="after")
        def _bounds(self) -> Self:
            if self.remember > self.most:
                more = f"remember ({self.remember}) is more than most ({self.most})"
                raise ValueError(f"{more}: lower the one or raise the other")
            return self

    params: Params
    _touched: Touched | None

    def __init__(self, params: Params) -> None:
        super().__init__(params)
        self._start_anew()

    @property
    def reads(self) -> tuple[str, ...]:
        """The point, the time and the fields that separate memories."""
        return ("cid", "time", *self.params.by)

    def open(self) -> None:
        """Keep the memory, unless ``by`` was changed: then nothing remembered applies any more."""
        if self._by != self.params.by:
            self._start_anew()

    def handle(self, event: Event) -> Event | None:
        """Drop the event if something nearby happened shortly before."""
        value = self._value([event.get(name) for name in self._by])
        return event if self._decide(event["cid"], float(event["time"]), value) else None

    def handle_batch(self, batch: Batch) -> Mask:
        """Decide as ``handle`` does, in columns unless events are few or have separate memories."""
        if self._by or len(batch) < self.FEW:
            fields = [batch[name] for name in self._by]
            values = [self._value([field[row] for field in fields]) for row in range(len(batch))]
            events = zip(batch.cid.tolist(), batch.time.tolist(), values, strict=True)
            return np.array([self._decide(*event) for event in events], np.bool_)
        keep = np.empty(len(batch), np.bool_)
        start = 0
        while start < len(batch):
            rows = slice(start, start + self._cycle.left)
            cid, time = batch.cid[rows], batch.time[rows]
            keep[rows] = self._decide_together(cid, time)
            start += len(cid)
            if self._touched is not None:
                self._touched.passed(len(cid))
            if self._cycle.count(time):
                self._end_cycle()
        return keep

    def explain(self, event: Event) -> str | None:
        """Name the neighbour that suppresses the event, its time, and the event's age."""
        value = self._value([event.get(name) for name in self._by])
        cid, time = event["cid"], float(event["time"])
        memory = self._memories.of(value)
        near = max(self._within_radius(cid), key=lambda point: memory.get(point, NEVER))
        latest = memory.get(near, NEVER)
        age = time - latest
        if self._keeps(age):
            return None
        who = f"point {cid} itself" if near == cid else f"neighbouring point {near}"
        window = f"the window of {self.params.window} s"
        if age <= -self.params.window:
            return f"{who} was at {latest}: {-age} s later, late by {window} or more"
        return f"{who} was at {latest}: age {age} s, within {window}"

    def snapshot(self) -> dict[str, Any]:
        """Return the memory, and where the cycle of forgetting stands."""
        return {
            "format": FORMAT,
            "by": list(self._by),
            "cycle": self._cycle.state(),
            "memories": self._memories.packed(),
            "touched": None if self._touched is None else self._touched.state(),
        }

    def restore(self, state: Any) -> None:
        """Take over a snapshot; one taken with another ``by`` leaves the memory empty.

        A snapshot of an earlier format begins a cycle. Raises ContractError when it is none.
        """
        found = state.get("format") if isinstance(state, dict) else None
        if found not in FORMATS:
            message = (
                f"a snapshot of AdjacentSuppressor has format {FORMAT}, this has {found!r}: "
                "restore it with the version of Penstock that wrote it"
            )
            raise ContractError(message)
        self._start_anew()
        if tuple(state["by"]) != self._by:
            return
        self._memories.unpack(state["memories"])
        if found == FORMAT:
            self._cycle.restore(state["cycle"])
            if state["touched"] is not None:
                self._touched = Touched(type(self._memories))
                self._touched.restore(state["touched"])
        else:
            self._cycle.begin(max(self.LEAST_CYCLE, len(self._memories) // 4))

    @classmethod
    def keeps_memory(cls, before: BaseModel, after: BaseModel) -> bool:
        """Say whether ``by`` is the same: points that differ there do not meet."""
        return bool(getattr(before, "by", ()) == getattr(after, "by", ()))

    def _start_anew(self) -> None:
        self._near_rows = NearRows()
        self._by: tuple[str, ...] = self.params.by
        one = OneMemory()
        self._table = one.table
        self._memories: Memories = SeparateMemories() if self._by else one
        self._cycle = Cycle(self.LEAST_CYCLE, self.MOST_SAMPLED)
        self._touched = None
        self._left = 0  # after the last cycle, or fewer: nothing is forgotten in between

    def __len__(self) -> int:
        """Return how many points are remembered; with ``by``, in all memories together."""
        return len(self._memories)

    @property
    def nbytes(self) -> int:
        """The bytes that the memory takes; without ``by``."""
        return self._table.nbytes

    @staticmethod
    def _value(fields: list[Any]) -> bytes:
        """Return the name of the memory for these values: their canonical JSON."""
        return msgspec.json.encode(fields, order="sorted")

    def _within_radius(self, cid: int) -> range:
        radius = self.params.radius
        return range(max(cid - radius, LOWEST_POINT), min(cid + radius, HIGHEST_POINT) + 1)

    def _keeps(self, age: float) -> bool:
        window = self.params.window
        return age >= window or (age <= -window and self.params.late == "keep")

    def _decide(self, cid: int, time: float, value: bytes) -> bool:
        """Decide about one event and remember it; where nothing is near, the age is infinite."""
        memory = self._memories.of(value)
        age = time - max(memory.get(point, NEVER) for point in self._within_radius(cid))
        keep = self._keeps(age)
        if age <= -self.params.window:
            self.count("late")
        if keep or self.params.refresh == "seen":
            self._memories.raise_one(value, cid, time)
            if self._touched is not None:
                self._touched.note_one(value, cid)
        if self._touched is not None:
            self._touched.passed(1)
        if self._cycle.count_one(time):
            self._end_cycle()
        return keep

    def _decide_together(self, cid: Points, time: Times) -> Mask:
        """Decide about n events between two forgettings and remember them.

        Each is decided by what was remembered before all of them, except where an earlier one of
        them could change that: those few are walked through in order.
        """
        window, radius = self.params.window, self.params.radius
        seen = self.params.refresh == "seen"
        pages = self._table.find(cid)
        latest = self._table.latest(cid, pages, radius)
        with np.errstate(over="ignore"):  # an age beyond the largest float is infinite
            age = time - latest
            # Suppressed for good: nearer events make the age smaller, but none makes it late.
            behind = time - np.maximum.accumulate(time)
            settled = (age < window) & (age > -window) & (behind > -window)
            rows = self._near_rows.find(cid, radius) if not settled.all() else NO_ROWS
            few = with_earlier(cid[rows], time[rows], latest[rows], radius) if seen else None
            if few is None:
                rows = rows[to_walk(cid[rows], settled[rows], radius, seen=seen)]
                few = self._walk(cid[rows], time[rows], latest[rows])
            if len(rows):
                latest[rows] = few
                age = time - latest
        late = age <= -window
        keep: Mask = age >= window
        if late.any():
            self.count("late", int(np.count_nonzero(late)))
            if self.params.late == "keep":
                keep |= late
        if seen:
            self._table.raise_to(cid, pages, time)
        else:
            self._table.raise_to(cid[keep], pages[keep], time[keep])
        if self._touched is not None:
            rows = np.arange(len(cid)) if seen else np.flatnonzero(keep)
            self._touched.note(cid[rows], rows)
        return keep

    def _walk(self, cid: Points, time: Times, latest: Times) -> Times:
        """Return ``latest`` with the times of earlier ones of these events taken into account."""
        window, radius = self.params.window, self.params.radius
        seen, late_too = self.params.refresh == "seen", self.params.late == "keep"
        walked: dict[int, float] = {}  # by point: the latest time remembered near it
        result = []
        for point, now, before in zip(cid.tolist(), time.tolist(), latest.tolist(), strict=True):
            reference = max(before, walked.get(point, before))
            result.append(reference)
            age = now - reference
            if seen or age >= window or (late_too and age <= -window):
                for near in range(point - radius, point + radius + 1):
                    if now > walked.get(near, NEVER):
                        walked[near] = now
        return np.array(result)

    def _end_cycle(self) -> None:
        """Forget what is due at the end of a cycle, and begin the next one."""
        before = self._cycle.end() - 2 * self.params.window
        remembered = self._left  # or more: saves counting, which takes as long as forgetting
        if remembered <= self.params.remember or before == NEVER:
            remembered = len(self._memories)
        if remembered > self.params.remember and before > NEVER:
            remembered = self._memories.forget(before)
        if self._touched is None and remembered > self.params.most:
            log.warning(
                "%s points are to be remembered, more than most = %s allows: those touched longest "
                'ago are forgotten; the stats count them as "beyond most"',
                f"{remembered:,}",
                f"{self.params.most:,}",
            )
            self._touched = Touched(type(self._memories))
        if self._touched is not None:
            gone = self._touched.trim(self._memories, self.params.most)
            if gone:
                self.count("beyond most", gone)
            remembered -= gone
            if remembered <= self.params.most // 2:
                self._touched = None
        self._cycle.begin(max(self.LEAST_CYCLE, remembered // 4))
        self._left = remembered
