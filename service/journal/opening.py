"""What is read before the journal is written to again, and what must be found there."""

from __future__ import annotations

import time
from bisect import bisect_right
from contextlib import closing
from pathlib import Path
from typing import NamedTuple

from service.errors import JournalDamaged
from service.journal.entry import check_body
from service.journal.files import (
    ADVICE,
    UNFINISHED,
    WAYS_BACK,
    damaged,
    first_of,
    segments_in,
)
from service.journal.high_water import NAME, read_slots
from service.journal.row import Entry, Link, size_of
from service.journal.segment import Segment


class End(NamedTuple):
    """Where the journal ends; bytes in the last segment; when its last entry was written."""

    link: Link
    size: int
    time: float


def is_new(directory: Path) -> bool:
    """Say whether nothing of a journal is there."""
    return not segments_in(directory) and not (directory / NAME).exists()


def read_mark(directory: Path) -> Link:
    """Return how far the journal had come at least; raises JournalDamaged."""
    if not (directory / NAME).exists():
        raise JournalDamaged(f"{directory / NAME}: the high-water mark is gone; {ADVICE}")
    first, second = read_slots(directory)
    if first is None or second is None:
        raise JournalDamaged(f"{directory / NAME}: the high-water mark is damaged; {ADVICE}")
    return max(first, second)


def verified_end(directory: Path, mark: Link, after: int, *, full: bool) -> End:
    """Read from the segment that holds entry ``after`` + 1 on, the last one in any case.

    Raises JournalDamaged when an entry is damaged or missing, be it that the mark names it or that
    ``after`` does. Without ``full`` the mark may be ahead.
    """
    unfinished = next(directory.glob(f"*{UNFINISHED}"), None)
    if unfinished is not None:
        raise damaged(unfinished, "a repair was interrupted and has to be run again")
    paths = segments_in(directory)
    firsts = [first_of(path) for path in paths]
    _check_begin(directory, firsts, mark, after)
    link: Link | None = None
    end = End(mark, 0, time.time())
    for path in paths[bisect_right(firsts, after + 1) - 1 :]:
        with closing(Segment.to_read(path, last=path == paths[-1])) as segment:
            before = segment.before
            if link is not None and before != link:
                missing = f"entries {link.sequence + 1} to {before.sequence}"
                blocks = f"blocks {link.block + 1} to {before.block}"
                raise damaged(path, f"{missing} ({blocks}) are missing before it, or damaged")
            link = before
            end = End(before, 0, time.time())
            if path == paths[-1]:
                _match(path, before, mark)
            for row in segment.rows():
                _check(path, row.entry)
                link = row.after
                end = End(link, end.size + size_of(row), row.entry.time)
                _match(path, link, mark)
    if mark.sequence < firsts[-1] - 1:
        raise JournalDamaged(
            f"{directory / NAME}: the mark, at entry {mark.sequence}, is older than segment "
            f"{paths[-1].name}; {ADVICE}"
        )
    if mark.sequence > end.link.sequence and full:
        blocks = f"blocks {end.link.block + 1} to {mark.block}"
        raise _missing(paths[-1], f"entries {end.link.sequence + 1} to {mark.sequence} ({blocks})")
    if after > (last := max(end.link.sequence, mark.sequence)):
        raise JournalDamaged(
            f"{directory}: this journal ends at entry {last}, and a checkpoint was taken at entry "
            f"{after}: it is an older one, or another one's; {WAYS_BACK}"
        )
    return end


def _check_begin(directory: Path, firsts: list[int], mark: Link, after: int) -> None:
    """See that what follows entry ``after`` is there: of what came before it, a repair knows not.

    Raises JournalDamaged.
    """
    first = firsts[0] if firsts else mark.sequence + 1
    if after + 1 < first:
        raise JournalDamaged(
            f"{directory}: entries {after + 1} to {first - 1} were written and are needed, and "
            "their segments are gone; `penstock journal export` writes what is left into a file; "
            f"{WAYS_BACK}"
        )
    if not firsts:
        what = f"its segments, up to entry {mark.sequence}, are gone; none of them is needed"
        raise damaged(directory, what)


def _check(path: Path, entry: Entry) -> None:
    try:
        check_body(entry)
    except ValueError as error:
        where = f"entry {entry.sequence} (block {entry.block} or a switch before it)"
        raise damaged(path, f"{where}: {error}") from error


def _match(path: Path, link: Link, mark: Link) -> None:
    if link.sequence == mark.sequence and link != mark:
        raise damaged(path, f"entry {link.sequence} is not the one that {NAME} names")


def _missing(path: Path, entries: str) -> JournalDamaged:
    return damaged(path, f"{entries} were written, and are not there")
