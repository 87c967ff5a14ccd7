"""Where the file of a position is now, and how it is taken back.

A position is ``{"path": str, "length": int, "identity": [...]}``, the last as of FileIdentity.
"""

from __future__ import annotations

import fcntl
import logging
import os
import shutil
import time
from pathlib import Path
from typing import Any

from service.block import FileIdentity
from service.errors import SinkFailed

log = logging.getLogger(__name__)


def take_back(position: Any) -> None:
    """Cut off what the file of a position holds after it, wherever in its folder it is now.

    Anything else than a position, or a file that is gone, or another one, is left as it is. Raises
    OSError.
    """
    path = found(position)
    if path is None:
        return
    descriptor = os.open(path, os.O_WRONLY | os.O_CLOEXEC)
    try:
        hold(descriptor, path)
        beyond = cut(descriptor, int(position["length"]))
    except SinkFailed as error:
        log.warning("%s; it is left as it is", error)
        return
    finally:
        os.close(descriptor)
    if beyond:
        told = "%s: %d bytes after the last checkpoint cut off; they are written again"
        log.warning(told, path, beyond)


def hold(descriptor: int, path: Path) -> None:
    """Keep all others from holding an open file, too, until it is closed; raises SinkFailed."""
    try:
        fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError:
        message = f"{path}: another process writes there, such as a second daemon or a `process`"
        raise SinkFailed(message) from None
    except OSError:
        return  # a file system that has no locks


def set_aside(position: Any) -> None:
    """Copy what the file of a position holds after it into a file beside; raises OSError.

    For what nobody can write again, since the journal has nothing after the position.
    """
    path = found(position)
    if path is None or path.stat().st_size <= position["length"]:
        return
    aside = path.with_name(f"{path.name}.cut-{time.strftime('%Y%m%d-%H%M%S')}")
    aside.touch(0o600)
    with path.open("rb") as file, aside.open("wb") as kept:
        file.seek(position["length"])
        shutil.copyfileobj(file, kept)
        kept.flush()
        os.fsync(kept.fileno())
        beyond = kept.tell()
    log.error(
        "%s: its last %d bytes came after the last checkpoint, and the journal does not know their "
        "events (was an older state directory brought back?): they are kept in %s, and cut off",
        path,
        beyond,
        aside,
    )


def found(position: Any) -> Path | None:
    """Return where the file of a position is now; None where it is gone, or was never known."""
    path = path_in(position)
    identity = position.get("identity") if path else None
    return find(path, FileIdentity(*identity)) if path and identity else None


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


def cut(descriptor: int, length: int) -> int:
    """Cut off what an open file holds after ``length`` bytes; return how many that were.

    The cut is on the disk before anything is appended: after a loss of power the old end must not
    lie there in place of, or beside, what was written since.
    """
    beyond = os.fstat(descriptor).st_size - length
    if beyond <= 0:
        return 0
    os.ftruncate(descriptor, length)
    os.fsync(descriptor)
    return beyond
