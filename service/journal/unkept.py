"""The journal that keeps nothing, for durability "off"."""

from __future__ import annotations

from collections import OrderedDict
from collections.abc import Iterator
from typing import Final

from service.journal.journal import Entry, Journal, Key, NewEntry

MOST_KEYS: Final = 100_000
"""Idempotency keys that are remembered, the latest ones; only as long as the daemon lives."""


class UnkeptJournal(Journal):
    """Numbers entries and remembers the latest idempotency keys, in memory alone."""

    def __init__(self) -> None:
        self._sequence = 0
        self._keys: OrderedDict[str, tuple[int, Key]] = OrderedDict()

    @property
    def last(self) -> int:
        """The number of the last entry."""
        return self._sequence

    @property
    def first(self) -> int:
        """The number that the next entry would have: none is kept."""
        return self._sequence + 1

    @property
    def size(self) -> int:
        """The bytes on disk: none."""
        return 0

    def open(self, after: int) -> None:
        """Begin: there is nothing to take up."""
        del after

    def append(self, *entries: NewEntry) -> int:
        """Remember the keys alone; return the last entry's number."""
        for entry in entries:
            self._sequence += 1
            for key in entry.keys:
                self._keys[key.key] = (entry.block, key)
                if len(self._keys) > MOST_KEYS:
                    self._keys.popitem(last=False)
        return self._sequence

    def entries(self, after: int, upto: int | None = None) -> Iterator[Entry]:
        """Return no entry."""
        del after, upto
        return iter(())

    def find(self, key: str) -> tuple[int, Key] | None:
        """Return the block and the key as accepted, None when it is not remembered."""
        return self._keys.get(key)

    def check_lock(self) -> None:
        """Do nothing: there is no file."""

    def sync(self) -> None:
        """Do nothing: there is nothing to keep."""

    def trim(self, needed: int, now: float) -> None:
        """Do nothing: there is nothing to forget."""

    def close(self) -> None:
        """Do nothing: nothing is open."""
