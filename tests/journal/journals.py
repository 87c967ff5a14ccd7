"""Small journals, and what is to be in them."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from service.journal.journal import BLOCK, Entry, Journal, Key, NewEntry

SWITCH = 2


def journal(directory: Path, **changed: Any) -> Journal:
    """Return a journal of small segments that keeps nothing longer than needed."""
    given: dict[str, Any] = {
        "full": True,
        "segment_bytes": 2_000,
        "retention_bytes": 0,
        "retention_seconds": 0.0,
    }
    return Journal(directory, **given | changed)


@contextmanager
def opened(directory: Path, after: int = 0, **changed: Any) -> Iterator[Journal]:
    """Open a journal, and close it whatever happens."""
    it = journal(directory, **changed)
    try:
        it.open(after)
        yield it
    finally:
        it.close()


def block(number: int, payload: bytes = b"", *keys: str) -> NewEntry:
    """Return a block."""
    taken = tuple(Key(key, row, 1, 17.5, key.encode()) for row, key in enumerate(keys))
    return NewEntry(BLOCK, number, b"body %d" % number, payload, taken)


def switch(next_block: int) -> NewEntry:
    """Return an entry that is no block."""
    return NewEntry(SWITCH, next_block, b"switch", b"")


def as_appended(entry: Entry) -> NewEntry:
    """Return what was appended."""
    return NewEntry(entry.kind, entry.block, entry.body, entry.payload, entry.keys)


def appended(it: Journal, after: int = 0) -> list[NewEntry]:
    """Return all entries as they were appended."""
    return [as_appended(entry) for entry in it.entries(after)]


def names(directory: Path) -> list[str]:
    """Return the names of a journal's files."""
    return sorted(path.name for path in directory.iterdir())


def segments(directory: Path) -> list[Path]:
    """Return the files of the segments, in order."""
    return sorted(directory.glob("*.segment"))
