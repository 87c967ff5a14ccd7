"""A snapshot: what every shared step remembers right after one block.

Encoded, it is a short description of the steps and then their memories, one behind the other: so
that a memory of many megabytes is copied as seldom as can be.
"""

from __future__ import annotations

import struct
from collections.abc import Iterable
from dataclasses import dataclass
from typing import Any, Final

import msgspec

from service.chain import Step

Encoded = bytes | memoryview

_LENGTH: Final = struct.Struct("<Q")


@dataclass(frozen=True, slots=True)
class StepMemory:
    """One shared step's part of a snapshot: its memory, encoded, and the switches it has seen."""

    name: str
    use: str
    params: dict[str, Any]
    resets: int
    state: Encoded


class Snapshot:
    """The memory of shared steps right after ``block``."""

    def __init__(self, block: int, memories: Iterable[StepMemory]) -> None:
        self.block = block
        self.memories = {memory.name: memory for memory in memories}
        """What each step remembers, by its name."""

    def memory(self, step: Step) -> StepMemory | None:
        """Return what ``step`` remembers, None if it is not known or was another middleware."""
        memory = self.memories.get(step.name)
        return memory if memory is not None and memory.use == step.use else None

    def of(self, steps: Iterable[Step]) -> Snapshot:
        """Return the snapshot with what these steps remember, and nothing else."""
        return Snapshot(self.block, filter(None, map(self.memory, steps)))

    def pieces(self) -> list[Encoded]:
        """Return the snapshot encoded, in pieces to be put one behind the other."""
        memories = self.memories.values()
        steps = [
            (each.name, each.use, each.params, each.resets, len(each.state)) for each in memories
        ]
        description = msgspec.msgpack.encode((self.block, steps))
        return [_LENGTH.pack(len(description)), description, *(each.state for each in memories)]

    def encoded(self) -> bytes:
        """Return the snapshot encoded, in one piece."""
        return b"".join(self.pieces())

    @staticmethod
    def decode(data: Encoded) -> Snapshot:
        """Return the snapshot that was encoded; its memories stay where they are in ``data``."""
        view = memoryview(data)
        start = _LENGTH.size + _LENGTH.unpack_from(view)[0]
        block, steps = msgspec.msgpack.decode(view[_LENGTH.size : start], type=_Description)
        memories = []
        for name, use, params, resets, length in steps:
            state = view[start : start + length]
            memories.append(StepMemory(name, use, params, resets, state))
            start += length
        return Snapshot(block, memories)


_Description = tuple[int, list[tuple[str, str, dict[str, Any], int, int]]]
