"""Idempotency keys, found again in the journal without asking every segment.

Of each sealed segment a Bloom filter is in memory, two to four bytes for each of its keys: a key
that is new passes hardly any of them, and the segments are not touched. A filter is made in a
thread of its own, so that neither a start nor an append waits for it; until it is there, and where
it says "perhaps", the segment itself is asked.
"""

from __future__ import annotations

import logging
from collections.abc import Callable, Iterator, Sequence
from contextlib import closing
from pathlib import Path
from threading import Condition, Thread
from typing import Final

import numpy as np
from numpy.typing import NDArray

from service.errors import PipelineFailed, StorageBusy
from service.journal.files import damaged, path_of
from service.journal.row import Key, read_row
from service.journal.segment import Segment

log = logging.getLogger(__name__)

BITS: Final = 16
"""Bits for each key, or up to twice as many: their number is a power of two."""

LEAST: Final = 1_024
"""Bits of the smallest filter."""

PROBES: Final = 6
"""Bits that a key sets: one new key of a thousand or more finds them all set by others."""


def find_key(segment: Segment, key: str) -> tuple[int, Key] | None:
    """Return the last block of a segment that came with a key, and the key as it came."""
    sequence = segment.find(key)
    if sequence is None:
        return None
    try:
        entry = read_row(segment.get(sequence) or ()).entry
        return entry.block, next(each for each in reversed(entry.keys) if each.key == key)
    except (ValueError, StopIteration) as error:
        raise damaged(segment.path, f"entry {sequence}, of a key: {error}") from error


class KeyFilter:
    """Says of a key that it is perhaps one of many, or surely none; only in this process."""

    def __init__(self, hashes: NDArray[np.int64]) -> None:
        """Take the keys' ``hash``, int64[n]."""
        size = LEAST
        while size < BITS * len(hashes):
            size *= 2
        self._mask = size - 1
        low, high = hashes & 0xFFFFFFFF, (hashes >> 32) & 0xFFFFFFFF | 1
        bits = np.zeros(size, np.bool_)
        for probe in range(PROBES):
            bits[(low + probe * high) & self._mask] = True
        self._bits = np.packbits(bits, bitorder="little").tobytes()

    @property
    def size(self) -> int:
        """The bytes it takes."""
        return len(self._bits)

    def may_hold(self, key: str) -> bool:
        """Say whether a key may be among them."""
        number = hash(key)
        place, step = number & 0xFFFFFFFF, (number >> 32) & 0xFFFFFFFF | 1
        bits, mask = self._bits, self._mask
        for _ in range(PROBES):
            at = place & mask
            if not bits[at >> 3] >> (at & 7) & 1:
                return False
            place += step
        return True


class KeyFilters:
    """The filters of a journal's sealed segments, by the segment's first sequence."""

    def __init__(self, directory: Path) -> None:
        self._directory = directory
        self._filters: dict[int, KeyFilter] = {}
        self._wanted: list[int] = []
        self._changed = Condition()
        self._closed = False
        self._thread: Thread | None = None

    def want(self, *firsts: int) -> None:
        """Have filters made of segments that are not written any more, the last named first."""
        with self._changed:
            self._wanted += firsts
            if self._thread is None and firsts:
                self._thread = Thread(target=self._run, name="key-filters", daemon=True)
                self._thread.start()
            self._changed.notify_all()

    def find(
        self, key: str, firsts: Sequence[int], segment: Callable[[int], Segment]
    ) -> tuple[int, Key] | None:
        """Return the last block that came with a key, and the key as it came.

        Asks each ``segment`` of ``firsts`` that may have it, the latest first.
        """
        for first in reversed(firsts):
            known = self._filters.get(first)
            if known is None or known.may_hold(key):
                found = find_key(segment(first), key)
                if found is not None:
                    return found
        return None

    def drop(self, first: int) -> None:
        """Forget a segment that is removed."""
        with self._changed:
            if first in self._wanted:
                self._wanted.remove(first)
            self._filters.pop(first, None)

    def close(self) -> None:
        """End the thread and forget all; what is wanted from now on begins anew."""
        with self._changed:
            self._closed = True
            self._changed.notify_all()
        if self._thread is not None:
            self._thread.join()
        with self._changed:
            self._wanted.clear()
            self._filters.clear()
            self._thread, self._closed = None, False

    def wait(self, limit: float) -> bool:
        """Wait until all filters are made; False if ``limit`` seconds were too few."""
        with self._changed:
            return self._changed.wait_for(lambda: not self._wanted, limit)

    @property
    def size(self) -> int:
        """The bytes that the filters take."""
        return sum(each.size for each in list(self._filters.values()))

    def _run(self) -> None:
        while True:
            with self._changed:
                self._changed.wait_for(lambda: self._wanted or self._closed)
                if self._closed:
                    return
                first = self._wanted[-1]
            made = self._make(first)
            with self._changed:
                if first in self._wanted:  # otherwise it was removed meanwhile
                    self._wanted.remove(first)
                    if made is not None:
                        self._filters[first] = made
                self._changed.notify_all()

    def _make(self, first: int) -> KeyFilter | None:
        try:
            segment = Segment.to_read(path_of(self._directory, first), last=False)
            with closing(segment):
                hashes = np.fromiter(map(hash, self._until_closed(segment)), np.int64)
        except (
            PipelineFailed,
            StorageBusy,
            OSError,
        ) as error:
            # It is asked itself from now on, and that says what is wrong.
            log.debug("no filter of the keys of segment %s: %s", first, error)
            return None
        return KeyFilter(hashes)

    def _until_closed(self, segment: Segment) -> Iterator[str]:
        for key in segment.each_key():
            if self._closed:
                return
            yield key
