"""The tables of the dead letters: there can be millions, so what many share is there once.

``letters`` has a small row for each; ``arrivals`` where those came from that were written together,
``causes`` why, ``frames`` the calls of a traceback. Each goes with the last letter that names it.
"""

from __future__ import annotations

import hashlib
from collections.abc import Iterable
from typing import Any, Final, NamedTuple, cast

import apsw

from service.dead_letters import LetterId
from service.errors import PipelineFailed
from service.origins import Origin
from service.passage import DeadLetter

VERSION: Final = 1

LONGEST_REASON: Final = 4_096
LONGEST_FRAMES: Final = 16_384
"""Characters that are kept; of the calls of a traceback the first quarter and the end."""

STATUS: Final = ("waiting", "redriven", "discarded")
"""What has been decided; a letter's row has the place in this list."""

_SCHEMA: Final = """
CREATE TABLE letters (
    block INTEGER NOT NULL,
    row INTEGER NOT NULL,
    sink TEXT NOT NULL,
    arrival INTEGER NOT NULL,
    cause INTEGER NOT NULL,
    status INTEGER NOT NULL DEFAULT 0,
    redriven_as TEXT,
    changed_at REAL,
    event_bytes INTEGER,
    event BLOB NOT NULL,
    PRIMARY KEY (block, row, sink)
) WITHOUT ROWID, STRICT;
CREATE INDEX decided ON letters (changed_at) WHERE status != 0;
CREATE TABLE arrivals (
    id INTEGER PRIMARY KEY,
    source TEXT NOT NULL,
    path TEXT,
    received REAL NOT NULL,
    line_of_row_0 INTEGER NOT NULL,
    written REAL NOT NULL
) STRICT;
CREATE TABLE causes (
    id INTEGER PRIMARY KEY,
    digest BLOB NOT NULL UNIQUE,
    reason TEXT NOT NULL,
    middleware TEXT,
    attempts INTEGER NOT NULL,
    frames INTEGER,
    error TEXT
) STRICT;
CREATE TABLE frames (id INTEGER PRIMARY KEY, digest BLOB NOT NULL UNIQUE, text TEXT NOT NULL) STRICT
"""
_INDEXES: Final = """
CREATE INDEX IF NOT EXISTS letters_of_causes ON letters (cause);
CREATE INDEX IF NOT EXISTS causes_of_frames ON causes (frames) WHERE frames IS NOT NULL
"""
# changed_at and event_bytes are left out where a letter waits since it was written, and where all
# of its event is there.

SELECT: Final = """
SELECT block, row, sink, source, line_of_row_0 + row, path, received, reason, middleware, attempts,
    status, redriven_as, coalesce(changed_at, written), coalesce(event_bytes, length(event)),
    event_bytes IS NULL
"""
"""A letter without its traceback and its event; ``FROM_LETTERS`` follows, in the order of ids."""

WHOLE: Final = ", text, error, event"
FROM_LETTERS: Final = """
FROM letters CROSS JOIN arrivals ON arrivals.id = arrival CROSS JOIN causes ON causes.id = cause
"""
FROM_WHOLE: Final = f"{FROM_LETTERS} LEFT JOIN frames ON frames.id = frames"

_INSERT: Final = """
INSERT INTO letters (block, row, sink, arrival, cause, event_bytes, event)
VALUES (?, ?, ?, ?, ?, ?, ?) ON CONFLICT (block, row, sink) DO NOTHING
"""


class NewLetter(NamedTuple):
    """A letter to be written; ``size`` is its event's length, of which all or a part is there."""

    id: LetterId
    letter: DeadLetter
    origin: Origin
    size: int


class Names(NamedTuple):
    """What a letter of a block names: where it came from, and why."""

    block: int
    arrival: int
    cause: int


def prepare(database: apsw.Connection) -> bool:
    """Make the tables, or take over those of the version before; within a transaction.

    Returns whether there were none. Raises PipelineFailed for those of a later version.
    """
    version = database.pragma("user_version")
    if version not in {0, VERSION}:
        raise PipelineFailed(
            f"{database.filename}: its dead letters are of a later version of penstock: start that "
            "one, or put the file aside, with its -wal and -shm"
        )
    if not version:
        database.execute(_SCHEMA)
    database.execute(_INDEXES)
    earlier = database.table_exists("main", "dead_letters")
    if earlier:
        _take_over(database)
    database.pragma("user_version", VERSION)
    return not version and not earlier


def insert(database: apsw.Connection, letters: Iterable[NewLetter], now: float) -> None:
    """Write letters within a transaction; one that is there stays as it is."""
    arrivals: dict[tuple[int, tuple[Any, ...]], int] = {}
    causes: dict[tuple[Any, ...], int] = {}

    def row(new: NewLetter) -> tuple[Any, ...]:
        source, line, received, path = new.origin
        arrival = (source, path, received, line - new.id.row)
        place = new.id.block, arrival
        if place not in arrivals:
            arrivals[place] = _arrival(database, arrival, now)
        letter = new.letter
        cause = (letter.reason, letter.middleware, letter.attempts, letter.traceback)
        if cause not in causes:
            causes[cause] = _cause(database, *cause)
        size = None if new.size == len(letter.event) else new.size
        return (*new.id, arrivals[place], causes[cause], size, letter.event)

    rows = [row(new) for new in letters]
    before = database.total_changes()
    database.executemany(_INSERT, rows)
    if database.total_changes() - before < len(rows):  # some were there, and name what they did
        _remove_unnamed(
            database, (Names(block, arrival, cause) for block, _, _, arrival, cause, *_ in rows)
        )


