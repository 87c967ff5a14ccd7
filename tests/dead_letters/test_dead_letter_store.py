"""Dead letters in the database: what is written, what is found again, what was decided."""

from __future__ import annotations

import sqlite3
import time
from collections.abc import Iterator
from pathlib import Path
from threading import Thread

import pytest
from hypothesis import given
from hypothesis import strategies as st

from service.block import Block, Offset
from service.dead_letter_store import DeadLetterStore, Selection, Status, StoredLetter
from service.dead_letters import DeadLetters, LetterId
from service.errors import NotAccepted, PipelineFailed, QueueClosed
from service.origins import Origin
from service.passage import DeadLetter
from tests.dead_letters.letters import LONGEST, bad, failed, numbered, origin

LIMIT = 20.0
WAITING, REDRIVEN, DISCARDED = Status


def ids(store: DeadLetterStore, *selected: Status | str | None) -> list[str]:
    return [str(each.id) for each in store.find(Selection(*selected))]  # type: ignore[arg-type]  # status first


def reopened(store: DeadLetterStore, path: Path, position: object) -> DeadLetterStore:
    store.close()
    again = DeadLetterStore(path, LONGEST)
    keeps_the_interface: DeadLetters = again
    keeps_the_interface.open(position)
    return again


@pytest.fixture
def path(tmp_path: Path) -> Path:
    return tmp_path / "state" / "penstock.db"


def test_a_letter_is_shown_with_all_that_is_known(store: DeadLetterStore) -> None:
    store.write(numbered(7), [failed(16)], origin)
    stored = store.get(LetterId(7, 16))
    assert stored is not None
    shown = stored.describe_all()
    assert shown.pop("changed") > 1_000_000_000
    assert shown == {
        "id": "7.16",
        "offset": "7.16",
        "source": "push",
        "line": 17,
        "time": "1970-01-01T00:00:00.250+00:00",
        "reason": "handle raised",
        "middleware": "lookup",
        "attempts": 3,
        "traceback": "Traceback: ...",
        "status": "waiting",
        "whole": True,
        "event": '{"cid": 1}',
    }


def test_there_is_nothing_where_no_letter_is(store: DeadLetterStore) -> None:
    assert store.get(LetterId(7, 16)) is None
    assert store.find() == []
    assert store.counts() == {WAITING: 0, REDRIVEN: 0, DISCARDED: 0}


def test_the_newest_come_first_or_the_oldest_and_a_list_goes_on_after_any(
    store: DeadLetterStore,
) -> None:
    for number in (2, 10):
        store.write(numbered(number), bad(1, 9, 11), origin)
    assert ids(store) == ["10.11", "10.9", "10.1", "2.11", "2.9", "2.1"]
    page = store.find(after=LetterId(10, 9), limit=2)
    assert [str(each.id) for each in page] == ["10.1", "2.11"]
    page = store.find(after=LetterId(2, 9), limit=2, newest_first=False)
    assert [str(each.id) for each in page] == ["2.11", "10.1"]


def test_letters_are_selected(store: DeadLetterStore) -> None:
    store.write(numbered(1), [*bad(0), failed(1), failed(2, "adjacent")], origin)
    store.write(numbered(2), bad(0), lambda *_: Origin("files", 1, 0.0, "in.ndjson"))
    store.discard([LetterId(1, 2)])
    assert ids(store, None, "lookup") == ["1.1"]
    assert ids(store, None, None, "files") == ["2.0"]
    assert ids(store, WAITING) == ["2.0", "1.1", "1.0"]
    assert ids(store, DISCARDED, "adjacent", "push") == ["1.2"]
    assert store.counts() == {WAITING: 3, REDRIVEN: 0, DISCARDED: 1}


def test_a_list_leaves_events_and_tracebacks_out(store: DeadLetterStore) -> None:
    store.write(numbered(1), [failed(0)], origin)
    (found,) = store.find()
    assert (found.letter.event, found.letter.traceback) == (b"", None)
    assert found.letter.reason == "handle raised"


