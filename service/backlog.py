"""The backlog: what was accepted and is not done with; whether there is room, and when to save.

What takes memory is counted in bytes. A block by reference takes none: it may be kept as long as it
likes, and not more of them are accepted than workers may take.
"""

from __future__ import annotations

from typing import Final

from service.block import Block, FileRange

SNAPSHOT_SHARE: Final = 4
"""A snapshot is taken at most once for so many times its own size of input."""

SNAPSHOT_SHARE_OF_FILES: Final = 16
"""The same where all of the input lies in files: it comes faster, and takes no memory meanwhile."""


BLOCKS_AGAIN: Final = 32
"""While blocks come again at a start, a barrier follows so many of them, or"""

SIZE_AGAIN: Final = 2**20
"""so many bytes."""


class Backlog:
    """Counts of the blocks that are under way, of those kept for a replay, and since a barrier.

    Invariant: whenever ``has_room`` says no for what is kept, a barrier is on its way that will let
    some of it go.
    """

    def __init__(self, *, room: int, references: int, checkpoint_size: int) -> None:
        """``room``: bytes, and ``references``: blocks, that may be accepted and not yet emitted.

        A barrier is wanted after as many bytes in memory, or ``checkpoint_size`` of any.
        """
        self._room = room
        self._most_references = references
        self._checkpoint_size = checkpoint_size
        self._unsettled = 0
        self._references = 0
        self._kept = 0
        self._since_barrier = 0
        self._kept_since_barrier = 0
        self.blocks_since_barrier = 0
        """The blocks accepted since the last barrier."""
        self.snapshot_size = 0
        """The bytes of the present snapshot: a large memory is saved more seldom."""

    def accept(self, block: Block) -> None:
        """Count a block that is on its way, and kept, from now on."""
        self._kept += block.held
        self._unsettled += block.held
        self._references += isinstance(block.payload, FileRange)
        self._since_barrier = 0 if block.barrier else self._since_barrier + block.size
        self._kept_since_barrier = 0 if block.barrier else self._kept_since_barrier + block.held
        self.blocks_since_barrier = 0 if block.barrier else self.blocks_since_barrier + 1

    def settle(self, block: Block) -> None:
        """Count a block that was emitted; it may still be kept."""
        self._unsettled -= block.held
        self._references -= isinstance(block.payload, FileRange)

    def drop(self, block: Block) -> None:
        """Count a block that is not kept any more."""
        self._kept -= block.held

    def has_room(self) -> bool:
        """Say whether another block may be accepted."""
        most = max(self._kept_since_barrier, 2 * self._at_least(self._room))
        return (
            self._unsettled < self._room
            and self._references < self._most_references
            and self._kept <= most
        )

    def wants_barrier(self, *, again: bool = False) -> bool:
        """Say whether the next block should be a barrier; ``again``: it was accepted before.

        Blocks that come again at a start are saved often: then also one that is killed again and
        again gets on.
        """
        if again and (
            self.blocks_since_barrier >= BLOCKS_AGAIN or self._since_barrier >= SIZE_AGAIN
        ):
            return self._since_barrier + SIZE_AGAIN >= self._at_least(0)
        share = SNAPSHOT_SHARE if self._kept_since_barrier else SNAPSHOT_SHARE_OF_FILES
        return self._since_barrier >= self._at_least(
            self._checkpoint_size, share
        ) or self._kept_since_barrier >= self._at_least(self._room)

    def _at_least(self, distance: int, share: int = SNAPSHOT_SHARE) -> int:
        return max(distance, share * self.snapshot_size)
