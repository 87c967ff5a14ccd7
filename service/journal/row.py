"""An entry's form on disk: a row that proves itself and names the row before it.

Invariants:

1. Sequences and block numbers are 1, 2, 3 ... over all segments, without a gap. An entry that is
   no block bears the number of the next one.
2. A row's ``crc`` is over everything else in it, so that each row can be judged alone; among that
   is ``previous``, the crc of the row before it, so that no row can be missing or foreign.
3. A row that stands for a lost one has as ``crc`` what the next row names as its ``previous``. Its
   payload on disk is the checksum over all the rest.
"""

from __future__ import annotations

import struct
from collections.abc import Iterator
from typing import Any, Final, NamedTuple
from zlib import crc32

import msgspec

GONE: Final = 0
"""Kind of an entry that stands for a lost one; its body is msgpack: from, to (blocks), why."""

BLOCK: Final = 1
"""Kind of an entry that is a block. Any other kind uses up no block number."""

Columns = tuple[Any, ...]
"""sequence, kind, block, time, previous, crc, keys, body, payload: as SQLite holds them."""

_HEADER: Final = struct.Struct("<QqQdIQQQ")
_CRC: Final = struct.Struct("<I")


class Key(NamedTuple):
    """An idempotency key, accepted with an entry.

    ``row``: its first line in the block. ``received``: seconds since the epoch. ``digest``: of the
    lines that it came with.
    """

    key: str
    row: int
    lines: int
    received: float
    digest: bytes


class NewEntry(NamedTuple):
    """What is to be appended."""

    kind: int
    block: int
    body: bytes
    payload: bytes
    keys: tuple[Key, ...] = ()


class Entry(NamedTuple):
    """What was appended; ``time`` is when, in seconds since the epoch."""

    sequence: int
    kind: int
    block: int
    time: float
    body: bytes
    payload: bytes
    keys: tuple[Key, ...]


class Link(NamedTuple):
    """A place in the chain: the last entry, the last block's number, and that entry's crc."""

    sequence: int
    block: int
    crc: int


START: Final = Link(0, 0, 0)


class Loss(msgspec.Struct, rename={"first": "from", "last": "to"}):
    """The body of a lost entry: the blocks that it may have been, none if ``last`` is lower."""

    first: int
    last: int
    why: str


class Row(NamedTuple):
    """An entry and its links."""

    entry: Entry
    previous: int
    crc: int

    @property
    def before(self) -> Link:
        """Return the place right before this row."""
        return Link(self.entry.sequence - 1, self.entry.block - 1, self.previous)

    @property
    def after(self) -> Link:
        """Return the place right after this row."""
        entry = self.entry
        last = entry.block if entry.kind == BLOCK else entry.block - 1
        if entry.kind == GONE:
            last = loss(entry).last
        return Link(entry.sequence, last, self.crc)

    @property
    def columns(self) -> Columns:
        """Return what is written into the table."""
        entry = self.entry
        keys = _pack(entry.keys)
        payload = entry.payload
        if entry.kind == GONE:
            payload = _CRC.pack(_checksum(entry, self.previous, keys, _CRC.pack(self.crc)))
        numbers = (entry.sequence, entry.kind, entry.block, entry.time, self.previous, self.crc)
        return (*numbers, keys, entry.body, payload)


def loss(entry: Entry) -> Loss:
    """Return what a lost entry's body says."""
    return msgspec.msgpack.decode(entry.body, type=Loss)


def new_row(after: Link, new: NewEntry, time: float) -> Row:
    """Return the row of an entry that follows ``after``.

    Raises ValueError when its block number does not.
    """
    if new.kind == GONE:
        raise ValueError("only a repair says that an entry is gone")
    if new.block != after.block + 1:
        raise ValueError(f"an entry after block {after.block} cannot bear number {new.block}")
    entry = Entry(after.sequence + 1, new.kind, new.block, time, new.body, new.payload, new.keys)
    crc = _checksum(entry, after.crc, _pack(entry.keys), entry.payload)
    return Row(entry, after.crc, crc)


def lost_rows(after: Link, upto: Link, why: str, time: float) -> Iterator[Row]:
    """Return the rows that stand for everything between two places.

    The lost blocks go to the first of them, one to each: all numbers are there, though which
    sequence was a block and which was none is not known any more. Raises ValueError when there are
    no such rows: the places are of different journals.
    """
    if upto.block < after.block or upto.sequence <= after.sequence:
        raise ValueError(f"the chain does not lead from {after} to {upto}")
    while after.sequence < upto.sequence:
        last = after.sequence + 1 == upto.sequence
        block = upto.block if last else min(after.block + 1, upto.block)
        body = msgspec.msgpack.encode(Loss(after.block + 1, block, why))
        entry = Entry(after.sequence + 1, GONE, after.block + 1, time, body, b"", ())
        row = Row(entry, after.crc, upto.crc if last else crc32(body, after.crc))
        yield row
        after = row.after


def read_row(columns: Columns) -> Row:
    """Return the row of these columns; raises ValueError, which says what is wrong with them."""
    match columns:
        case (
            int(sequence),
            int(kind),
            int(block),
            float(time),
            int(previous),
            int(crc),
            bytes(keys),
            bytes(body),
            bytes(payload),
        ):
            entry = Entry(sequence, kind, block, time, body, payload, ())
        case _:
            raise ValueError("a column does not hold what it should")
    try:
        if kind == GONE:
            sound = payload == _CRC.pack(_checksum(entry, previous, keys, _CRC.pack(crc)))
            entry = entry._replace(payload=b"")
        else:
            sound = crc == _checksum(entry, previous, keys, payload)
    except struct.error as error:
        raise ValueError("a number is out of bounds") from error
    if not sound:
        raise ValueError("it does not match its checksum")
    return Row(entry._replace(keys=_unpack(keys)), previous, crc)


def size_of(row: Row) -> int:
    """Return about how many bytes a row takes in a segment."""
    entry = row.entry
    return 64 + len(entry.payload) + len(entry.body) + 128 * len(entry.keys)


def _pack(keys: tuple[Key, ...]) -> bytes:
    return msgspec.msgpack.encode(keys) if keys else b""


def _unpack(keys: bytes) -> tuple[Key, ...]:
    return msgspec.msgpack.decode(keys, type=tuple[Key, ...]) if keys else ()


def _checksum(entry: Entry, previous: int, keys: bytes, payload: bytes) -> int:
    sizes = (len(keys), len(entry.body), len(payload))
    header = _HEADER.pack(entry.sequence, entry.kind, entry.block, entry.time, previous, *sizes)
    return crc32(payload, crc32(entry.body, crc32(keys, crc32(header))))