def test_an_event_longer_than_allowed_is_cut_and_known_not_to_be_whole(
    store: DeadLetterStore,
) -> None:
    store.write(numbered(1), bad(0, event=b"x" * LONGEST), origin)
    store.write(numbered(2), bad(0, event=b"x" * (LONGEST + 1)), origin)
    whole, cut = store.get(LetterId(1, 0)), store.get(LetterId(2, 0))
    assert whole is not None
    assert cut is not None
    assert (whole.whole, cut.whole) == (True, False)
    assert cut.letter.event == b"x" * LONGEST
    assert cut.describe_all()["event_bytes"] == LONGEST + 1
    assert ids(store, None, None, None) == ["2.0", "1.0"]
    assert [str(each.id) for each in store.find(Selection(whole=True))] == ["1.0"]


def test_the_same_letter_again_changes_nothing(store: DeadLetterStore) -> None:
    store.write(numbered(1), bad(0, event=b"first"), origin)
    store.discard([LetterId(1, 0)])
    store.write(numbered(1), bad(0, 1, event=b"second"), origin)
    stored = store.get(LetterId(1, 0))
    assert stored is not None
    assert (stored.letter.event, stored.status) == (b"first", DISCARDED)
    assert ids(store) == ["1.1", "1.0"]


def test_a_block_is_written_whole_or_not_at_all(store: DeadLetterStore) -> None:
    def breaks(block: Block, row: int) -> Origin:
        if row == 1:
            raise OSError("cannot tell")
        return origin(block, row)

    with pytest.raises(OSError, match="cannot tell"):
        store.write(numbered(1), bad(0, 1), breaks)
    assert ids(store) == []
    assert store.position() == {"block": 0}


def test_one_event_that_several_sinks_refuse_is_a_letter_for_each(store: DeadLetterStore) -> None:
    for sink in ("kept", "copy"):
        store.refuse(sink, numbered(3), bad(4)[0], origin)
    store.refuse("kept", numbered(3), bad(6)[0], origin)
    store.write(numbered(3), bad(5), origin)
    assert ids(store) == ["3.6:kept", "3.5", "3.4:kept", "3.4:copy"]
    assert store.refused("kept", 3) == {4, 6}
    assert store.refused("copy", 3) == {4}
    assert store.refused("kept", 4) == frozenset()


def test_a_refusal_is_remembered_whatever_was_decided_and_wherever_the_stream_starts_again(
    store: DeadLetterStore, path: Path
) -> None:
    for row in (0, 1, 2):
        store.refuse("kept", numbered(3), bad(row)[0], origin)
    store.discard([LetterId(3, 1, "kept")])
    store.mark_redriven({LetterId(3, 2, "kept"): Offset(9, 0)})
    again = reopened(store, path, None)
    assert again.refused("kept", 3) == {0, 1, 2}
    again.close()


def test_what_comes_again_after_the_checkpoint_is_deleted_unless_it_was_decided(
    store: DeadLetterStore, path: Path
) -> None:
    store.write(numbered(1), bad(0), origin)
    position = store.position()
    store.write(numbered(2), bad(0, 1, 2), origin)
    store.discard([LetterId(2, 1)])
    store.mark_redriven({LetterId(2, 2): Offset(9, 0)})
    again = reopened(store, path, position)
    assert ids(again) == ["2.2", "2.1", "1.0"]
    assert again.position() == position
    again.write(numbered(2), bad(0, 1, 2), origin)
    assert ids(again, WAITING) == ["2.0", "1.0"]
    again.close()


def test_a_decision_is_never_undone(store: DeadLetterStore) -> None:
    store.write(numbered(1), bad(0, 1), origin)
    redriven, discarded = LetterId(1, 0), LetterId(1, 1)
    store.mark_redriven({redriven: Offset(9, 0)})
    store.discard([redriven, discarded, LetterId(7, 7)])
    store.mark_redriven({redriven: Offset(10, 0)})
    found = {str(each.id): (each.status, each.redriven_as) for each in store.find()}
    assert found == {"1.0": (REDRIVEN, "9.0"), "1.1": (DISCARDED, None)}


def test_only_what_was_decided_long_ago_is_purged(tmp_path: Path) -> None:
    now = 0.0
    store = DeadLetterStore(tmp_path / "penstock.db", LONGEST, lambda: now)
    store.open(None)
    store.write(numbered(1), bad(*range(4)), origin)
    now = 10.0
    store.discard([LetterId(1, 0)])
    store.mark_redriven({LetterId(1, 1): Offset(9, 0)})
    now = 20.0
    store.discard([LetterId(1, 2)])
    assert store.purge(10.0) == 0
    assert store.purge(20.0) == 2
    assert ids(store) == ["1.3", "1.2"]
    store.close()