def traceback_of(frames: str | None, error: str | None) -> str | None:
    """Return a traceback as it was, or as much as was kept."""
    return None if error is None else f"{frames}\n{error}" if frames is not None else error


def delete(database: apsw.Connection, which: str, values: tuple[Any, ...]) -> int:
    """Delete the letters of a condition, and what only they named, within a transaction.

    Returns how many letters there were.
    """
    query = f"DELETE FROM letters WHERE {which} RETURNING block, arrival, cause"  # noqa: S608 - the store's own
    gone = [Names(*row) for row in database.execute(query, values)]
    _remove_unnamed(database, gone)
    return len(gone)


def _remove_unnamed(database: apsw.Connection, gone: Iterable[Names]) -> None:
    """Remove what letters that are gone named, and no letter names now; within a transaction.

    It is asked of these alone: how long that takes does not grow with the letters that are left.
    """
    names = set(gone)
    # An arrival is one block's alone, so the letters of that block tell.
    database.executemany(
        "DELETE FROM arrivals WHERE id = ?2"
        " AND NOT EXISTS (SELECT 1 FROM letters WHERE block = ?1 AND arrival = ?2)",
        sorted({(each.block, each.arrival) for each in names}),
    )
    frames = set()
    for cause in sorted({each.cause for each in names}):
        query = (
            "DELETE FROM causes WHERE id = ?1"
            " AND NOT EXISTS (SELECT 1 FROM letters WHERE cause = ?1) RETURNING frames"
        )
        frames |= {(number,) for (number,) in database.execute(query, (cause,))}
    database.executemany(
        "DELETE FROM frames WHERE id = ?1 AND NOT EXISTS (SELECT 1 FROM causes WHERE frames = ?1)",
        sorted(frames - {(None,)}),
    )


def _arrival(database: apsw.Connection, arrival: tuple[Any, ...], now: float) -> int:
    query = (
        "INSERT INTO arrivals (source, path, received, line_of_row_0, written)"
        " VALUES (?, ?, ?, ?, ?)"
    )
    database.execute(query, (*arrival, now))
    return database.last_insert_rowid()


def _cause(
    database: apsw.Connection,
    reason: str,
    middleware: str | None,
    attempts: int,
    traceback: str | None,
) -> int:
    frames, error = None, None
    if traceback is not None:
        text, line_end, error = traceback.rstrip("\n").rpartition("\n")
        error = error[:LONGEST_REASON] + traceback[len(traceback.rstrip("\n")) :][:1]
        if line_end:
            frames = _shared(database, "frames", (_cut(text),), "text")
    columns = "reason, middleware, attempts, frames, error"
    cause = (reason[:LONGEST_REASON], middleware, attempts, frames, error)
    return _shared(database, "causes", cause, columns)


def _cut(frames: str) -> str:
    if len(frames) <= LONGEST_FRAMES:
        return frames
    first = LONGEST_FRAMES // 4
    return f"{frames[:first]}\n...\n{frames[first - LONGEST_FRAMES :]}"


def _shared(database: apsw.Connection, table: str, values: tuple[Any, ...], columns: str) -> int:
    """Return the id of a row that is there once, made when missing."""
    digest = hashlib.blake2b(repr(values).encode(), digest_size=16).digest()
    select = f"SELECT id FROM {table} WHERE digest = ?"  # noqa: S608 - names from above
    for (number,) in database.execute(select, (digest,)):
        return cast("int", number)
    places = ", ".join("?" * (len(values) + 1))
    insert_one = f"INSERT INTO {table} (digest, {columns}) VALUES ({places})"  # noqa: S608 - as above
    database.execute(insert_one, (digest, *values))
    return database.last_insert_rowid()


def _take_over(database: apsw.Connection) -> None:
    """Move the letters of the first form of the table, which had all in each row."""
    rows = database.execute(
        "SELECT block, row, sink, event, reason, middleware, attempts, traceback,"
        " source, line, received, path, event_bytes, status, redriven_as, changed_at"
        " FROM dead_letters ORDER BY block, row, sink"
    )
    for block, row, sink, event, reason, middleware, attempts, traceback, *rest in rows:
        source, line, received, path, size, status, redriven_as, changed_at = rest
        letter_id = LetterId(block, row, sink)
        letter = DeadLetter(row, event, reason, middleware, attempts, traceback)
        new = NewLetter(letter_id, letter, Origin(source, line, received, path), size)
        insert(database, [new], changed_at)
        if status != STATUS[0]:
            decided = (STATUS.index(status), redriven_as, changed_at, *letter_id)
            database.execute(
                "UPDATE letters SET status = ?, redriven_as = ?, changed_at = ?"
                " WHERE block = ? AND row = ? AND sink = ?",
                decided,
            )
    database.execute("DROP TABLE dead_letters")
