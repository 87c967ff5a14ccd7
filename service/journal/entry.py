"""What the journal's entries say: a block, or the chain as it is from the next block on."""

from __future__ import annotations

from collections.abc import Collection
from dataclasses import dataclass, replace
from typing import Any, Final

import msgspec

from service.block import Block, FileIdentity, FileRange, Part
from service.chain import ChainVersion, Step
from service.journal.row import BLOCK, GONE, Entry, Key, Loss, NewEntry, loss

CHAIN: Final = 2


@dataclass(frozen=True, slots=True)
class Configuration:
    """What the configuration file said of events and steps, to see later whether it changed."""

    event: dict[str, Any]
    steps: tuple[Step, ...]
    inputs: tuple[tuple[str, int, int], ...] = ()
    """The files of ``penstock process``: path, bytes, time of change in nanoseconds."""

    def without(self, names: Collection[str]) -> Configuration:
        """Return the configuration without some steps."""
        steps = tuple(step for step in self.steps if step.name not in names)
        return replace(self, steps=steps)

    def same_structure(self, other: Configuration) -> bool:
        """Say whether both have the same steps in the same order and read events alike.

        Modes and parameters may differ: these can be switched.
        """
        ours = [(step.name, step.use, step.shared) for step in self.steps]
        theirs = [(step.name, step.use, step.shared) for step in other.steps]
        return ours == theirs and self.event == other.event


@dataclass(frozen=True, slots=True)
class ChainChange:
    """The chain from the next block on, and the configuration it started from."""

    chain: ChainVersion
    configuration: Configuration

    def without(self, names: Collection[str]) -> ChainChange:
        """Return the change without some steps."""
        if not names:
            return self
        return ChainChange(self.chain.without(names), self.configuration.without(names))


class _BlockBody(msgspec.Struct, frozen=True, array_like=True):
    parts: tuple[tuple[str, int | None, int | None, float], ...]
    barrier: bool
    file: tuple[str, int, int] | None
    identity: tuple[int, int, int] | None = None
    """Of the file; entries of before have none."""


def block_entry(block: Block, keys: tuple[Key, ...] = ()) -> NewEntry:
    """Return a block as an entry; raises ValueError for what could not be read again."""
    parts = tuple((part.source, part.lines, part.first_line, part.received) for part in block.parts)
    payload = block.payload
    file, identity = None, None
    if isinstance(payload, FileRange):
        file, identity = (payload.path, payload.start, payload.stop), payload.identity
    body = msgspec.msgpack.encode(_BlockBody(parts, block.barrier, file, identity))
    msgspec.msgpack.decode(body, type=_BlockBody)  # to encode, no type is looked at
    data = payload if isinstance(payload, bytes) else b""
    return NewEntry(BLOCK, block.number, body, data, keys)


def read_block(entry: Entry, chain: ChainVersion) -> Block:
    """Return the block of an entry, to be decided by ``chain``."""
    body = msgspec.msgpack.decode(entry.body, type=_BlockBody)
    identity = None if body.identity is None else FileIdentity(*body.identity)
    payload = entry.payload if body.file is None else FileRange(*body.file, identity)
    parts = tuple(Part(*part) for part in body.parts)
    return Block(entry.block, payload, parts, chain, body.barrier, entry.sequence)


def gone_blocks(entry: Entry) -> range:
    """Return the numbers of the blocks that are gone: an entry says so in their place."""
    gone = loss(entry)
    return range(gone.first, gone.last + 1)


def chain_entry(next_block: int, change: ChainChange) -> NewEntry:
    """Return a change of the chain that holds from ``next_block`` on as an entry."""
    return NewEntry(CHAIN, next_block, msgspec.msgpack.encode(change), b"")


def read_chain(entry: Entry) -> ChainChange:
    """Return the change of the chain that an entry holds."""
    return msgspec.msgpack.decode(entry.body, type=ChainChange)


def check_body(entry: Entry) -> None:
    """Raise ValueError, which says why, when an entry is whole, but cannot be understood."""
    form = {BLOCK: _BlockBody, CHAIN: ChainChange, GONE: Loss}.get(entry.kind)
    if form is None:
        raise ValueError(f"it is as it was written, but its kind {entry.kind} is not known here")
    try:
        msgspec.msgpack.decode(entry.body, type=form)
    except ValueError as error:
        message = f"it is as it was written, but cannot be read: {error}"
        raise ValueError(message) from error
