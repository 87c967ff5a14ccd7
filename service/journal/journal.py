"""The journal: everything accepted, in order, on disk until it is needed no more.

Invariants:

1. What ``append`` has returned for is committed, and the high-water mark has come as far. With
   ``full`` it is on the disk; without, ``sync`` puts it there.
2. What did not fit is not there at all. Whatever else fails leaves open what is there: the journal
   refuses everything from then on, and only a new start reads what it is.
3. The mark is never behind a segment that is not the last: it is synced before the next one exists.
4. Numbers are given once: those of a lost tail that the mark names are never given again.
5. Everything here happens under one lock, in short reads and writes.
"""

from __future__ import annotations

import time
from bisect import bisect_right
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from threading import Lock

from service.disk import sync_directory
from service.errors import OutcomeUnknown, StorageFull
from service.journal.files import (
    damaged,
    first_of,
    half_way,
    path_of,
    remove_leftovers,
    remove_segment,
    segments_in,
    size_in,
    wal,
    writing,
)
from service.journal.high_water import HighWaterMark, create_mark
from service.journal.keys import KeyFilters
from service.journal.opening import is_new, read_mark, verified_end
from service.journal.row import (
    BLOCK,
    GONE,
    START,
    Columns,
    Entry,
    Key,
    Link,
    NewEntry,
    lost_rows,
    new_row,
    read_row,
    size_of,
)
from service.journal.segment import Segment
from service.journal.segment_cache import SegmentCache
from service.privacy import make_folder

__all__ = ["BLOCK", "GONE", "Entry", "Journal", "Key", "NewEntry"]


