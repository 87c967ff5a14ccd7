"""Whatever is written, decided and started again: the database holds what a dictionary would."""

from __future__ import annotations

import sqlite3
from contextlib import closing
from pathlib import Path
from tempfile import TemporaryDirectory

from hypothesis import settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, invariant, precondition, rule

from service.block import Offset
from service.dead_letter_store import DeadLetterStore, Selection, Status
from service.dead_letters import LetterId
from service.passage import DeadLetter
from tests.dead_letters.letters import LONGEST, bad, numbered, origin

ROWS = st.sets(st.integers(0, 4), min_size=1)
IDS = st.builds(
    LetterId, st.integers(1, 6), st.integers(0, 4), st.sampled_from(["", "kept", "copy"])
)


def letter(row: int) -> DeadLetter:
    """Return a letter that shares its cause with some others."""
    if not row % 3:
        return bad(row)[0]
    calls = f"calls {row // 4}\nError: {row // 2}"
    return DeadLetter(row, b"{}", "handle raised", "lookup", 3, calls)


class Stored(RuleBasedStateMachine):
    """A store beside a dictionary: the status of each letter and when it got it."""

    def __init__(self) -> None:
        super().__init__()
        self.folder = TemporaryDirectory()
        self.now = 0.0
        self.next = 1
        self.positions: list[tuple[int, dict[str, int]]] = []
        self.model: dict[LetterId, tuple[Status, float, str | None]] = {}
        self.store = self._opened(None)

    def _opened(self, position: object) -> DeadLetterStore:
        path = Path(self.folder.name) / "penstock.db"
        store = DeadLetterStore(path, LONGEST, lambda: self.now)
        store.open(position)
        return store

    def _tick(self) -> None:
        self.now += 1

    @rule(rows=ROWS, times=st.integers(1, 2))
    def write(self, rows: set[int], times: int) -> None:
        self._tick()
        for _ in range(times):
            self.store.write(numbered(self.next), [*map(letter, sorted(rows))], origin)
        for row in rows:
            self.model.setdefault(LetterId(self.next, row), (Status.WAITING, self.now, None))

    @rule(sink=st.sampled_from(["kept", "copy"]), rows=ROWS)
    def refuse(self, sink: str, rows: set[int]) -> None:
        self._tick()
        for row in rows:
            self.store.refuse(sink, numbered(self.next), bad(row)[0], origin)
            letter_id = LetterId(self.next, row, sink)
            self.model.setdefault(letter_id, (Status.WAITING, self.now, None))

    @precondition(lambda self: self.next < 6)
    @rule()
    def go_on(self) -> None:
        self.next += 1
        self.positions.append((self.next, self.store.position()))

    @rule(ids=st.sets(IDS))
    def discard(self, ids: set[LetterId]) -> None:
        self._tick()
        self.store.discard(ids)
        for each in ids & self.model.keys():
            if self.model[each][0] is Status.WAITING:
                self.model[each] = (Status.DISCARDED, self.now, None)

    @rule(ids=st.sets(IDS), offset=st.integers(10, 12))
    def redrive(self, ids: set[LetterId], offset: int) -> None:
        self._tick()
        self.store.mark_redriven(dict.fromkeys(ids, Offset(offset, 0)))
        for each in ids & self.model.keys():
            if self.model[each][0] is not Status.REDRIVEN:
                self.model[each] = (Status.REDRIVEN, self.now, f"{offset}.0")

    @rule(age=st.integers(0, 5))
    def purge(self, age: int) -> None:
        before = self.now - age
        old = {
            each
            for each, (status, changed, _) in self.model.items()
            if status is not Status.WAITING and changed < before
        }
        assert self.store.purge(before) == len(old)
        for each in old:
            del self.model[each]

    @rule(data=st.data())
    def start_again(self, data: st.DataObject) -> None:
        self.store.close()
        self.next, position = data.draw(st.sampled_from([(1, {"block": 0}), *self.positions]))
        self.positions = [each for each in self.positions if each[0] <= self.next]
        self.store = self._opened(position)
        self.model = {
            each: known
            for each, known in self.model.items()
            if each.block < self.next or each.sink or known[0] is not Status.WAITING
        }

    @rule()
    def start_without_a_checkpoint(self) -> None:
        self.store.close()
        self.store = self._opened(None)
        assert self.store.position() == {"block": self.store.last_block()}
        self.next = max(self.next, self.store.last_block() + 1)  # as the intake does

    @invariant()
    def it_holds_what_the_dictionary_holds(self) -> None:
        found = {
            each.id: (each.status, each.changed, each.redriven_as) for each in self.store.find()
        }
        assert found == self.model
        assert list(found) == sorted(self.model, reverse=True)
        for status, count in self.store.counts().items():
            selected = [each.id for each in self.store.find(Selection(status), newest_first=False)]
            assert selected == sorted(
                key for key, known in self.model.items() if known[0] is status
            )
            assert count == len(selected)
        for sink in ("kept", "copy"):
            refused = {
                each.row for each in self.model if each[0] == self.next and each.sink == sink
            }
            assert self.store.refused(sink, self.next) == refused
        assert self.store.last_block() == max((each.block for each in self.model), default=0)

    @invariant()
    def nothing_is_kept_that_no_letter_names(self) -> None:
        with closing(sqlite3.connect(Path(self.folder.name) / "penstock.db")) as database:
            for table, named in (
                ("arrivals", "SELECT arrival FROM letters"),
                ("causes", "SELECT cause FROM letters"),
                ("frames", "SELECT frames FROM causes WHERE frames IS NOT NULL"),
            ):
                there = database.execute(f"SELECT id FROM {table} ORDER BY id").fetchall()  # noqa: S608 - names
                assert there == sorted(set(database.execute(named).fetchall()))

    def teardown(self) -> None:
        self.store.close()
        self.folder.cleanup()


TestStored = Stored.TestCase
TestStored.settings = settings(deadline=None, max_examples=50, stateful_step_count=30)
