"""Small journals, and what is to be in them."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import msgspec

from service.block import Block, Part
from service.chain import ChainVersion
from service.journal.entry import ChainChange, Configuration, block_entry, chain_entry
from service.journal.journal import Entry, Journal, Key, NewEntry

CHAIN = ChainVersion(1, ())


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
    """Return a block; its source is called ``body`` and its number."""
    taken = tuple(Key(key, row, 1, 17.5, key.encode()) for row, key in enumerate(keys))
    parts = (Part(f"body {number}", 1, 1, 17.5),)
    return block_entry(Block(number, payload, parts, CHAIN, barrier=False), taken)


def poison(number: int, payload: bytes = b"") -> NewEntry:
    """Return a block that nobody can read again: its source is no text."""
    return block(number, payload)._replace(
        body=msgspec.msgpack.encode([[[None, 1, 1, 17.5]], False, None])
    )


def switch(next_block: int) -> NewEntry:
    """Return an entry that is no block."""
    return chain_entry(next_block, ChainChange(CHAIN, Configuration({}, ())))


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