class Journal:
    """Appends entries, reads them back, and forgets the oldest.

    Every method raises OutcomeUnknown once anything failed half way, and JournalDamaged when what
    it reads is not what was written.
    """

    def __init__(
        self,
        directory: Path,
        *,
        full: bool,
        segment_bytes: int,
        retention_bytes: int,
        retention_seconds: float,
    ) -> None:
        """Keep the journal in ``directory``; ``full``: every append survives power loss.

        ``segment_bytes``: a segment that is as large is followed by the next. Entries that are
        needed no more are kept up to ``retention_bytes`` in all and for ``retention_seconds``.
        """
        self._directory = directory
        self._full = full
        self._segment_bytes = segment_bytes
        self._retention_bytes = retention_bytes
        self._retention_seconds = retention_seconds
        self._lock = Lock()
        self._firsts: list[int] = []
        self._sealed = SegmentCache(directory)
        self.filters = KeyFilters(directory)
        self._active: Segment | None = None
        self._active_bytes = 0
        self._active_time = 0.0
        self._mark: HighWaterMark | None = None
        self._link, self._needed = START, 0
        self._why_refused = "it is not open"

    # ---- opening and closing

    def open(self, after: int) -> None:
        """Take up what is there; every entry after ``after`` and the last segment are verified.

        What power loss took from a journal that is not ``full`` has entries that say so. Raises
        JournalDamaged, StorageFull, OutcomeUnknown.
        """
        with self._lock, writing(self._directory):
            # 1. What half-done work left is removed; it was never a part of the journal.
            make_folder(self._directory)
            remove_leftovers(self._directory)
            # 2. A new journal gets its mark first: segments without a mark have lost it.
            if is_new(self._directory):
                create_mark(self._directory, START)
                sync_directory(self._directory.parent)
            mark = read_mark(self._directory)
            if not segments_in(self._directory) and mark == START:
                Segment.create(path_of(self._directory, 1), START)
            # 3. All is read before anything is opened to be written: see Segment.
            paths = segments_in(self._directory)
            end = verified_end(self._directory, mark, after, full=self._full)
            self._firsts = [first_of(path) for path in paths]
            self._link, self._active_bytes, self._active_time = end
            # 4. The lost numbers are used up, then the mark is where the journal is.
            self._active = Segment.to_write(paths[-1], full=self._full)
            try:
                if mark.sequence > self._link.sequence:
                    self._give_up(mark)
                self._mark = HighWaterMark(self._directory)
            except StorageFull:  # so that it can be opened again
                self._active.close()
                raise
            self._mark.write(self._link)
            self.filters.want(*self._firsts[:-1])
            self._why_refused = ""

    def close(self) -> None:
        """Sync, if that can still be done, and close every file."""
        try:
            if not self._why_refused:
                self.sync()
        finally:
            with self._lock:
                self._why_refused = self._why_refused or "it was closed"
                self._sealed.close()
                if self._active is not None:
                    self._active.close()
                if self._mark is not None:
                    self._mark.close()
                self._active = self._mark = None
            self.filters.close()  # without the lock: its thread may be waiting for a segment

    # ---- writing

    def append(self, *entries: NewEntry) -> int:
        """Append entries, all or none; return the last one's sequence.

        Raises StorageFull when none of it is kept and it can be tried again, ValueError when a
        block number is not the next one.
        """
        now = time.time()
        with self._lock:
            self._refuse()
            rows = []
            link = self._link
            for entry in entries:
                rows.append(new_row(link, entry, now))
                link = rows[-1].after
            with self._changing() as (active, mark):
                segment = active
                if self._active_bytes >= self._segment_bytes and self._firsts[-1] <= self.last:
                    segment = self._rotate(active, mark)
                    self._drop_oldest(now)
                segment.append(rows)
                self._committed(link, sum(map(size_of, rows)), now)
                with half_way():
                    mark.write(link)
                    segment.fold()
            return link.sequence

    def check_lock(self) -> None:
        """Raise StorageBusy while another process keeps all others from writing."""
        with self._lock, self._changing() as (active, _):
            active.check_lock()

    def sync(self) -> None:
        """Let everything appended, and the mark, survive power loss."""
        with self._lock, self._changing() as (active, mark):
            self._sync(active, mark)

    def trim(self, needed: int, now: float) -> None:
        """Remove whole segments, oldest first, that nobody needs and that are beyond retention.

        ``needed``: entries after this sequence are needed. ``now``: seconds since the epoch.
        """
        with self._lock, self._changing() as (active, mark):
            self._needed = needed
            old = self._active_time < now - self._retention_seconds
            if old and self._firsts[-1] <= self._link.sequence <= needed:
                with suppress(StorageFull):  # the more reason to remove the others
                    self._rotate(active, mark)
            self._drop_oldest(now)

    # ---- reading

    def entries(self, after: int, upto: int | None = None) -> Iterator[Entry]:
        """Return the entries after a sequence, up to another one or as long as there are any.

        The journal may be written and trimmed meanwhile. Raises LookupError for what is trimmed.
        """
        link: Link | None = None
        while upto is None or after < upto:
            with self._lock:
                path, batch = self._read(after)
            for columns in batch:
                try:
                    row = read_row(columns)
                except ValueError as error:
                    raise damaged(path, f"the entry after {after}: {error}") from error
                if row.before.sequence != after or (link is not None and row.before != link):
                    raise damaged(path, f"{row.entry.sequence} does not follow entry {after}")
                link, after = row.after, row.entry.sequence
                yield row.entry
                if after == upto:
                    return
            if not batch:
                return

    def find(self, key: str) -> tuple[int, Key] | None:
        """Return the last block that came with an idempotency key, and the key as it came."""
        with self._lock:
            self._refuse()
            return self.filters.find(key, self._firsts, self._segment)

    # ---- what is there

    @property
    def last(self) -> int:
        """The sequence of the last entry, 0 before the first."""
        return self._link.sequence

    @property
    def last_block(self) -> int:
        """The number of the last block, 0 before the first."""
        return self._link.block

    @property
    def first(self) -> int:
        """The oldest sequence that is kept, or the next one if none is."""
        return self._firsts[0]

    @property
    def size(self) -> int:
        """Bytes on disk, write-ahead logs included."""
        return size_in(self._directory)

    # ---- inside

    def _give_up(self, mark: Link) -> None:
        """Put lost entries up to the mark, so that their numbers are not given again."""
        assert self._active is not None  # noqa: S101 - just opened
        why = "lost with the power, for it was not synced"
        rows = list(lost_rows(self._link, mark, why, time.time()))
        self._active.append(rows)
        self._committed(mark, sum(map(size_of, rows)), time.time())

    def _committed(self, link: Link, size: int, now: float) -> None:
        self._link = link
        self._active_bytes += size
        self._active_time = now

    def _drop_oldest(self, now: float) -> None:
        """Remove what nobody needs and is too old, or leaves too little room for a segment."""
        room = self._segment_bytes * 5 // 4  # a segment, its last entry and its log
        while len(self._firsts) > 1 and self._firsts[1] - 1 <= self._needed:
            path = path_of(self._directory, self._firsts[0])
            written = max(each.stat().st_mtime for each in (path, wal(path)) if each.exists())
            old = written < now - self._retention_seconds
            if not old and size_in(self._directory) + room <= self._retention_bytes:
                break
            self._sealed.drop(self._firsts[0])
            self.filters.drop(self._firsts[0])
            remove_segment(path)
            del self._firsts[0]

    def _rotate(self, active: Segment, mark: HighWaterMark) -> Segment:
        """Begin the next segment; a kill between any two steps leaves a journal that is whole."""
        # 1. The mark is never behind a segment that is not the last, and cannot be lost with power.
        self._sync(active, mark)
        # 2. The next one appears; from here on this one is not written any more. A full disk ends
        #    the rotation here, before anything has changed.
        path = path_of(self._directory, self._link.sequence + 1)
        following = Segment.begin(path, self._link, full=self._full)
        # 3. This one becomes a plain file; if not, its log stays beside it and is read with it.
        with half_way():
            active.seal()
            self._active = following
        self.filters.want(self._firsts[-1])
        self._firsts.append(self._link.sequence + 1)
        self._active_bytes = 0
        return self._active

    def _sync(self, active: Segment, mark: HighWaterMark) -> None:
        # Entries before the mark: it must not lead what the disk has.
        with half_way():
            active.sync()
            mark.sync()

    def _read(self, after: int) -> tuple[Path, list[Columns]]:
        """Return the entries right after a sequence, and where they are; none at the end."""
        self._refuse()
        if after + 1 < self._firsts[0]:
            raise LookupError(f"entry {after + 1} is trimmed, the oldest is {self._firsts[0]}")
        segment = self._segment(self._firsts[bisect_right(self._firsts, after + 1) - 1])
        batch = segment.read(after)
        if not batch and after < self._link.sequence:
            raise damaged(segment.path, f"entry {after + 1} is missing")
        return segment.path, batch

    def _segment(self, first: int) -> Segment:
        if first == self._firsts[-1] and self._active is not None:
            return self._active
        return self._sealed.get(first)

    def _refuse(self) -> None:
        if self._why_refused:
            raise OutcomeUnknown(f"the journal {self._directory} is closed: {self._why_refused}")

    @contextmanager
    def _changing(self) -> Iterator[tuple[Segment, HighWaterMark]]:
        """Close the journal to everybody when what happens here ends half way."""
        self._refuse()
        assert self._active is not None  # noqa: S101 - it is open
        assert self._mark is not None  # noqa: S101 - it is open
        try:
            with writing(self._directory):
                yield self._active, self._mark
        except StorageFull:
            raise
        except BaseException as error:
            self._why_refused = str(error) or repr(error)
            raise
