"""Slots of memory that a worker shares with the daemon: the kept lines go through no pipe.

A pipe would cost five copies: to pickle, to write, to read, to put together and to unpickle them.

Invariant: what lies in a slot was taken out before the slot's turn comes again. There are as many
slots as a worker has blocks at once, each block puts in at most one thing, and the daemon takes it
out before it counts the block as done; only then the worker gets another one.
"""

from __future__ import annotations

import mmap
import os
import sys
import tempfile
from multiprocessing import reduction
from typing import Any, Final, NamedTuple

LEAST: Final = 2**15
"""Bytes below which a pipe is as good."""

LARGEST: Final = 2**26
"""Bytes of a slot at most: an address space is no larger for those who want endless blocks."""


class Put(NamedTuple):
    """Where something lies: the first ``length`` bytes of a slot."""

    slot: int
    length: int


class Slots:
    """A number of slots of ``size`` bytes each; made by the parent and handed to the child.

    They take no more memory than was ever put into them, and are to be closed.
    """

    def __init__(self, count: int, size: int) -> None:
        """Raise OSError, and leave nothing open, where there is no memory or no file to be had."""
        self._count, self._size, self._next = count, min(size, LARGEST), 0
        self._file = unnamed_file()
        try:
            os.ftruncate(self._file, count * self._size)
            self._memory = mmap.mmap(self._file, count * self._size)
        except BaseException:
            os.close(self._file)
            raise

    def put(self, data: bytes) -> bytes | Put:
        """Put ``data`` into the next slot; return where it is, or itself if a pipe suits it."""
        if not LEAST <= len(data) <= self._size:
            return data
        slot, self._next = self._next, (self._next + 1) % self._count
        start = slot * self._size
        self._memory[start : start + len(data)] = data
        return Put(slot, len(data))

    def take(self, put: bytes | Put) -> bytes:
        """Return what ``put`` was told."""
        if isinstance(put, bytes):
            return put
        start = put.slot * self._size
        return self._memory[start : start + put.length]

    def close(self) -> None:
        """Let go of the memory; it goes when the other side does so too."""
        self._memory.close()
        os.close(self._file)

    def __getstate__(self) -> tuple[int, int, Any]:
        # Only while a child is started: the file goes along with what is pickled.
        return self._count, self._size, reduction.DupFd(self._file)

    def __setstate__(self, state: tuple[int, int, Any]) -> None:
        self._count, self._size, file = state
        self._next = 0
        self._file = file.detach()
        self._memory = mmap.mmap(self._file, self._count * self._size)


def unnamed_file() -> int:
    """Return a new file that has no name, so that it is gone with the last who has it open."""
    if sys.platform == "linux":
        file = os.memfd_create("penstock")
    else:
        with tempfile.TemporaryFile() as named:
            file = os.dup(named.fileno())
    return file
