"""The state directory is one user's alone: nobody else reads events there, or holds its files.

Whoever may open a file may lock it, and so hold the daemon up; whoever may replace one by a link
lets the daemon write elsewhere. So everything is made for its owner only, whatever the umask, and
what was left open to others is closed to them at the start.
"""

from __future__ import annotations

import logging
import os
import re
import stat
from pathlib import Path
from typing import Final

from service.errors import PipelineFailed

FILES: Final = ("lock", "queue.json", "penstock.db", "penstock.db-wal", "penstock.db-shm")
FOLDERS: Final = ("journal", "checkpoints")
OURS: Final = re.compile(r"\d{16}\..+|high-water.*")
"""What files are called in these folders; whatever else lies there is left alone."""

log = logging.getLogger(__name__)


def make_folder(path: Path) -> None:
    """Make a folder that only its owner may enter; one that is there stays. Raises OSError."""
    try:
        path.mkdir(mode=0o700, parents=True)
    except FileExistsError:
        if not path.is_dir():
            raise
    else:
        path.chmod(0o700)  # an umask may have taken even that


def make_file(path: Path) -> None:
    """Make an empty file that only its owner may open; one that is there stays. Raises OSError.

    What SQLite makes beside a database has the mode of that.
    """
    flags = os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_CLOEXEC
    try:
        descriptor = os.open(path, flags, 0o600)
    except FileExistsError:
        return
    try:
        os.fchmod(descriptor, 0o600)
    finally:
        os.close(descriptor)


def open_lock(path: Path) -> int:
    """Return a descriptor of a file to be locked, made when missing.

    Follows no link, and waits for nobody at the other end of a pipe. Raises OSError.
    """
    make_file(path)
    return os.open(path, os.O_RDWR | os.O_NOFOLLOW | os.O_NONBLOCK | os.O_CLOEXEC)


def keep_private(directory: Path) -> None:
    """Make a state directory, and let nobody but its owner into what is there.

    Raises PipelineFailed for one of another user, and for what is a link or of another kind than it
    should be; OSError.
    """
    make_folder(directory)
    found = directory.stat()
    if found.st_uid != os.geteuid():
        message = (
            f"{directory}: belongs to user {found.st_uid}, and this is user {os.geteuid()}: run it "
            "as that user, change the owner (chown -R), or name another state.directory"
        )
        raise PipelineFailed(message)
    here = Path.cwd()
    above = directory.resolve() in {here, *here.parents}
    shared = above or found.st_mode & stat.S_ISVTX  # those are there for others, too
    if not shared and _close(directory, found):
        log.warning(
            "%s: was open to others (mode %o), and nobody but its owner may enter it any more",
            directory,
            stat.S_IMODE(found.st_mode),
        )
    for name in FILES:
        _check(directory / name, stat.S_IFREG)
    for name in FOLDERS:
        if _check(directory / name, stat.S_IFDIR):
            for path in (directory / name).iterdir():
                if OURS.fullmatch(path.name):
                    _check(path, stat.S_IFREG)


def _check(path: Path, kind: int) -> bool:
    """Close one file or folder to others; say whether it is there."""
    try:
        found = path.lstat()
    except FileNotFoundError:
        return False
    if stat.S_IFMT(found.st_mode) != kind:
        wanted = "folder" if kind == stat.S_IFDIR else "file"
        is_link = stat.S_ISLNK(found.st_mode)
        what = "a symbolic link" if is_link else f"no {wanted}"
        raise PipelineFailed(
            f"{path}: is {what}, and nothing but a {wanted} of Penstock's own belongs there; look "
            "who put it there, then remove it or move the real one back"
        )
    _close(path, found)
    return True


def _close(path: Path, found: os.stat_result) -> bool:
    """Let nobody but its owner in; say whether that had to be changed."""
    is_open = bool(found.st_mode & 0o077)
    if is_open:
        path.chmod(found.st_mode & 0o700)
    return is_open
