"""The journal's files: their names, and what it means when one of them fails."""

from __future__ import annotations

import errno
import re
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Final

import apsw

from service.database import BUSY
from service.disk import sync_directory
from service.errors import JournalDamaged, OutcomeUnknown, StorageBusy, StorageFull

UNFINISHED: Final = ".repaired"
"""The ending of a mended segment that has yet to take the damaged one's place."""

ADVICE: Final = (
    "nothing was changed; stop the daemon, look with `penstock journal verify`, "
    "then mend with `penstock journal repair` or bring the files back from a backup"
)

WAYS_BACK: Final = (
    "nothing was changed; bring it back from a backup, then start again; or move the whole state "
    "directory away to start anew: with it go what the steps remember, the dead letters, and how "
    "far sources and sinks have come, so that files are read again from their beginning"
)
"""What can be done where the parts of a state directory do not belong together."""

_NUMBER: Final = re.compile(r"\d{16}")


def wal(path: Path) -> Path:
    """Return the name of a segment's write-ahead log."""
    return path.with_name(f"{path.name}-wal")


def shm(path: Path) -> Path:
    """Return the name of the index that SQLite makes of a write-ahead log."""
    return path.with_name(f"{path.name}-shm")


def first_of(path: Path) -> int:
    """Return the first sequence of a segment."""
    return int(path.stem)


def path_of(directory: Path, first: int) -> Path:
    """Return the file of the segment that begins with a sequence."""
    return directory / f"{first:016d}.segment"


def segments_in(directory: Path) -> list[Path]:
    """Return the segments of a journal, in order."""
    return sorted(path for path in directory.glob("*.segment") if _NUMBER.fullmatch(path.stem))


def size_in(directory: Path) -> int:
    """Return the bytes that a journal's files take; what is removed meanwhile takes none."""
    return sum(map(size_of_file, directory.glob("*.segment*")))


def size_of_file(path: Path) -> int:
    """Return the bytes of a file, 0 if it is gone."""
    try:
        return path.stat().st_size
    except FileNotFoundError:
        return 0


def remove_segment(path: Path) -> None:
    """Remove a segment and what SQLite keeps beside it.

    Its log goes last: a segment without its log would be a damaged one, a log alone is a leftover.
    """
    path.unlink()
    wal(path).unlink(missing_ok=True)
    shm(path).unlink(missing_ok=True)
    sync_directory(path.parent)  # so that no power loss brings this one back, but not the next


def remove_leftovers(directory: Path) -> None:
    """Remove what was being made or removed when a process was killed."""
    for path in directory.glob("*.new*"):
        path.unlink()
    paths = segments_in(directory)
    for beside in (*directory.glob("*.segment-wal"), *directory.glob("*.segment-shm")):
        # A log without its segment, newer than the oldest segment, is all that is left of a loss.
        if paths and beside.name < paths[0].name:
            beside.unlink()


def damaged(path: Path, what: str) -> JournalDamaged:
    """Return the error for a segment that is not as it was written."""
    return JournalDamaged(f"segment {path}: {what}; {ADVICE}")


@contextmanager
def reading(path: Path) -> Iterator[None]:
    """Name the segment in what SQLite raises, and tell damage from a disk that does not answer."""
    try:
        yield
    except BUSY as error:
        raise _busy(path) from error
    except (apsw.IOError, apsw.NoMemError) as error:
        if getattr(error, "extendedresult", None) == apsw.SQLITE_IOERR_SHORT_READ:
            raise damaged(path, f"cut short ({error})") from error
        raise OutcomeUnknown(f"segment {path} cannot be read now: {error}") from error
    except (apsw.Error, UnicodeError) as error:
        raise damaged(path, str(error)) from error


@contextmanager
def writing(path: Path) -> Iterator[None]:
    """Tell a full disk, or a lock, which change nothing, from any other failure to write."""
    try:
        yield
    except BUSY as error:
        raise _busy(path) from error
    except apsw.FullError as error:
        raise _full(path) from error
    except apsw.Error as error:
        raise _unknown(path, error) from error
    except OSError as error:
        if error.errno in {errno.ENOSPC, errno.EDQUOT}:
            raise _full(path) from error
        raise _unknown(path, error) from error


@contextmanager
def half_way() -> Iterator[None]:
    """Let no failure pass for a full disk that changed nothing: something has changed."""
    try:
        yield
    except (OSError, StorageFull) as error:
        message = (
            f"the journal cannot be written: {error}; what was committed is there, start again"
        )
        raise OutcomeUnknown(message) from error


def _busy(path: Path) -> StorageBusy:
    return StorageBusy(
        f"{path}: another process holds a lock on it; nothing of this was kept: end that process"
    )


def _full(path: Path) -> StorageFull:
    return StorageFull(f"{path}: the disk is full; nothing of this was kept: make room")


def _unknown(path: Path, error: Exception) -> OutcomeUnknown:
    return OutcomeUnknown(
        f"{path}: {error}; it is not known what of this was kept: "
        "free or repair the disk, then start again"
    )
