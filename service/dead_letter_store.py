"""The dead letters of a daemon, in SQLite: to look through, to re-drive, to discard.

Invariants:

1. A letter is its offset and the sink that refused it. To write it again changes nothing.
2. From ``waiting`` it becomes ``redriven`` or ``discarded``; that is never undone, also when its
   block is emitted again after a crash.
3. What the stream writes lasts from ``flush`` on: until then the journal has the block. What
   nothing could bring back, a refusal or a decision, lasts before the call returns.
"""

from __future__ import annotations

import logging
import time
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from enum import StrEnum
from pathlib import Path
from typing import Any, Final, NamedTuple

import msgspec

from middleware.wording import writable
from service import dead_letter_tables as tables
from service.block import Block, Offset
from service.database import Database
from service.dead_letter_tables import (
    FROM_LETTERS,
    FROM_WHOLE,
    SELECT,
    STATUS,
    WHOLE,
    NewLetter,
    traceback_of,
)
from service.dead_letters import LetterId, describe, readable
from service.origins import Origin
from service.passage import DeadLetter
from service.privacy import make_folder

log = logging.getLogger(__name__)

_GONE: Final = (
    "%s: this file was removed or emptied, and the dead letters in it are gone: %s events had died "
    "by the last checkpoint, those re-driven or discarded since among them; to have them back, "
    "stop the daemon and bring the file back from a backup, with its -wal and -shm, before the "
    "next start; `penstock journal export` writes what the journal still holds of their events"
)

MOST: Final = 1_000
"""Letters that are listed, or deleted, at once."""


class Status(StrEnum):
    """What has been decided about a letter."""

    WAITING = "waiting"
    REDRIVEN = "redriven"
    DISCARDED = "discarded"


class Selection(NamedTuple):
    """Which letters are meant; None means any.

    ``whole``: only those that can be re-driven. ``upto``: the last one in the order of ids.
    """

    status: Status | None = None
    middleware: str | None = None
    source: str | None = None
    whole: bool = False
    upto: LetterId | None = None


@dataclass(frozen=True, slots=True)
class StoredLetter:
    """A dead letter and what became of it; in a list its event and its traceback are left out."""

    id: LetterId
    letter: DeadLetter
    origin: Origin
    status: Status
    redriven_as: str | None
    changed: float
    """Since when it has its status, seconds since the epoch."""
    event_bytes: int
    """The length of the event; ``whole`` says whether all of it was kept."""
    whole: bool

    def describe(self) -> dict[str, Any]:
        """Return it as plain data for JSON, all but its event."""
        record = {"id": str(self.id)} | describe(self.id, self.letter, self.origin)
        record |= {"status": self.status, "changed": self.changed, "whole": self.whole}
        return record | ({"redriven_as": self.redriven_as} if self.redriven_as else {})

    def describe_all(self) -> dict[str, Any]:
        """Return it as plain data for JSON, with as much of its event as can be shown."""
        return self.describe() | readable(self.letter.event, self.event_bytes)


