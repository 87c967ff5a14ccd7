"""Drops an event when its point or a neighbour had one shortly before."""

from __future__ import annotations

from typing import Annotated, Any, ClassVar, Final, Literal

import msgspec
import numpy as np
from pydantic import AfterValidator, BaseModel, Field

from middleware.contract import Batch, Event, Mask, SharedMiddleware
from middleware.errors import ContractError
from middleware.near_rows import NearRows, rising
from middleware.parameters import Seconds
from middleware.point_times import (
    HIGHEST_POINT,
    LOWEST_POINT,
    NEVER,
    Memory,
    Points,
    PointTimes,
    Times,
    pack,
    unpack,
)

FORMAT = 2

MOST_MEETING: Final = 12
"""Events near each other in a batch from which on they are taken one by one."""

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
      batches: after every N events, all points with a time before ``high - 2 * window``, where
      ``high`` is the largest time seen, and N is ``FORGET_AFTER`` or the number of points that were
      left the last time, whichever is more. So forgetting costs little per event, and memory is
      bounded by the points of the last two windows and of N events. Memories separated by ``by``
      share this cycle and ``high``, so that values that went quiet are forgotten, too.
    - Forgetting changes no decision about an event less than ``window`` late, that is with
      ``time > high - window``: it is ``window`` or more away from whatever was forgotten.
    - What raises does so before anything is remembered.
    """

    FORGET_AFTER: ClassVar[int] = 65_536
    FEW: ClassVar[int] = 16
    """Fewer events than this are decided one by one: columns are not worth their fixed cost."""

    class Params(BaseModel):
        """How near is near."""

        window: Seconds = Field(default=300.0, gt=0, description="how near in time is near")
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

    params: Params

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
            rows = slice(start, start + self._forget_after - self._events)
            cid, time = batch.cid[rows], batch.time[rows]
            keep[rows] = self._decide_together(cid, time)
            self._saw(len(cid), float(time.max()))
            start += len(cid)
        return keep

    def explain(self, event: Event) -> str | None:
        """Name the neighbour that suppresses the event, its time, and the event's age."""
        value = self._value([event.get(name) for name in self._by])
        cid, time = event["cid"], float(event["time"])
        memory = self._memories.get(value, {})
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
            "high": self._high,
            "events": self._events,
            "forget_after": self._forget_after,
            "memories": [[value, *pack(self._memories[value])] for value in sorted(self._memories)],
        }

    def restore(self, state: Any) -> None:
        """Take over a snapshot; one taken with another ``by`` leaves the memory empty.

        Raises ContractError when it is not a snapshot of this format.
        """
        found = state.get("format") if isinstance(state, dict) else None
        if found != FORMAT:
            message = (
                f"a snapshot of AdjacentSuppressor has format {FORMAT}, this has {found!r}: "
                "restore it with the version of Penstock that wrote it"
            )
            raise ContractError(message)
        memories = {value: unpack(*pages) for value, *pages in state["memories"]}
        self._start_anew()
        if tuple(state["by"]) != self._by:
            return
        self._high = state["high"]
        self._events = state["events"]
        self._forget_after = state["forget_after"]
        for value, (points, times) in memories.items():
            if self._by:
                self._memories[value] = dict(zip(points.tolist(), times.tolist(), strict=True))
            else:
                self._table.raise_to(points, self._table.find(points), times)

    def _start_anew(self) -> None:
        self._near_rows = NearRows()
        self._by: tuple[str, ...] = self.params.by
        self._table = PointTimes()
        self._memories: dict[bytes, Memory] = {} if self._by else {self._value([]): self._table}
        self._high = NEVER
        self._events = 0  # since the last forgetting
        self._forget_after = self.FORGET_AFTER

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
        memory = self._memories.get(value, {})
        age = time - max(memory.get(point, NEVER) for point in self._within_radius(cid))
        keep = self._keeps(age)
        if age <= -self.params.window:
            self.count("late")
        if keep or self.params.refresh == "seen":
            memory = self._memories.setdefault(value, memory)
            memory[cid] = max(time, memory.get(cid, NEVER))
        self._saw(1, time)
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
            few = _with_earlier(cid[rows], time[rows], latest[rows], radius) if seen else None
            if few is None:
                rows = rows[_to_walk(cid[rows], settled[rows], radius, seen=seen)]
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

    def _saw(self, events: int, time: float) -> None:
        """Count events, the largest time among them being ``time``; forget when it falls due."""
        self._high = max(self._high, time)
        self._events += events
        if self._events < self._forget_after:
            return
        before = self._high - 2 * self.params.window
        for value, memory in list(self._memories.items()):
            if isinstance(memory, PointTimes):
                memory.forget(before)
            elif left := {point: time for point, time in memory.items() if time >= before}:
                self._memories[value] = left
            else:
                del self._memories[value]
        self._events = 0
        self._forget_after = max(self.FORGET_AFTER, sum(map(len, self._memories.values())))


def _with_earlier(cid: Points, time: Times, latest: Times, radius: int) -> Times | None:
    """Return ``latest`` with the times of earlier events within ``radius``, all of them remembered.

    In columns, as nothing depends on the decisions: by rising point, each event is compared with
    the next one, the one after that, and so on. None where too many meet for that to pay.
    """
    order = rising(cid)
    point = cid[order]
    reach = np.minimum(point, HIGHEST_POINT - radius) + radius
    result = latest.copy()
    for step in range(1, MOST_MEETING):
        left = np.flatnonzero(point[step:] <= reach[:-step])
        if not len(left):
            return result
        one, other = order[left], order[left + step]
        np.maximum.at(result, np.maximum(one, other), time[np.minimum(one, other)])
    return None


def _to_walk(cid: Points, settled: Mask, radius: int, *, seen: bool) -> Points:
    """Return the rows, in order, that the decision about an unsettled row may hang together with.

    These are the unsettled rows with another row within ``radius``, and the rows near them, as far
    as they may be remembered: all if ``seen``, otherwise only unsettled ones.
    """
    rows = np.arange(len(cid)) if seen else np.flatnonzero(~settled)
    order = rows[rising(cid[rows])]
    point = cid[order]
    reach = np.minimum(point, HIGHEST_POINT - radius) + radius
    unsettled = ~settled[order]
    close = point[1:] <= reach[:-1]
    walk = np.zeros(len(order), np.bool_)
    walk[1:] |= close & unsettled[1:]
    walk[:-1] |= close & unsettled[:-1]
    if seen and walk.any():
        position = np.arange(len(order))
        left = np.maximum.accumulate(np.where(unsettled, position, 0))
        walk |= unsettled[left] & (point <= reach[left]) & ~unsettled
        right = np.minimum.accumulate(np.where(unsettled, position, len(order) - 1)[::-1])[::-1]
        walk |= unsettled[right] & (point[right] <= reach) & ~unsettled
    return np.sort(order[walk])
