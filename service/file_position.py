"""Where the file of a position is now, and how it is taken back.

A position is ``{"path": str, "length": int, "identity": [...]}``, the last as of FileIdentity.
"""

from __future__ import annotations

import logging
import os
from pathlib import Path
from typing import Any

from service.block import FileIdentity

log = logging.getLogger(__name__)


def take_back(position: Any) -> None:
    """Cut off what the file of a position holds after it, wherever in its folder it is now.

    Anything else than a position, or a file that is gone, or another one, is left as it is.
    """
    path = path_in(position)
    known = path and position.get("identity")
    found = path and known and find(path, FileIdentity(*known))
    if found:
        cut(found, int(position["length"]))


def path_in(position: Any) -> Path | None:
    """Return which file a position is of; None where it is not one of an AppendedFile."""
    keys = {"path", "length"}
    if isinstance(position, dict) and {*position} - {"identity"} == keys:
        return Path(position["path"])
    return None


def find(path: Path, identity: FileIdentity | None) -> Path | None:
    """Return where a file is now, in its folder; None where it is not there, or not known.

    One that was empty is not looked for under other names: its inode alone, which another file may
    have been given since, is too little to know it by.
    """
    if identity is None or not path.parent.is_dir():
        return None
    others = sorted(path.parent.iterdir()) if identity.head else []
    for each in [path, *others]:
        if each.is_file() and not each.is_symlink() and each.stat().st_ino == identity.inode:
            with each.open("rb") as file:  # the inode of a file that was removed is given again
                return each if identity.begins_alike(file.fileno()) else None
    return None


def cut(path: Path, length: int) -> None:
    """Cut off what a file holds after a position, on the disk too."""
    descriptor = os.open(path, os.O_WRONLY | os.O_CLOEXEC)
    try:
        beyond = os.fstat(descriptor).st_size - length
        if beyond > 0:
            os.ftruncate(descriptor, length)
            os.fsync(descriptor)
            log.warning(
                "%s: %d bytes after the last checkpoint cut off; they are written anew, elsewhere",
                path,
                beyond,
            )
    finally:
        os.close(descriptor)