def test_more_is_purged_than_one_piece(store: DeadLetterStore) -> None:
    store.write(numbered(1), bad(*range(2_500)), origin)
    store.discard(LetterId(1, row) for row in range(2_499))
    assert store.purge(float("inf")) == 2_499
    assert ids(store) == ["1.2499"]


def test_what_a_purge_does_at_once_does_not_grow_with_the_letters_that_stay(
    store: DeadLetterStore,
) -> None:
    steps = []
    for blocks in (range(1, 3), range(3, 60)):
        for number in blocks:
            store.write(numbered(number), [*bad(*range(100)), failed(100, str(number))], origin)
        store.discard([LetterId(blocks[-1], 100)])
        steps.append(0)

        def count() -> bool:
            steps[-1] += 1
            return False

        with store._durable.reading() as database:  # noqa: SLF001 - asked how much it does
            database.set_progress_handler(count, 10)
        assert store.purge(float("inf")) == 1
    few, many = steps
    assert many < 2 * few


def test_what_was_flushed_or_decided_is_there_at_the_next_start(
    store: DeadLetterStore, path: Path
) -> None:
    store.write(numbered(1), bad(0, 1), origin)
    store.flush()
    store.discard([LetterId(1, 1)])
    again = reopened(store, path, {"block": 1})
    assert ids(again, WAITING) == ["1.0"]
    assert ids(again, DISCARDED) == ["1.1"]
    again.close()


def test_a_file_that_was_damaged_is_found_out_at_the_start(
    store: DeadLetterStore, path: Path
) -> None:
    for number in range(1, 50):
        store.write(numbered(number), bad(*range(20), event=b"x" * 500), origin)
    store.close()
    scribbled = path.read_bytes()
    path.write_bytes(scribbled[:8_192] + b"\xff" * (len(scribbled) - 8_192))
    damaged = DeadLetterStore(path, LONGEST)
    with pytest.raises(PipelineFailed, match="put the file aside"):
        damaged.open(None)
    damaged.close()


def test_a_store_can_be_opened_again(store: DeadLetterStore) -> None:
    store.write(numbered(1), bad(0), origin)
    position = store.position()
    store.close()
    store.open(position)
    assert (ids(store), store.position()) == (["1.0"], position)


def test_a_store_that_is_not_open_yet_says_so(path: Path) -> None:
    with pytest.raises(NotAccepted, match="not open yet") as raised:
        DeadLetterStore(path, LONGEST).find()
    assert not isinstance(raised.value, QueueClosed)


def test_the_last_block_is_known_before_the_store_is_open(
    store: DeadLetterStore, path: Path
) -> None:
    assert store.last_block() == 0
    store.write(numbered(3), bad(0), origin)
    store.refuse("kept", numbered(7), bad(0)[0], origin)
    store.close()
    again = DeadLetterStore(path, LONGEST)
    assert again.last_block() == 7
    again.open({"block": 2})
    assert (ids(again), again.last_block()) == (["7.0:kept"], 7)
    again.close()


def test_without_a_checkpoint_no_letter_is_deleted_then_or_at_the_start_after_it(
    store: DeadLetterStore, path: Path
) -> None:
    store.write(numbered(3), bad(0, 1), origin)
    for _ in range(2):
        again = reopened(store, path, None)
        position = again.position()
        store = reopened(again, path, position)
    assert ids(store) == ["3.1", "3.0"]
    store.close()


def test_a_closed_store_says_that_the_daemon_stops(store: DeadLetterStore) -> None:
    store.close()
    with pytest.raises(QueueClosed, match="stopping"):
        store.find()


@pytest.mark.timeout(120)
def test_the_stream_writes_while_operators_read_and_decide(store: DeadLetterStore) -> None:
    problems: list[Exception] = []

    def operators() -> None:
        try:
            while (counts := store.counts())[DISCARDED] < 100:
                waiting = store.find(Selection(WAITING))
                store.discard(each.id for each in waiting[: 100 - counts[DISCARDED]])
                store.flush()
        except Exception as error:  # noqa: BLE001 - told by the test's own thread
            problems.append(error)

    thread = Thread(target=operators, daemon=True)
    thread.start()
    for number in range(1, 201):
        store.write(numbered(number), bad(0), origin)
        store.refuse("kept", numbered(number), bad(1)[0], origin)
        assert store.refused("kept", number) == {1}
    thread.join(LIMIT)
    assert not thread.is_alive()
    assert problems == []
    assert sum(store.counts().values()) == 400


