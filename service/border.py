"""The border: from lines of bytes to checked events, good ones as columns, bad ones with a reason.

The same code answers an HTTP producer and reads a block in a worker, so both say the same of an
event's point, time, size and text. Other fields are decoded only where a step reads them; one that
no reader can hold (1e400, say) is found there.

Invariant: line i of the block is event i. msgspec's ``decode_lines`` is fast but knows no lines: an
object may span two, or two may stand on one. It is trusted only when every line starts with ``{``
and ends with ``}`` - no JSON value can hold "}", line end, "{" in a row - and the counts agree.
"""

from __future__ import annotations

import sys
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from datetime import datetime
from typing import Annotated, Any, Final

import msgspec
import numpy as np
from numpy.typing import NDArray

from middleware.contract import CID_RANGE, MISSING, Middleware
from middleware.errors import ConfigurationError
from service import bad_lines
from service.block import Part
from service.plain_events import PlainEvents
from service.scan import NESTING, depth, is_flat, places
from service.settings import EventSettings

Integers = NDArray[np.int64]

LARGEST_TIME: Final = sys.float_info.max

FEW_BYTES: Final = 4_096
"""A block of no more than this is checked without columns."""

FEW_LINES: Final = 32
"""So many lines are read one by one where they cannot be read together."""

PIECES: Final = 16
"""Into so many pieces more lines are cut then: most of them can be read together."""

_LINE_END, _OPEN, _CLOSE = b"\n{}"
_Cid = Annotated[int, msgspec.Meta(ge=CID_RANGE[0], le=CID_RANGE[1])]
_Moment = Annotated[datetime, msgspec.Meta(tz=True)]


@dataclass(frozen=True, slots=True)
class BadLine:
    """A line that is no event: its row in the block and what is wrong with it."""

    row: int
    reason: str


@dataclass(slots=True)
class Lines:
    """A block's lines, split and checked.

    ``starts`` and ``stops`` are int64[lines], byte positions in ``payload`` without the line end.
    ``rows`` is int64[n], the lines that are good events; ``cid`` is int64[n], ``time`` float64[n];
    ``decoded`` are n objects with the fields read, or none for plain events, which have no others;
    ``whole`` n whole events, where they are read. ``bad`` are the other lines, but for blank ones,
    which are no events at all.
    """

    payload: bytes
    starts: Integers
    stops: Integers
    rows: Integers
    cid: Integers
    time: NDArray[np.float64]
    decoded: Sequence[Any]
    bad: list[BadLine]
    whole: Sequence[dict[str, Any]] = ()

    @classmethod
    def unread(cls, payload: bytes, starts: Integers, stops: Integers) -> Lines:
        """Return lines of which nothing but their places is known."""
        nothing = np.empty(0)
        return cls(payload, starts, stops, np.arange(len(stops)), stops, nothing, (), [])

    @property
    def accepted(self) -> int:
        """The number of events taken in, good and bad."""
        return len(self.rows) + len(self.bad)

    def line(self, row: int) -> bytes:
        """Return a line's bytes, without the line end."""
        return self.payload[self.starts[row] : self.stops[row]]


