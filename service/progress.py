"""What a process is at, in memory its parent can read also when the process hangs or is dead.

A worker has one lane; the state host has one for each step. A lane says which block it is at, which
step asks, and which event of the step's batch is being handled: the event to blame.
"""

from __future__ import annotations

from collections.abc import Iterator
from multiprocessing import get_context
from typing import Any, Final, NamedTuple

NOTHING: Final = -1
"""No code of a middleware runs: the event is being read, packed, or waited for."""
BATCH: Final = -2
"""``handle_batch`` runs: the guilty event is somewhere in the batch."""
ASKING: Final = -3
"""A worker waits for the state host."""
RAISED: Final = -4
"""``handle_batch`` of a shared middleware raised: its memory cannot be trusted any more."""
OPENING: Final = -5
"""A step is being opened, in no block."""
KEEPING: Final = -6
"""A step's ``snapshot`` runs, in no block."""
RESTORING: Final = -7
"""A step's ``restore`` runs, in no block."""
BORDER: Final = -1
"""In place of a step: the event's line is being read."""

_CELLS = 3


class Place(NamedTuple):
    """Where a lane is; ``position`` counts within the batch that the step was given."""

    block: int
    step: int
    position: int


class Lane:
    """One thread's cells; ``cells[position] = n`` is fast enough for every single event."""

    __slots__ = ("_base", "cells", "position")

    def __init__(self, cells: Any, index: int) -> None:
        self.cells = cells
        self._base = index * _CELLS
        self.position = self._base + 2

    def enter(self, block: int, step: int, position: int) -> None:
        """Say what is being done from now on."""
        self.cells[self.position] = NOTHING
        self.cells[self._base] = block
        self.cells[self._base + 1] = step
        self.cells[self.position] = position

    def leave(self) -> None:
        """Say that no code of a middleware runs any more."""
        self.cells[self.position] = NOTHING


class Progress:
    """The lanes of one process; made by the parent and handed to the child."""

    def __init__(self, lanes: int) -> None:
        self._lanes = lanes
        self._cells = get_context("forkserver").RawArray("q", [-1] * (_CELLS * lanes))

    def lane(self, index: int) -> Lane:
        """Return one lane, to write to."""
        return Lane(self._cells, index)

    def places(self) -> Iterator[Place]:
        """Yield where each lane is, or was when its process died."""
        cells = self._cells[:]
        for base in range(0, len(cells), _CELLS):
            yield Place(*cells[base : base + _CELLS])


def local_lane() -> Lane:
    """Return a lane nobody watches, for a chain that runs in the same process."""
    return Lane([-1] * _CELLS, 0)
