"""The high-water mark: how far the journal had come, told apart from the journal itself.

A damaged write-ahead log ends silently at the damage, for SQLite cannot tell that from a log that
was never longer. The mark can.

Invariants:

1. A mark is written after its entries are committed: it never leads what a process has committed.
2. Two slots, on different blocks of the disk, are written in turn, each with its own checksum: one
   that is being written when the power goes leaves the other.
"""

from __future__ import annotations

import os
import struct
from pathlib import Path
from typing import Final
from zlib import crc32

from service.disk import sync_directory
from service.journal.row import Link
from service.privacy import make_file

NAME: Final = "high-water"

_PLACES: Final = (0, 4096)
_SLOT: Final = struct.Struct("<QQI")
_CRC: Final = struct.Struct("<I")


class HighWaterMark:
    """The mark of a journal that is being written. Raises OSError."""

    def __init__(self, directory: Path) -> None:
        self._descriptor = os.open(directory / NAME, os.O_RDWR)
        first, second = (link.sequence if link else -1 for link in read_slots(directory))
        self._next = _PLACES[0] if first <= second else _PLACES[1]

    def write(self, link: Link) -> None:
        """Move the mark; a process that is killed now has moved it."""
        os.pwrite(self._descriptor, _slot(link), self._next)
        self._next = _PLACES[0] + _PLACES[1] - self._next

    def sync(self) -> None:
        """Let the mark survive power loss."""
        os.fsync(self._descriptor)

    def close(self) -> None:
        """Close the file."""
        os.close(self._descriptor)


def create_mark(directory: Path, link: Link) -> None:
    """Make the file, whole or not at all, in place of another if there is one."""
    new = directory / f"{NAME}.new"
    make_file(new)
    with new.open("wb") as file:
        for place in _PLACES:
            file.seek(place)
            file.write(_slot(link))
        file.flush()
        os.fsync(file.fileno())
    new.rename(directory / NAME)
    sync_directory(directory)


def read_slots(directory: Path) -> tuple[Link | None, Link | None]:
    """Return what both slots hold, None for one that does not match its checksum."""
    data = (directory / NAME).read_bytes()
    first, second = (_read(data[place : place + _SLOT.size + _CRC.size]) for place in _PLACES)
    return first, second


def _slot(link: Link) -> bytes:
    data = _SLOT.pack(*link)
    return data + _CRC.pack(crc32(data))


def _read(slot: bytes) -> Link | None:
    data, crc = slot[: _SLOT.size], slot[_SLOT.size :]
    if len(crc) != _CRC.size or _CRC.unpack(crc) != (crc32(data),):
        return None
    return Link(*_SLOT.unpack(data))