class Border:
    """Reads blocks of lines, decoding only the fields named."""

    def __init__(
        self, settings: EventSettings, fields: Sequence[str] = (), *, whole: bool = False
    ) -> None:
        """Read ``fields`` besides cid and time, and with ``whole`` also the whole events.

        All names are those that middleware use.

        Raises ConfigurationError for a field that they know by another name.
        """
        for name in fields:
            if name in {settings.cid, settings.time}:
                known_as = "cid" if name == settings.cid else "time"
                message = f'reads = "{name}": a middleware knows this field as "{known_as}"'
                raise ConfigurationError(message)
        self._settings = settings
        self._rfc3339 = settings.time_format == "rfc3339"
        extra = [(f"field_{index}", name) for index, name in enumerate(fields)]
        self.attributes = {name: attribute for attribute, name in extra}
        self._decoder = msgspec.json.Decoder(self._struct(extra))
        self._whole = msgspec.json.Decoder() if whole else None
        self._plain = None if fields or whole or self._rfc3339 else PlainEvents(settings)

    def read(
        self,
        payload: bytes,
        parts: Sequence[Part],
        line_begins: Callable[[int], str | None] | None = None,
        *,
        together: bool = True,
        most_bad: int = sys.maxsize,
    ) -> Lines:
        """Split, decode and check the lines of ``payload``, which ends with a line end.

        Those that cannot be read ``together``, or shall not, are read one by one (slower):
        ``line_begins`` is then called with each row before, and may return why not to read it.
        Reading ends once more than ``most_bad`` lines are bad.
        """
        stops = places(np.frombuffer(payload, np.uint8), _LINE_END)
        starts = np.empty_like(stops)
        starts[:1] = 0
        starts[1:] = stops[:-1] + 1
        lines = Lines.unread(payload, starts, stops)
        latest = self._latest(parts, len(stops))
        self._read_lines(lines, latest, line_begins, together=together, most_bad=most_bad)
        return lines

    def _read_lines(
        self,
        lines: Lines,
        latest: Any,
        line_begins: Callable[[int], str | None] | None,
        *,
        together: bool,
        most_bad: int,
    ) -> None:
        """Read lines together, else in pieces of which most may be, a few at last one by one."""
        if together and self._read_together(lines) and (lines.time <= latest).all():
            return
        if together and len(lines.stops) > FEW_LINES:
            self._read_in_pieces(lines, latest, line_begins, most_bad)
        else:
            self._read_one_by_one(lines, latest, line_begins, most_bad)

    def _struct(self, extra: list[tuple[str, str]]) -> type[msgspec.Struct]:
        settings = self._settings
        moment: Any = _Moment if self._rfc3339 else float
        wire = {"cid": settings.cid, "time": settings.time} | dict(extra)
        fields: list[Any] = [("cid", _Cid), ("time", moment)]
        fields += [(attribute, Any, MISSING) for attribute, _ in extra]
        return msgspec.defstruct("EventFields", fields, gc=False, rename=wire)

    def _latest(self, parts: Sequence[Part], lines: int) -> Any:
        """Return the largest time allowed: one number, or one for each line."""
        if self._settings.max_future is None or not parts:
            return LARGEST_TIME
        limits = [part.received + self._settings.max_future for part in parts]
        if len(limits) == 1:
            return limits[0]
        latest = np.repeat(limits, [part.lines or 0 for part in parts])
        assert len(latest) == lines, "a block of several parts knows its lines"  # noqa: S101 - invariant
        return latest

    def _read_together(self, lines: Lines) -> bool:
        """Take all lines at once; answer no, with nothing taken, if any needs a look of its own."""
        view, starts, stops = np.frombuffer(lines.payload, np.uint8), lines.starts, lines.stops
        if self._plain and (columns := self._plain.read(lines.payload, view, starts, stops)):
            lines.cid, lines.time = columns
            return True
        if not (_is_utf8(lines.payload) and self._is_trusted(view, lines)):
            return False
        try:
            decoded = self._decoder.decode_lines(lines.payload)
            if self._whole is not None:
                lines.whole = self._whole.decode_lines(lines.payload)
        except (msgspec.DecodeError, RecursionError):
            return False
        if one_each := len(decoded) == len(stops):
            self._take(lines, decoded)
        return one_each

    def _is_trusted(self, view: NDArray[np.uint8], lines: Lines) -> bool:
        """Say whether each line is framed as an object, none too long and none nested too deeply.

        Of a few lines the bytes are asked, since each question to a column costs a microsecond.
        """
        payload, starts, stops = lines.payload, lines.starts, lines.stops
        longest = self._settings.max_event_bytes
        if len(payload) <= min(FEW_BYTES, longest):
            framed = payload[:1] == b"{" and payload[-2:] == b"}\n"
            if not framed or payload.count(b"}\n{") != len(stops) - 1:
                return False
            if payload.count(b"{") + payload.count(b"[") < len(stops) + NESTING:
                return True  # each line has one, and no line has NESTING more
        return bool(
            (stops - starts).max(initial=0) <= longest
            and (view[starts] == _OPEN).all()
            and (view[stops - 1] == _CLOSE).all()
            and is_flat(view, starts, stops)
        )

    def _take(self, lines: Lines, decoded: list[Any]) -> None:
        count = len(decoded)
        lines.decoded = decoded
        # A list of each attribute, made by a loop, is faster than attrgetter without a list.
        lines.cid = np.fromiter([event.cid for event in decoded], np.int64, count)
        times = [event.time for event in decoded]
        if self._rfc3339:
            times = [time.timestamp() for time in times]
        lines.time = np.fromiter(times, np.float64, count)

    def _read_in_pieces(
        self,
        lines: Lines,
        latest: Any,
        line_begins: Callable[[int], str | None] | None,
        most_bad: int,
    ) -> None:
        """Read piece by piece, so that one bad line costs a piece its speed, and not the block."""
        count = len(lines.stops)
        limits = np.broadcast_to(latest, count)
        size = -(-count // PIECES)
        pieces: list[Lines] = []
        for first in range(0, count, size):
            if len(lines.bad) > most_bad:
                break
            rows = slice(first, first + size)
            starts, stops = lines.starts[rows], lines.stops[rows]
            payload = lines.payload[starts[0] : stops[-1] + 1]
            piece = Lines.unread(payload, starts - starts[0], stops - starts[0])
            begins = _counting_from(first, line_begins)
            left = most_bad - len(lines.bad)
            self._read_lines(piece, limits[rows], begins, together=True, most_bad=left)
            lines.bad += [BadLine(first + bad.row, bad.reason) for bad in piece.bad]
            piece.rows += first
            pieces.append(piece)
        lines.rows = np.concatenate([piece.rows for piece in pieces])
        lines.cid = np.concatenate([piece.cid for piece in pieces])
        lines.time = np.concatenate([piece.time for piece in pieces])
        if self._plain is None:
            lines.decoded = [event for piece in pieces for event in piece.decoded]
        lines.whole = [event for piece in pieces for event in piece.whole]

    def _read_one_by_one(
        self,
        lines: Lines,
        latest: Any,
        line_begins: Callable[[int], str | None] | None,
        most_bad: int,
    ) -> None:
        limits = np.broadcast_to(latest, len(lines.stops))
        rows: list[int] = []
        decoded: list[Any] = []
        whole: list[dict[str, Any]] = []
        for row, limit in enumerate(map(float, limits)):
            if len(lines.bad) > most_bad:
                break
            line = lines.line(row)
            if not line.strip():
                continue
            outcome = (line_begins(row) if line_begins else None) or self._read_line(
                line, limit, whole
            )
            if isinstance(outcome, str):
                lines.bad.append(BadLine(row, outcome))
            else:
                rows.append(row)
                decoded.append(outcome)
        lines.rows = np.array(rows, np.int64)
        lines.whole = whole
        self._take(lines, decoded)

    def _read_line(self, line: bytes, limit: float, whole: list[dict[str, Any]]) -> Any | str:
        """Return the decoded event, or what is wrong with the line."""
        settings = self._settings
        if len(line) > settings.max_event_bytes:
            return f"longer than max_event_bytes ({settings.max_event_bytes} bytes)"
        try:
            line.decode()
        except UnicodeDecodeError as error:
            return f"invalid UTF-8 at byte {error.start}{bad_lines.other_kind(line)}"
        if depth(line) > NESTING:
            return f"nested too deeply (more than {NESTING} levels)"
        try:
            event: Any = self._decoder.decode(line)
            everything = self._whole.decode(line) if self._whole is not None else None
        except (msgspec.DecodeError, RecursionError) as error:
            return bad_lines.reason(line, error, settings)
        moment = event.time.timestamp() if self._rfc3339 else event.time
        if moment > limit:
            return f'"{settings.time}" is {bad_lines.ahead(moment, limit)}'
        if everything is not None:
            whole.append(everything)
        return event


def check_reads(settings: EventSettings, middleware: Middleware) -> None:
    """Raise ConfigurationError for a field that the middleware knows by another name."""
    Border(settings, [name for name in middleware.reads if name not in {"cid", "time"}])


def _counting_from(
    first: int, line_begins: Callable[[int], str | None] | None
) -> Callable[[int], str | None] | None:
    return line_begins and (lambda row: line_begins(first + row))


def _is_utf8(payload: bytes) -> bool:
    if payload.isascii():
        return True
    try:
        payload.decode()
    except UnicodeDecodeError:
        return False
    return True
