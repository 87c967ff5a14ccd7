"""One block's passage through the chain, step by step: who is left, who changed, who failed.

Plain code without processes: whoever drives it takes a batch for a step, asks the middleware, here
or in the state host, and applies the answer.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from datetime import UTC, datetime
from operator import attrgetter
from typing import Any, Final

import msgspec
import numpy as np
from numpy.typing import NDArray

from middleware.changed_event import check_changed
from middleware.contract import MISSING, Batch, Event, Mask
from service.answer import Answer, Failure
from service.border import Border, Integers, Lines
from service.chain import Mode, Step
from service.settings import EventSettings

BYTES_PER_RUN: Final = 512
"""Kept lines are copied run by run where a block has this many bytes for each, else by a mask."""


class DeadLetter(msgspec.Struct, frozen=True, gc=False):
    """An event that could not be handled, with all an operator needs to see why.

    Made by the million where lines are no events, so it is a kind that is made fast.
    """

    row: int
    event: bytes
    reason: str
    middleware: str | None = None
    attempts: int = 0
    traceback: str | None = None


@dataclass(slots=True)
class Result:
    """What became of a block: the kept lines as bytes, and what happened to all others.

    Invariant: accepted = emitted + sum of ``dropped`` + len(``dead``). The dictionaries are by the
    name of the step.
    """

    lines: int
    accepted: int
    emitted: int
    kept: bytes
    dead: list[DeadLetter]
    kept_rows: bytes = b""
    """One bit for each line of the block, set where it was kept."""
    dropped: dict[str, int] = field(default_factory=dict)
    shadow: dict[str, int] = field(default_factory=dict)
    counts: dict[str, dict[str, int]] = field(default_factory=dict)

    def __getstate__(self) -> tuple[Any, ...]:
        # Dead letters travel as columns, in a tenth of the time.
        names = DeadLetter.__struct_fields__
        letters = [[*map(attrgetter(name), self.dead)] for name in names]
        rest = (self.kept_rows, self.dropped, self.shadow, self.counts)
        return (self.lines, self.accepted, self.emitted, self.kept, letters, rest)

    def __setstate__(self, state: tuple[Any, ...]) -> None:
        self.lines, self.accepted, self.emitted, self.kept, letters, rest = state
        self.dead = [DeadLetter(*each) for each in zip(*letters, strict=True)]
        self.kept_rows, self.dropped, self.shadow, self.counts = rest


class Passage:
    """The events of one block on their way through the chain.

    Events are known by their index among the good lines; ``_alive`` holds those still on the way.
    A changed event lives in ``_changed`` as its producer would have written it (same names of
    fields, same spelling of time) until the end.
    """

    def __init__(self, lines: Lines, border: Border, settings: EventSettings) -> None:
        """Start with all good lines of a block."""
        self._lines = lines
        self._attributes = border.attributes
        self._settings = settings
        self._reads: tuple[str, ...] = ()
        self._alive: Integers = np.arange(len(lines.rows))
        self._changed: dict[int, dict[str, Any]] = {}
        self._encoded: dict[int, bytes] = {}
        self._result = Result(
            lines=len(lines.stops),
            accepted=lines.accepted,
            emitted=0,
            kept=b"",
            dead=[DeadLetter(bad.row, lines.line(bad.row), bad.reason) for bad in lines.bad],
        )

    def batch(self, reads: tuple[str, ...]) -> Batch:
        """Return the events that are left, with the fields the next step reads."""
        self._reads = reads
        cid, time = self._select(self._lines.cid), self._select(self._lines.time)
        if not reads:
            return Batch(cid, time, reads=(), events=[self._event(i) for i in self._alive.tolist()])
        fields = {name: self._column(name) for name in reads if name not in {"cid", "time"}}
        return Batch(cid, time, reads=reads, fields=fields)

    def apply(self, step: Step, answer: Answer) -> None:
        """Carry out what a step answered to its batch; in shadow mode only count it."""
        keep = answer.keep
        drops = len(keep) - int(np.count_nonzero(keep))
        if answer.counts:
            self._result.counts[step.name] = dict(answer.counts)
        if step.mode is Mode.SHADOW:
            self._result.shadow[step.name] = drops
            if answer.failed:
                self._result.counts.setdefault(step.name, {})["failed"] = len(answer.failed)
            return
        self._result.dropped[step.name] = drops
        for position, failure in answer.failed.items():
            self._fail(step, position, failure, keep)
        for position, event in answer.changed.items():
            self._change(step, position, event, keep)
        if not keep.all():
            self._alive = self._alive[keep]

    def result(self) -> Result:
        """Return what became of the block, once every step was applied."""
        self._result.emitted = len(self._alive)
        keep = np.zeros(len(self._lines.stops), np.bool_)
        keep[self._lines.rows[self._alive]] = True
        self._result.kept_rows = np.packbits(keep).tobytes()
        self._result.kept = self._kept(keep)
        self._result.dead.sort(key=lambda letter: letter.row)
        return self._result

    def _select(self, column: NDArray[Any]) -> NDArray[Any]:
        """Return the values of the events that are left, read-only."""
        selected = column.view() if len(self._alive) == len(column) else column[self._alive]
        selected.flags.writeable = False
        return selected

    def _column(self, name: str) -> list[Any]:
        attribute, decoded = self._attributes[name], self._lines.decoded
        values = [getattr(decoded[index], attribute) for index in self._alive.tolist()]
        if self._changed:
            for position, index in enumerate(self._alive.tolist()):
                if index in self._changed:
                    values[position] = self._changed[index].get(name, MISSING)
        return values

    def _event(self, index: int) -> dict[str, Any]:
        """Return a whole event as middleware see it."""
        event = self._written(index)
        del event[self._settings.cid], event[self._settings.time]
        event["cid"] = int(self._lines.cid[index])
        event["time"] = float(self._lines.time[index])
        return event

    def _written(self, index: int) -> dict[str, Any]:
        """Return a whole event as its producer writes it; the caller may change it."""
        if index in self._changed:
            return dict(self._changed[index])
        if self._lines.whole:
            return dict(self._lines.whole[index])
        line = self._lines.line(int(self._lines.rows[index]))
        event: dict[str, Any] = msgspec.json.decode(line)
        return event

    def _fail(self, step: Step, position: int, failure: Failure, keep: Mask) -> None:
        keep[position] = False
        row = int(self._lines.rows[self._alive[position]])
        letter = DeadLetter(
            row=row,
            event=self._lines.line(row),
            reason=failure.reason,
            middleware=step.name,
            attempts=failure.attempts,
            traceback=failure.traceback,
        )
        self._result.dead.append(letter)

    def _change(self, step: Step, position: int, event: Event, keep: Mask) -> None:
        """Take over a changed event, or dead-letter it when it is no event any more."""
        index = int(self._alive[position])
        seen = set(self._reads) or set(self._event(index))
        try:
            _check(event, seen, self._settings)
            written = self._rewritten(index, seen, event)
            encoded = msgspec.json.encode(written)
        except (ValueError, TypeError, OverflowError, OSError, RecursionError) as error:
            reason = f"the changed event is not valid: {error}"
            self._fail(step, position, Failure(reason, attempts=1), keep)
            return
        self._lines.cid[index] = event.get("cid", self._lines.cid[index])
        self._lines.time[index] = event.get("time", self._lines.time[index])
        self._changed[index] = written
        self._encoded[index] = encoded

    def _rewritten(self, index: int, seen: set[str], event: Event) -> dict[str, Any]:
        """Return the event as its producer would write it, with what a step changed.

        Fields that the step did not read stay; those it read and left out go.
        """
        settings = self._settings
        written = self._written(index)
        for name in seen - event.keys():
            written.pop(name, None)
        for name, value in event.items():
            if name == "cid":
                written[settings.cid] = value
            elif name == "time":
                if value != self._lines.time[index]:
                    written[settings.time] = self._spelled(value)
            else:
                written[name] = value
        return written

    def _spelled(self, moment: float) -> Any:
        if self._settings.time_format == "rfc3339":
            return datetime.fromtimestamp(moment, UTC).isoformat().replace("+00:00", "Z")
        return moment

    def _kept(self, keep: Mask) -> bytes:
        lines = self._lines
        if len(self._alive) == len(lines.stops) and not self._encoded:
            return lines.payload
        if self._encoded:
            rows = lines.rows[self._alive].tolist()
            indices = zip(self._alive.tolist(), rows, strict=True)
            written = [self._encoded.get(index) or lines.line(row) for index, row in indices]
            return b"".join([line + b"\n" for line in written])
        framed = np.zeros(len(keep) + 2, np.bool_)
        framed[1:-1] = keep
        # In turn: the first line of a run, and the first one behind it.
        edges = np.flatnonzero(framed[1:] != framed[:-1])
        if len(edges) // 2 * BYTES_PER_RUN > len(lines.payload):
            characters = np.frombuffer(lines.payload, np.uint8)
            return characters[np.repeat(keep, lines.stops + 1 - lines.starts)].tobytes()
        bounds = np.append(lines.starts, len(lines.payload))[edges].tolist()
        view = memoryview(lines.payload)
        runs = zip(bounds[::2], bounds[1::2], strict=True)
        return b"".join([view[start:stop] for start, stop in runs])


def _check(event: Event, seen: set[str], settings: EventSettings) -> None:
    """Raise ValueError or TypeError unless what a step made of an event can be passed on."""
    for name, known_as in ((settings.cid, "cid"), (settings.time, "time")):
        if name not in {"cid", "time"} and name in event:
            raise ValueError(f'a middleware knows its "{name}" as "{known_as}"')
    check_changed(event, seen)
