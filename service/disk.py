"""What every part that keeps something on disk does alike."""

from __future__ import annotations

import os
import stat
from collections.abc import Iterable
from pathlib import Path

FileKey = tuple[int, int] | str


def write_all(descriptor: int, data: bytes | memoryview) -> None:
    """Write all of ``data``; raises OSError, with part of it written."""
    view = memoryview(data)
    while view:
        view = view[os.write(descriptor, view) :]


def sync_directory(directory: Path) -> None:
    """Let the names of files made, renamed or removed survive power loss; raises OSError."""
    descriptor = os.open(directory, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)


def as_places(places: object) -> list[Path | str]:
    """Return what a class says that it reads or writes; raises TypeError for what cannot be it."""
    if isinstance(places, str) or not isinstance(places, Iterable):
        raise TypeError(f"expected a list of paths, or of the name of a stream, got {places!r}")
    found = list(places)
    for place in found:
        if not isinstance(place, Path | str):
            raise TypeError(f"expected paths, or the name of a stream, got {place!r}")
    return found


def key_of(path: Path) -> FileKey | None:
    """Return what is the same for all names of one file; None for a device, which many may use."""
    try:
        status = path.stat()
    except OSError:
        return str(path.resolve())
    if stat.S_ISCHR(status.st_mode):
        return None
    return status.st_dev, status.st_ino
