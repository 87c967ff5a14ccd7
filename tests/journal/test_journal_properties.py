"""Whatever is appended, trimmed and closed in whatever order: the journal is a list."""

from __future__ import annotations

import shutil
import tempfile
import time
from pathlib import Path

from hypothesis import settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, invariant, precondition, rule

from service.journal.inspection import verify
from service.journal.journal import Journal, Key, NewEntry
from tests.journal.damage import crashed
from tests.journal.journals import appended, block, journal, switch

keys = st.sampled_from("abcdef")
news = st.tuples(
    st.booleans(), st.binary(max_size=20), st.integers(0, 900), st.lists(keys, max_size=2)
)


class AsAList(RuleBasedStateMachine):
    """A journal beside the list that it is to be."""

    def __init__(self) -> None:
        super().__init__()
        self.directory = Path(tempfile.mkdtemp())
        self.entries: list[NewEntry] = []
        self.blocks = 0
        self.first = 1
        self.copies = 0
        self.full = True
        self.journal = self.start("journal")

    def start(self, name: str) -> Journal:
        it = journal(self.directory / name, full=self.full, segment_bytes=1_500)
        it.open(self.first - 1)
        return it

    def new(self, *, is_block: bool, body: bytes, size: int, given: list[str]) -> NewEntry:
        taken = tuple(Key(key, row, 1, 0.5, body) for row, key in enumerate(given))
        number = self.blocks + 1
        self.blocks += is_block
        entry = block(number, bytes(size)) if is_block else switch(number)
        return entry._replace(keys=taken)

    @rule(group=st.lists(news, min_size=1, max_size=4))
    def append(self, group: list[tuple[bool, bytes, int, list[str]]]) -> None:
        new = [self.new(is_block=b, body=body, size=s, given=k) for b, body, s, k in group]
        assert self.journal.append(*new) == len(self.entries) + len(new)
        self.entries += new

    @rule(needed=st.floats(0, 1))
    def trim(self, needed: float) -> None:
        upto = round(needed * len(self.entries))
        self.journal.trim(upto, time.time() + 60)
        assert self.first <= self.journal.first <= max(upto + 1, self.first)
        self.first = self.journal.first

    @rule(after=st.floats(0, 1), upto=st.floats(0, 1))
    def read(self, after: float, upto: float) -> None:
        begin = max(self.first - 1, round(after * len(self.entries)))
        end = round(upto * len(self.entries))
        read = [entry.sequence for entry in self.journal.entries(begin, end)]
        assert read == list(range(begin + 1, end + 1))

    @rule(key=keys)
    def find(self, key: str) -> None:
        having = [
            (entry.block, each)
            for entry in self.entries[self.first - 1 :]
            for each in entry.keys
            if each.key == key
        ]
        assert self.journal.find(key) == (having[-1] if having else None)

    @rule(full=st.booleans())
    def restart(self, *, full: bool) -> None:
        self.journal.close()
        self.full = full
        self.journal = self.start(self.journal._directory.name)  # noqa: SLF001 - only its name

    @precondition(lambda self: self.copies < 5)
    @rule()
    def crash(self) -> None:
        self.copies += 1
        copy = crashed(self.journal._directory, self.directory / f"copy {self.copies}")  # noqa: SLF001 - where it is
        self.journal.close()
        self.journal = self.start(copy.name)

    @rule()
    def look(self) -> None:
        self.journal.sync()
        found = verify(self.journal._directory)  # noqa: SLF001 - where it is
        assert found.findings == ()
        assert found.entries == len(self.entries) - self.first + 1

    @invariant()
    def is_the_list(self) -> None:
        assert (self.journal.last, self.journal.last_block) == (len(self.entries), self.blocks)
        assert appended(self.journal, self.first - 1) == self.entries[self.first - 1 :]

    def teardown(self) -> None:
        self.journal.close()
        shutil.rmtree(self.directory)


TestAsAList = AsAList.TestCase
TestAsAList.settings = settings(max_examples=40, stateful_step_count=20, deadline=None)