class DeadLetterStore:
    """Keeps dead letters in a database; the emitter's thread and those of operators use it at once.

    All of it raises as ``Database`` does.
    """

    def __init__(self, path: Path, longest: int, clock: Callable[[], float] = time.time) -> None:
        """Keep at most ``longest`` bytes of an event; one that was cut cannot be re-driven."""
        self._path = path
        self._longest = longest
        self._clock = clock
        self._stream = Database(path, "normal")
        self._durable = Database(path, "full")
        self._last = 0
        self._made = False
        """Whether the tables were made, and nobody has been told."""

    def open(self, position: Any, died: int = 0) -> None:
        """Open the database, and delete what will be found again after ``position``.

        Logs it when the database holds nothing yet though ``died`` events became letters before.
        Only what waits goes: decisions stay, and so do refusals, or the sink would be asked again.
        Without a position nothing comes again: the numbers go on after ``last_block``.
        """
        make_folder(self._path.parent)
        self._prepare()
        if self._made and died:
            log.error(_GONE, self._path, died)
        self._made = False
        last = self.last_block() if position is None else position["block"]
        with self._durable.transaction() as database:
            tables.delete(database, "block > ? AND sink = '' AND status = 0", (last,))
        self._last = last

    def last_block(self) -> int:
        """Return the last block that a letter is kept of, 0 for none."""
        if not self._path.exists():
            return 0
        self._prepare()
        with self._durable.reading() as database:
            ((last,),) = database.execute("SELECT coalesce(max(block), 0) FROM letters")
            return int(last)

    def _prepare(self) -> None:
        self._durable.open()
        self._stream.open()
        with self._durable.transaction() as database:
            made = tables.prepare(database)
        self._made |= made

    def write(
        self,
        block: Block,
        letters: Sequence[DeadLetter],
        origin: Callable[[Block, int], Origin],
    ) -> None:
        """Keep what the border or the chain turned away of one block, all or none."""
        new = [self._new("", block, letter, origin) for letter in letters]
        with self._stream.transaction() as database:
            tables.insert(database, new, self._clock())
        self._last = max(self._last, block.number)

    def refuse(
        self,
        sink: str,
        block: Block,
        letter: DeadLetter,
        origin: Callable[[Block, int], Origin],
    ) -> None:
        """Keep an event that a sink refuses; it survives a loss of power on return."""
        with self._durable.transaction() as database:
            tables.insert(database, [self._new(sink, block, letter, origin)], self._clock())

    def refused(self, sink: str, block: int) -> frozenset[int]:
        """Return the rows of a block that a sink refused before, whatever was decided since."""
        with self._stream.reading() as database:
            found = database.execute(
                "SELECT row FROM letters WHERE block = ? AND sink = ?", (block, sink)
            )
            return frozenset(row for (row,) in found)

    def position(self) -> dict[str, int]:
        """Return the last ``block`` that letters of the chain were written for."""
        return {"block": self._last}

    def flush(self) -> None:
        """Return when all that was written will survive a loss of power."""
        self._durable.sync()

    def close(self) -> None:
        """Close the database."""
        self._stream.close()
        self._durable.close()

    def find(
        self,
        selection: Selection = Selection(),  # noqa: B008 - a tuple never changes
        after: LetterId | None = None,
        limit: int = 100,
        *,
        newest_first: bool = True,
    ) -> list[StoredLetter]:
        """Return at most ``limit`` letters in the order of ids, those that follow ``after``."""
        conditions = ["1"]
        values: list[Any] = []
        if selection.status is not None:
            conditions.append("status = ?")
            values.append(STATUS.index(selection.status))
        for name in ("middleware", "source"):
            if (wanted := getattr(selection, name)) is not None:
                conditions.append(f"{name} = ?")
                values.append(wanted)
        if selection.whole:
            conditions.append("event_bytes IS NULL")
        if after is not None:
            conditions.append(f"(block, row, sink) {'<' if newest_first else '>'} (?, ?, ?)")
            values.extend(after)
        if selection.upto is not None:
            conditions.append("(block, row, sink) <= (?, ?, ?)")
            values.extend(selection.upto)
        way = "DESC" if newest_first else "ASC"
        query = (
            f"{SELECT}, NULL, NULL, x'' {FROM_LETTERS} WHERE {' AND '.join(conditions)}"
            f" ORDER BY block {way}, row {way}, sink {way} LIMIT ?"
        )
        with self._durable.reading() as database:
            return [_stored(row) for row in database.execute(query, (*values, min(limit, MOST)))]

    def get(self, letter_id: LetterId) -> StoredLetter | None:
        """Return one letter with all that is known, None when there is none."""
        query = f"{SELECT} {WHOLE} {FROM_WHOLE} WHERE block = ? AND row = ? AND sink = ?"
        with self._durable.reading() as database:
            return next(map(_stored, database.execute(query, letter_id)), None)

    def counts(self) -> dict[Status, int]:
        """Return how many letters there are of each status."""
        with self._durable.reading() as database:
            found = database.execute("SELECT status, count(*) FROM letters GROUP BY status")
            return dict.fromkeys(Status, 0) | {Status(STATUS[each]): count for each, count in found}

    def mark_redriven(self, accepted: Mapping[LetterId, Offset]) -> None:
        """Mark letters whose events were accepted again, each with its new offset.

        Also one that was discarded meanwhile: that its event was accepted is the truth.
        """
        query = (
            "UPDATE letters SET status = 1, redriven_as = ?, changed_at = ?"
            " WHERE block = ? AND row = ? AND sink = ? AND status != 1"
        )
        now = self._clock()
        values = [(str(offset), now, *letter_id) for letter_id, offset in accepted.items()]
        with self._durable.transaction() as database:
            database.executemany(query, values)

    def discard(self, ids: Iterable[LetterId]) -> None:
        """Mark letters, of those that wait, as of no further interest."""
        query = (
            "UPDATE letters SET status = 2, changed_at = ?"
            " WHERE block = ? AND row = ? AND sink = ? AND status = 0"
        )
        now = self._clock()
        with self._durable.transaction() as database:
            database.executemany(query, [(now, *letter_id) for letter_id in ids])

    def purge(self, before: float, upto: int = 2**62) -> int:
        """Delete what was decided before that time, seconds since the epoch; return how many.

        Only of blocks ``upto`` the oldest checkpoint kept: one that comes again needs its letters.
        """
        piece = (
            "(block, row, sink) IN (SELECT block, row, sink FROM letters"
            " WHERE status != 0 AND changed_at < ? AND block <= ? LIMIT ?)"
        )
        purged = 0
        while True:  # in pieces, so that the stream need not wait long
            with self._durable.transaction() as database:
                deleted = tables.delete(database, piece, (before, upto, MOST))
            purged += deleted
            if deleted < MOST:
                return purged

    def _new(
        self,
        sink: str,
        block: Block,
        letter: DeadLetter,
        origin: Callable[[Block, int], Origin],
    ) -> NewLetter:
        row, event, *why = msgspec.structs.astuple(letter)
        kept = DeadLetter(row, event[: self._longest], *map(writable, why))
        place = Origin(*map(writable, origin(block, row)))
        return NewLetter(LetterId(block.number, row, sink), kept, place, len(event))


def _stored(row: Any) -> StoredLetter:
    block, number, sink, source, line, path, received, reason, middleware, attempts, *rest = row
    status, redriven_as, changed, event_bytes, whole, frames, error, event = rest
    traceback = traceback_of(frames, error)
    return StoredLetter(
        id=LetterId(block, number, sink),
        letter=DeadLetter(number, event, reason, middleware, attempts, traceback),
        origin=Origin(source, line, received, path),
        status=Status(STATUS[status]),
        redriven_as=redriven_as,
        changed=changed,
        event_bytes=event_bytes,
        whole=bool(whole),
    )
