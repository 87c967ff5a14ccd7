"""The whole journal read as it should be: each entry as written, or one that stands for it."""

from __future__ import annotations

import time
from bisect import bisect_right
from collections.abc import Iterator
from contextlib import closing, suppress
from dataclasses import dataclass
from pathlib import Path

from service.errors import JournalDamaged
from service.journal.entry import check_body
from service.journal.files import UNFINISHED, first_of, path_of, segments_in
from service.journal.high_water import NAME, read_slots
from service.journal.row import BLOCK, GONE, START, Link, Row, loss, lost_rows, read_row
from service.journal.segment import Segment


@dataclass(frozen=True)
class Finding:
    """What was found in a segment, or of the mark; ranges are from and to, inclusive.

    ``damage``: not as it was written. Otherwise information: what a repair has put there.
    """

    segment: str
    sequences: tuple[int, int]
    blocks: tuple[int, int]
    what: str
    damage: bool = True


class Survey:
    """Reads every segment once, in order, whatever is damaged; changes nothing.

    The journal may be written and trimmed meanwhile. When ``rows`` has ended, all else is known.
    """

    def __init__(self, directory: Path) -> None:
        self._directory = directory
        # The mark is read before the entries: what it names is there when they are read.
        self._slots = self._read_slots()
        self.mark = max((link for link in self._slots if link), default=None)
        self.paths = segments_in(directory)
        self._firsts = [first_of(path) for path in self.paths]
        self._begin = self._firsts[0] if self._firsts else 1
        self._start = START
        self._end = 0
        self._why = "missing"
        self._keys: list[tuple[str, int]] = []
        self.link: Link | None = None
        self.findings: list[Finding] = []
        self.damaged: set[int] = set()
        self.torn = False
        self.mark_damaged = None in self._slots
        self.entries = 0
        self.blocks = (0, 0)

    def rows(self) -> Iterator[tuple[int, Row]]:
        """Return (first sequence of the segment it belongs to, row), without a gap."""
        for path in self._directory.glob(f"*{UNFINISHED}"):
            self._found(path.name, (first_of(path), 0), (0, 0), "a repair was interrupted")
        for index, path in enumerate(self.paths):
            try:
                for first, row in self._segment(index, path):
                    self._count(path_of(self._directory, first), row)
                    yield first, row
            except JournalDamaged as error:
                if path.exists() or index + 1 == len(self.paths):
                    self._broken(path, str(error))
                else:
                    # The daemon has trimmed it meanwhile, and all before it.
                    self.link, self._begin = None, self._firsts[index + 1]
        for first, row in self._tail():
            self._count(path_of(self._directory, first), row)
            yield first, row
        self._check_mark()

    # ---- one segment

    def _segment(self, index: int, path: Path) -> Iterator[tuple[int, Row]]:
        last = index == len(self.paths) - 1
        first = self._firsts[index]
        with closing(Segment.to_read(path, last=last)) as segment:
            self._keys, self._end = [], first - 1
            self._start = self.link or Link(first - 1, 0, 0)
            try:
                before = segment.before
            except JournalDamaged as error:
                self._broken(path, str(error))
            else:
                yield from self._upto(before, path)  # the end of the one before is lost
                self._start, self._why = before, "missing"
                self._check_mark_at(before)
            self._end = self._last(segment) if last else self._firsts[index + 1] - 1
            for sequence in range(first, self._end + 1):
                row = self._row(segment, sequence)
                if row is not None:
                    yield from self._upto(row.before, path)
                    self.link, self._why = row.after, "missing"
                    self._keys += [(key.key, sequence) for key in row.entry.keys]
                    self._check_mark_at(row.after)
                    yield first, row
            self._check_keys(segment)

    def _row(self, segment: Segment, sequence: int) -> Row | None:
        try:
            columns = segment.get(sequence)
            if columns is not None:
                row = read_row(columns)
                check_body(row.entry)
                return row
            self._why = "missing"
        except (JournalDamaged, ValueError) as error:
            self._why = str(error)
        return None

    def _last(self, segment: Segment) -> int:
        """Return the last sequence that the last segment should have."""
        end = max(self.mark.sequence if self.mark else 0, self._firsts[-1] - 1)
        with suppress(JournalDamaged):
            last = segment.last()
            if last > end and self._row(segment, last) is not None:
                end = last
        with suppress(JournalDamaged):
            while segment.get(end + 1) is not None:
                end += 1
        return end

    def _check_keys(self, segment: Segment) -> None:
        try:
            keys = [each for each in segment.index() if each[1] <= self._end]
        except JournalDamaged as error:
            self._broken(segment.path, str(error))
            return
        except TypeError:
            self._broken(segment.path, "its index of idempotency keys names what is no entry")
            return
        if keys != sorted(set(self._keys), key=lambda each: (each[0].encode(), each[1])):
            self._broken(segment.path, "its index of idempotency keys does not match its entries")

    # ---- what is lost

    def _upto(self, target: Link, path: Path) -> Iterator[tuple[int, Row]]:
        """Return rows for all that is lost between the last sound one and ``target``."""
        first = self._begin
        if self.link is None and target.sequence < first:
            self.link = target  # the journal begins here
        if self.link is None:  # how many of the lost ones were blocks cannot be known: the most
            lost = target.sequence - first + 1
            self.link = Link(first - 1, max(0, target.block - lost), 0)
        link = self.link
        if target == link:
            return
        lost = target.sequence - link.sequence
        if lost <= 0 or target.block < link.block:
            self.torn = True
            sequences = (target.sequence + 1, target.sequence + 1)
            what = f"it follows {target}, but the entry before it is {link}: another journal's"
            self._found(path.name, sequences, (target.block + 1, target.block + 1), what)
            self.link = target
            return
        start = self._home(link.sequence + 1)
        for row in lost_rows(link, target, self._why, time.time()):
            home = self._home(row.entry.sequence)
            self.damaged.add(home)
            yield home, row
        self.link = target
        self._found(
            path_of(self._directory, start).name,
            (link.sequence + 1, target.sequence),
            (link.block + 1, target.block),
            self._why,
        )

    def _tail(self) -> Iterator[tuple[int, Row]]:
        """Return rows for what is lost at the end."""
        if not self.paths:
            if self.mark and self.mark.sequence:
                self._found(NAME, (1, self.mark.sequence), (1, self.mark.block), "no segments")
                self.link = self.mark
            return
        path = self.paths[-1]
        if self.mark and (self.link is None or self.mark.sequence > self.link.sequence):
            yield from self._upto(self.mark, path)
        end = max(
            self._end, self._firsts[-1] - 1
        )  # the last segment's name says that there were so many
        if self.link is not None and end > self.link.sequence:
            upto = Link(end, self.link.block + end - self.link.sequence, 0)
            yield from self._upto(upto, path)

    def _home(self, sequence: int) -> int:
        """Return the segment that an entry belongs to; the one before it if that one is gone."""
        return self._firsts[max(0, bisect_right(self._firsts, sequence) - 1)]

    # ---- the mark

    def _read_slots(self) -> tuple[Link | None, Link | None]:
        slots: tuple[Link | None, Link | None] = (None, None)
        for _ in range(3):  # a slot that is just being written may look damaged
            try:
                slots = read_slots(self._directory)
            except OSError:
                continue
            if None not in slots:
                break
        return slots

    def _check_mark_at(self, link: Link) -> None:
        if self.mark and link.sequence == self.mark.sequence and link != self.mark:
            self.mark_damaged = True

    def _check_mark(self) -> None:
        if self._firsts and self.mark and self.mark.sequence < self._firsts[-1] - 1:
            self.mark_damaged = True
        if self.mark_damaged and (self.paths or (self._directory / NAME).exists()):
            after = self.link.sequence if self.link else 0
            block = self.link.block if self.link else 0
            what = (
                "the high-water mark is missing, damaged, or of another journal: whether there "
                f"were entries after {after} (block {block}) cannot be told"
            )
            self._found(NAME, (after + 1, after), (block + 1, block), what)

    # ---- notes

    def _count(self, path: Path, row: Row) -> None:
        entry = row.entry
        self.entries += 1
        if entry.kind == BLOCK or row.after.block >= entry.block:
            self.blocks = (self.blocks[0] or entry.block, row.after.block)
        if entry.kind == GONE and first_of(path) not in self.damaged:
            gone = loss(entry)
            sequences = (entry.sequence, entry.sequence)
            what = f"repaired: {gone.why}"
            self._found(path.name, sequences, (gone.first, gone.last), what, damage=False)

    def _broken(self, path: Path, what: str) -> None:
        """Take note of damage to more than single entries; which are lost, ``_upto`` tells."""
        first = first_of(path)
        self.damaged.add(first)
        self._found(path.name, (first, first - 1), (1, 0), what)

    def _found(
        self,
        segment: str,
        sequences: tuple[int, int],
        blocks: tuple[int, int],
        what: str,
        *,
        damage: bool = True,
    ) -> None:
        self.findings.append(Finding(segment, sequences, blocks, what, damage))
