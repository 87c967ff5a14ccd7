"""What an operator does with a journal: verify it, also beside the daemon, and repair it.

The steps of a repair, each of which may be the last that a killed process did:

1. A segment is read as it should be: what is lost has a row that says so.
2. The damaged files are copied aside, and synced.
3. The mended segment is written under another name, and synced.
4. It is renamed: from here on it counts, and the damaged one does not. A repair that is run again
   goes on from here; the journal does not open before.
5. The damaged one's write-ahead log is removed: it would be read as the mended one's.
6. The mended one takes the damaged one's name.
7. When all segments are mended, the high-water mark is set to the last entry.
"""

from __future__ import annotations

import filecmp
import os
import shutil
from collections.abc import Iterator
from dataclasses import dataclass
from itertools import count, groupby
from pathlib import Path

from service.disk import sync_directory
from service.errors import JournalDamaged
from service.journal.files import (
    ADVICE,
    UNFINISHED,
    path_of,
    remove_leftovers,
    shm,
    size_in,
    wal,
    writing,
)
from service.journal.high_water import NAME, create_mark
from service.journal.row import Entry, Row
from service.journal.segment import write_file
from service.journal.survey import Finding, Survey
from service.privacy import make_folder

__all__ = ["Finding", "Findings", "repair", "retained", "verify"]


@dataclass(frozen=True)
class Findings:
    """What there is in a journal; ``blocks`` are the first and the last, ``size`` is in bytes."""

    findings: tuple[Finding, ...]
    segments: int
    entries: int
    blocks: tuple[int, int]
    size: int

    @property
    def clean(self) -> bool:
        """Whether all is as it was written, or as a repair has put it."""
        return not any(finding.damage for finding in self.findings)


def verify(directory: Path) -> Findings:
    """Read everything, also beside a running daemon; change nothing.

    Raises OutcomeUnknown when the disk cannot be read.
    """
    survey = Survey(directory)
    for _ in survey.rows():
        pass
    return Findings(
        tuple(survey.findings),
        len(survey.paths),
        survey.entries,
        survey.blocks,
        size_in(directory),
    )


def repair(directory: Path, aside: Path) -> list[Finding]:
    """Put an entry that says so in place of each lost one; return what was damaged.

    No daemon may have the journal open. The damaged files are kept in ``aside``. Raises
    JournalDamaged for what only a backup can mend, StorageFull and OutcomeUnknown.
    """
    with writing(directory):
        _finish(directory)
        remove_leftovers(directory)
        survey = Survey(directory)
        for _ in survey.rows():
            pass
        found = [finding for finding in survey.findings if finding.damage]
        if survey.torn or (found and survey.link is None):
            raise JournalDamaged(
                f"journal {directory} cannot be repaired: {found[0].what}; bring the segments "
                f"back from a backup, or move all of them away to begin anew; {ADVICE}"
            )
        if not found:
            return []
        make_folder(aside)
        _mend(directory, survey.damaged, aside)
        if (survey.mark_damaged or survey.mark != survey.link) and survey.link is not None:
            _copy(directory / NAME, aside)
            create_mark(directory, survey.link)
        return found


def _mend(directory: Path, damaged: set[int], aside: Path) -> None:
    survey = Survey(directory)
    left = set(damaged)
    for first, rows in groupby(survey.rows(), key=lambda each: each[0]):
        if first in damaged:
            left.discard(first)
            _replace(path_of(directory, first), (row for _, row in rows), survey, aside)
    for first in sorted(left):  # no entry belongs to it: it is the last one, and empty
        _replace(path_of(directory, first), iter(()), survey, aside)
    if not survey.paths and survey.link is not None:
        path = path_of(directory, survey.link.sequence + 1)
        write_file(path.with_suffix(".new"), survey.link, ())
        path.with_suffix(".new").rename(path)
        sync_directory(directory)


def _replace(path: Path, rows: Iterator[Row], survey: Survey, aside: Path) -> None:
    for each in (path, wal(path)):
        _copy(each, aside)
    new = path.with_suffix(".new")
    row = next(rows, None)
    before = row.before if row is not None else survey.link
    assert before is not None  # noqa: S101 - else nothing could be repaired
    write_file(new, before, _all(row, rows))
    new.rename(path.with_suffix(UNFINISHED))
    sync_directory(path.parent)
    _finish(path.parent)


def _all(row: Row | None, rows: Iterator[Row]) -> Iterator[Row]:
    if row is not None:
        yield row
        yield from rows


def _finish(directory: Path) -> None:
    """Let mended segments take the place of the damaged ones."""
    for mended in sorted(directory.glob(f"*{UNFINISHED}")):
        path = mended.with_suffix(".segment")
        for beside in (wal(path), shm(path)):
            beside.unlink(missing_ok=True)
        sync_directory(directory)
        mended.rename(path)
        sync_directory(directory)


def _copy(path: Path, aside: Path) -> None:
    """Copy a file, if there is one, and never over another."""
    if not path.exists():
        return
    names = (aside / (path.name if not n else f"{path.name}.{n}") for n in count())
    for name in names:
        if name.exists() and filecmp.cmp(path, name, shallow=False):
            return
        if not name.exists():
            break
    new = aside / f"{path.name}.copying"
    shutil.copy2(path, new)
    descriptor = os.open(new, os.O_RDONLY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)
    new.rename(name)
    sync_directory(aside)


def retained(directory: Path) -> Iterator[Entry]:
    """Yield every entry that is still there, in order, also beside a running daemon.

    Raises JournalDamaged at the first that is not as it was written.
    """
    survey = Survey(directory)
    for _, row in survey.rows():
        damage = [finding for finding in survey.findings if finding.damage]
        if damage:
            raise JournalDamaged(f"journal {directory}: {damage[0].what}; {ADVICE}")
        yield row.entry