events = st.binary(max_size=20)
texts = st.text(st.characters(exclude_categories=[]), max_size=20)
"""Also what is half a character."""


@pytest.fixture(scope="module")
def shared_store(tmp_path_factory: pytest.TempPathFactory) -> Iterator[DeadLetterStore]:
    store = DeadLetterStore(tmp_path_factory.mktemp("store") / "penstock.db", LONGEST)
    store.open(None)
    yield store
    store.close()


@given(events, texts, texts, st.integers(0, 10**18 - 1))
def test_any_bytes_and_any_text_come_back(
    shared_store: DeadLetterStore, event: bytes, reason: str, traceback: str, number: int
) -> None:
    shared_store.discard([LetterId(number, 0)])
    shared_store.purge(float("inf"))
    letter = DeadLetter(0, event, reason, "lookup", 1, traceback)
    shared_store.write(numbered(number), [letter], origin)
    stored = shared_store.get(LetterId(number, 0))
    assert stored is not None
    assert stored.letter.event == event
    assert stored.letter.reason == reason.encode(errors="backslashreplace").decode()
    assert stored.letter.traceback == traceback.encode(errors="backslashreplace").decode()


# ---- how it is kept


def test_what_many_letters_share_is_there_once(path: Path) -> None:
    """So that a flood of them takes little more room than the events themselves."""
    store = DeadLetterStore(path, LONGEST)
    store.open(None)
    frames = "Traceback (most recent call last):\n" + "  a line of a file\n" * 100
    for number in range(1, 101):
        letters = [
            DeadLetter(row, b"an event", "it failed", "lookup", 3, f"{frames}KeyError: {row % 7}\n")
            for row in range(20)
        ]
        store.write(numbered(number), letters, origin)
    shown = store.get(LetterId(50, 12))
    assert shown is not None
    assert shown.letter.traceback == f"{frames}KeyError: 5\n"
    store.flush()
    store.close()
    assert path.stat().st_size / 2_000 < 65, "bytes for each letter, an index of 14 with them"


@pytest.mark.parametrize(
    "traceback", [None, "", "one line", "one line\n", "a\nb", "a\nb\n", "\n", "a\n\nb\n"]
)
def test_a_traceback_is_shown_as_it_was(store: DeadLetterStore, traceback: str | None) -> None:
    letter = DeadLetter(0, b"x", "why", "lookup", 1, traceback)
    store.write(numbered(1), [letter], origin)
    stored = store.get(LetterId(1, 0))
    assert stored is not None
    assert stored.letter == letter


def test_a_traceback_without_end_is_cut_in_its_middle(store: DeadLetterStore) -> None:
    text = "begin\n" + "a call\n" * 100_000 + "end\nError: why"
    store.write(numbered(1), [DeadLetter(0, b"x", "w" * 9_999, "lookup", 1, text)], origin)
    stored = store.get(LetterId(1, 0))
    assert stored is not None
    kept = stored.letter.traceback or ""
    assert kept.startswith("begin\n")
    assert kept.endswith("end\nError: why")
    assert len(kept) + len(stored.letter.reason) < 25_000


def test_what_no_letter_names_any_more_is_purged_with_the_last_that_did(path: Path) -> None:
    store = DeadLetterStore(path, LONGEST)
    store.open(None)
    store.write(numbered(1), [failed(0), failed(1)], origin)
    store.write(numbered(2), bad(0), origin)
    store.discard([LetterId(1, 0), LetterId(1, 1)])
    assert store.purge(time.time() + 60) == 2
    store.close()
    with sqlite3.connect(path) as database:
        counts = [
            database.execute(f"SELECT count(*) FROM {table}").fetchone()[0]  # noqa: S608 - names
            for table in ("letters", "arrivals", "causes", "frames")
        ]
    database.close()
    assert counts == [1, 1, 1, 0]


