"""Dead letters as NDJSON lines, beside the output of ``penstock process``."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import msgspec

from service.appended_file import AppendedFile
from service.block import Block
from service.dead_letters import LetterId, describe, readable
from service.origins import Origin
from service.passage import DeadLetter


class DeadLetterFile:
    """Writes dead letters in offset order; the file appears with the first one."""

    def __init__(self, path: Path) -> None:
        self._path = path
        self._file = AppendedFile(path)
        self._written = 0
        self._refused: dict[tuple[int, str], set[int]] = {}

    def open(self, position: Any, died: int = 0) -> None:  # noqa: ARG002 - the position tells
        """Cut off what came after ``position``; without one the file goes, unless it is a device.

        Raises OSError, and PipelineFailed when what came before ``position`` is gone.
        """
        self._written = 0
        self._refused = {}
        if position is not None and position["length"]:
            self._file.open(position)
        elif self._path.is_file():
            self._path.unlink()

    def last_block(self) -> int:
        """Return 0: what came after the position is gone."""
        return 0

    def write(
        self,
        block: Block,
        letters: Sequence[DeadLetter],
        origin: Callable[[Block, int], Origin],
    ) -> None:
        """Write the dead letters of a block, all or none; raises OSError."""
        if letters and block.number > self._written:
            self._append("", block, letters, origin)
            self._written = block.number

    def refuse(
        self,
        sink: str,
        block: Block,
        letter: DeadLetter,
        origin: Callable[[Block, int], Origin],
    ) -> None:
        """Write the dead letter of an event that a sink refuses, and sync; raises OSError."""
        if letter.row not in self.refused(sink, block.number):
            self._append(sink, block, [letter], origin)
            others = {key: rows for key, rows in self._refused.items() if key[0] == block.number}
            others.setdefault((block.number, sink), set()).add(letter.row)
            self._refused = others  # nobody asks for the blocks before any more
        self.flush()

    def refused(self, sink: str, block: int) -> frozenset[int]:
        """Return the rows of a block that a sink refused since ``open``."""
        return frozenset(self._refused.get((block, sink), ()))

    def position(self) -> Any:
        """Return how long the file is, as ``AppendedFile`` does; None for a device."""
        return self._file.position()

    def flush(self) -> None:
        """Sync the file; raises OSError."""
        self._file.flush()

    def close(self) -> None:
        """Close the file."""
        self._file.close()

    def _append(
        self,
        sink: str,
        block: Block,
        letters: Sequence[DeadLetter],
        origin: Callable[[Block, int], Origin],
    ) -> None:
        records = [
            describe(LetterId(block.number, letter.row, sink), letter, origin(block, letter.row))
            | readable(letter.event)
            for letter in letters
        ]
        self._file.write(b"".join(msgspec.json.encode(record) + b"\n" for record in records))
