"""Dead letters: events that could not be handled, each with its reason and where it came from."""

from __future__ import annotations

import base64
import re
from collections.abc import Callable, Sequence
from datetime import UTC, datetime
from typing import Any, Final, NamedTuple, Protocol

from middleware.wording import writable
from service.block import Block, Offset
from service.origins import Origin
from service.passage import DeadLetter

EXCERPT: Final = 65_536
"""Bytes of an event that are shown; longer ones are cut."""

_ID: Final = re.compile(r"([0-9]{1,18})\.([0-9]{1,18})(?::([a-z][a-z0-9_-]*))?")


class LetterId(NamedTuple):
    """Which dead letter: an event's offset, and the sink that refused it, "" for the chain.

    Written ``1234.17`` or ``1234.17:kept``. Several sinks can refuse one event.
    """

    block: int
    row: int
    sink: str = ""

    def __str__(self) -> str:
        return f"{self.offset}:{self.sink}" if self.sink else str(self.offset)

    @property
    def offset(self) -> Offset:
        """The event's place in the total order."""
        return Offset(self.block, self.row)

    @classmethod
    def parse(cls, text: str) -> LetterId:
        """Return the id written as ``text``; raises ValueError."""
        match = _ID.fullmatch(text)
        if match is None:
            raise ValueError(f'{text!r}: expected OFFSET or OFFSET:SINK, such as "1234.17"')
        return cls(int(match[1]), int(match[2]), match[3] or "")


class DeadLetters(Protocol):
    """Takes dead letters from the emitter's thread, block after block.

    Exactly once, as a sink with a position: ``open`` cuts off what came after the last checkpoint,
    for the blocks after it are emitted again. What raises OSError is tried again.
    """

    def open(self, position: Any, died: int = 0) -> None:
        """Get ready; ``position`` is that of the last checkpoint, None at first.

        ``died``: how many events had died by then. Where that cannot be the case, it is said.
        Raises OSError when that is not possible now, PipelineFailed when it never will be.
        """

    def last_block(self) -> int:
        """Return the last block that a letter is kept of, 0 for none: its numbers are not free.

        Also asked before ``open``. Raises as ``open`` does.
        """

    def write(
        self,
        block: Block,
        letters: Sequence[DeadLetter],
        origin: Callable[[Block, int], Origin],
    ) -> None:
        """Keep what the border or the chain turned away of one block; the same again is ignored."""

    def refuse(
        self,
        sink: str,
        block: Block,
        letter: DeadLetter,
        origin: Callable[[Block, int], Origin],
    ) -> None:
        """Keep an event that a sink refuses; it survives a loss of power on return."""

    def refused(self, sink: str, block: int) -> frozenset[int]:
        """Return the rows of a block that a sink refused before; asked in the blocks' order."""

    def position(self) -> Any:
        """Return how far it is, as plain data; ``flush`` makes it last."""

    def flush(self) -> None:
        """Return when all that was written will survive a loss of power; raises OSError."""

    def close(self) -> None:
        """Give back what ``open`` took."""


def describe(letter_id: LetterId, letter: DeadLetter, origin: Origin) -> dict[str, Any]:
    """Return a dead letter as plain data for JSON, all but its event."""
    received = datetime.fromtimestamp(origin.received, UTC)
    record: dict[str, Any] = {
        "offset": str(letter_id.offset),
        "source": origin.source,
        "line": origin.line,
        "time": received.isoformat(timespec="milliseconds"),
        "reason": letter.reason,
    }
    if origin.path is not None:
        record["path"] = origin.path
    if letter_id.sink:
        record["sink"] = letter_id.sink
    if letter.middleware is not None:
        record |= {"middleware": letter.middleware, "attempts": letter.attempts}
    if letter.traceback is not None:
        record["traceback"] = letter.traceback
    return {name: writable(value) for name, value in record.items()}


def readable(event: bytes, size: int | None = None) -> dict[str, Any]:
    """Return an event as ``event``, its text, or as ``event_base64`` where it is none.

    Cut if it is very long; ``event_bytes`` then tells how long it was: ``size``, if given.
    """
    size = len(event) if size is None else size
    excerpt = event[:EXCERPT]
    cut: dict[str, Any] = {"event_bytes": size} if size > len(excerpt) else {}
    try:
        text = excerpt.decode()
    except UnicodeDecodeError as error:
        if not cut or error.end < len(excerpt) or error.reason != "unexpected end of data":
            return {"event_base64": base64.b64encode(excerpt).decode()} | cut
        text = excerpt[: error.start].decode()  # the cut went through a letter
    return {"event": text} | cut