FORMER = """
CREATE TABLE dead_letters (
    block INTEGER NOT NULL, row INTEGER NOT NULL, sink TEXT NOT NULL DEFAULT '',
    source TEXT NOT NULL, line INTEGER NOT NULL, path TEXT, received REAL NOT NULL,
    reason TEXT NOT NULL, middleware TEXT, attempts INTEGER NOT NULL,
    status TEXT NOT NULL DEFAULT 'waiting', redriven_as TEXT, changed_at REAL NOT NULL,
    event_bytes INTEGER NOT NULL, traceback TEXT, event BLOB NOT NULL,
    PRIMARY KEY (block, row, sink)
) STRICT;
CREATE INDEX dead_letters_by_status ON dead_letters (status, block, row, sink);
INSERT INTO dead_letters VALUES
(1, 0, '', 'push', 7, NULL, 1.25, 'not JSON', NULL, 0, 'waiting', NULL, 5.5, 3, NULL, x'626164'),
(1, 1, 'kept', 'file', 9, '/a', 2.5, 'no', NULL, 0, 'discarded', NULL, 6.5, 9, NULL, x'626164'),
(2, 0, '', 'push', 1, NULL, 3.5, 'raised', 'lookup', 3, 'redriven', '9.0', 7.5, 3, 'a' || char(10)
|| 'b', x'626164');
"""


def test_the_letters_of_the_version_before_are_taken_over(path: Path) -> None:
    path.parent.mkdir()
    with sqlite3.connect(path) as database:
        database.executescript(FORMER)
    database.close()
    for _ in range(2):
        store = DeadLetterStore(path, LONGEST)
        store.open({"block": 2})
        first, second, third = (store.get(each.id) for each in reversed(store.find()))
        store.close()
        assert first == StoredLetter(
            LetterId(1, 0),
            DeadLetter(0, b"bad", "not JSON"),
            Origin("push", 7, 1.25),
            WAITING,
            None,
            5.5,
            event_bytes=3,
            whole=True,
        )
        assert second == StoredLetter(
            LetterId(1, 1, "kept"),
            DeadLetter(1, b"bad", "no"),
            Origin("file", 9, 2.5, "/a"),
            DISCARDED,
            None,
            6.5,
            event_bytes=9,
            whole=False,
        )
        assert third == StoredLetter(
            LetterId(2, 0),
            DeadLetter(0, b"bad", "raised", "lookup", 3, "a\nb"),
            Origin("push", 1, 3.5),
            REDRIVEN,
            "9.0",
            7.5,
            event_bytes=3,
            whole=True,
        )


def test_letters_of_a_later_version_are_left_alone(path: Path) -> None:
    path.parent.mkdir()
    with sqlite3.connect(path) as database:
        database.execute("PRAGMA user_version = 9")
    database.close()
    with pytest.raises(PipelineFailed, match="later version"):
        DeadLetterStore(path, LONGEST).open(None)


@pytest.mark.parametrize("how", ["removed", "emptied"])
def test_letters_that_are_gone_are_told_once(
    tmp_path: Path, how: str, caplog: pytest.LogCaptureFixture
) -> None:
    path = tmp_path / "penstock.db"
    store = DeadLetterStore(path, LONGEST)
    store.open(None)
    store.write(numbered(7), bad(1, 2), origin)
    position = store.position()
    store.close()
    if how == "removed":
        path.unlink()
    else:
        path.write_bytes(b"")
    for _ in range(2):
        store = DeadLetterStore(path, LONGEST)
        store.open(position, died=2)
        assert store.find() == []
        store.close()
    (told,) = caplog.messages
    assert "2 events had died" in told


@pytest.mark.parametrize("decided", [False, True])
def test_a_database_that_is_there_has_lost_nothing(
    tmp_path: Path, decided: bool, caplog: pytest.LogCaptureFixture
) -> None:
    """Also where all were decided and purged since."""
    store = DeadLetterStore(tmp_path / "penstock.db", LONGEST)
    store.open(None)
    store.write(numbered(7), bad(1, 2), origin)
    if decided:
        store.discard([LetterId(7, 1), LetterId(7, 2)])
        assert store.purge(before=2**40) == 2
    position = store.position()
    store.close()
    store.open(position, died=2)
    store.close()
    assert caplog.messages == []
