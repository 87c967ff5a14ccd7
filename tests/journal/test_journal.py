"""What is appended is read back, from segment to segment, until it is trimmed."""

from __future__ import annotations

import os
import subprocess
import sys
import time
from itertools import islice
from pathlib import Path
from threading import Barrier, Thread

import pytest

from service.errors import JournalDamaged, OutcomeUnknown
from service.journal.files import path_of
from service.journal.high_water import NAME
from service.journal.inspection import repair
from service.journal.journal import GONE, NewEntry
from service.journal.segment import Segment
from tests.journal.damage import crashed, cut, remove
from tests.journal.journals import (
    appended,
    as_appended,
    block,
    journal,
    names,
    opened,
    segments,
    switch,
)

BIG = b"x" * 1_000
DAY = 86_400.0


def filled(directory: Path, count: int = 10) -> list[NewEntry]:
    """Make a journal of big blocks, two to a segment."""
    entries = [block(number, BIG) for number in range(1, count + 1)]
    with opened(directory) as it:
        for entry in entries:
            it.append(entry)
    return entries


def test_a_new_journal_is_empty(tmp_path: Path) -> None:
    with opened(tmp_path / "some" / "journal") as it:
        assert (it.first, it.last, it.last_block) == (1, 0, 0)
        assert list(it.entries(0)) == []
        assert it.find("key") is None
        assert it.size > 0


def test_what_is_appended_is_read_back_in_order(tmp_path: Path) -> None:
    entries = [block(1, b"\0\xff"), switch(2), block(2, b"", "a", "b"), block(3, BIG * 3)]
    before = time.time()
    with opened(tmp_path) as it:
        assert [it.append(*entries[:2]), it.append(entries[2]), it.append(entries[3])] == [2, 3, 4]
        assert appended(it) == entries
        assert [entry.sequence for entry in it.entries(0)] == [1, 2, 3, 4]
        assert all(before <= entry.time <= time.time() for entry in it.entries(0))
        assert (it.last, it.last_block) == (4, 3)
    with opened(tmp_path) as it:
        assert appended(it) == entries
        assert (it.last, it.last_block) == (4, 3)


def test_reading_begins_after_one_entry_and_ends_with_another(tmp_path: Path) -> None:
    filled(tmp_path)
    with opened(tmp_path) as it:
        assert [entry.sequence for entry in it.entries(3, 7)] == [4, 5, 6, 7]
        assert list(it.entries(10)) == list(it.entries(4, 4)) == []


def test_nothing_appended_is_nothing_there(tmp_path: Path) -> None:
    with opened(tmp_path) as it:
        assert it.append() == 0
        it.append(block(1))
        assert it.append() == 1


@pytest.mark.parametrize("wrong", [block(1), block(3), switch(1), NewEntry(GONE, 2, b"", b"")])
def test_numbers_have_no_gap_and_only_a_repair_says_gone(tmp_path: Path, wrong: NewEntry) -> None:
    with opened(tmp_path) as it:
        it.append(block(1))
        with pytest.raises(ValueError, match=r"number|repair"):
            it.append(switch(2), wrong)
        it.append(block(2))
        assert appended(it) == [block(1), block(2)]


def test_a_full_segment_is_one_plain_file_and_the_next_one_begins(tmp_path: Path) -> None:
    filled(tmp_path, 5)
    with opened(tmp_path) as it:
        it.append(block(6))
        sealed = [path_of(tmp_path, 1).name, path_of(tmp_path, 3).name]
        last = path_of(tmp_path, 5).name
        assert names(tmp_path) == [*sealed, last, f"{last}-shm", f"{last}-wal", NAME]
        assert it.size == sum(path.stat().st_size for path in tmp_path.glob("*.segment*"))
    assert names(tmp_path) == [*sealed, last, NAME]


def test_a_journal_is_written_and_trimmed_while_it_is_read(tmp_path: Path) -> None:
    entries = filled(tmp_path)
    with opened(tmp_path) as it:
        reader = it.entries(0)
        read = list(islice(reader, 7))
        it.trim(6, time.time() + DAY)
        it.append(block(11))
        assert it.first == 7
        assert [as_appended(entry) for entry in [*read, *reader]] == [*entries, block(11)]


def test_what_is_trimmed_is_not_taken_for_nothing(tmp_path: Path) -> None:
    filled(tmp_path)
    with opened(tmp_path) as it:
        it.trim(6, time.time() + DAY)
        with pytest.raises(LookupError, match="entry 6 is trimmed, the oldest is 7"):
            list(it.entries(5))


# ---- keys


def test_a_key_is_found_with_its_block_the_newest_first(tmp_path: Path) -> None:
    with opened(tmp_path) as it:
        it.append(block(1, BIG, "a", "b"))
        it.append(block(2, BIG, "b"))
        it.append(block(3, BIG, "c", "d"))
        it.append(block(4, BIG, "c"))
        found = {key: it.find(key) for key in "abcd"}
        assert {key: found[0] for key, found in found.items() if found} == {
            "a": 1,
            "b": 2,
            "c": 4,
            "d": 3,
        }
        assert found["d"] == (3, block(3, BIG, "c", "d").keys[1])
        it.trim(2, time.time() + DAY)
        assert (it.find("a"), it.find("b")) == (None, None)
        assert it.find("c") == found["c"]


def test_keys_are_found_in_more_segments_than_stay_open(tmp_path: Path) -> None:
    with opened(tmp_path, segment_bytes=1) as it:
        for number in range(1, 41):
            it.append(block(number, b"", f"key {number}"))
        assert [it.find(f"key {number}") for number in range(1, 41)] == [
            (number, block(number, b"", f"key {number}").keys[0]) for number in range(1, 41)
        ]
        assert it.find("key 0") is None


# ---- trimming


def test_only_whole_segments_that_nobody_needs_are_trimmed(tmp_path: Path) -> None:
    filled(tmp_path)
    with opened(tmp_path) as it:
        later = time.time() + DAY
        it.trim(1, later)
        assert it.first == 1
        before = it.size
        it.trim(5, later)
        assert it.first == 5
        assert it.size < before
        assert not any(path.exists() for path in (path_of(tmp_path, 1), path_of(tmp_path, 3)))
        it.trim(10, later)
        assert (it.first, it.last, it.last_block) == (11, 10, 10)
        it.append(block(11))
    with opened(tmp_path, after=10) as it:
        assert appended(it, 10) == [block(11)]


def test_an_empty_journal_has_nothing_to_trim(tmp_path: Path) -> None:
    with opened(tmp_path) as it:
        it.trim(100, time.time() + DAY)
        it.append(block(1))
        assert appended(it) == [block(1)]


def test_retention_keeps_what_is_young(tmp_path: Path) -> None:
    filled(tmp_path)
    for path in segments(tmp_path)[:2]:
        os.utime(path, (0, 0))
    with opened(tmp_path, retention_bytes=1 << 30, retention_seconds=DAY) as it:
        it.trim(10, time.time())
        assert it.first == 5


def test_retention_keeps_so_many_bytes(tmp_path: Path) -> None:
    filled(tmp_path)
    with opened(tmp_path, retention_bytes=1 << 30, retention_seconds=DAY) as it:
        limit = it.size - segments(tmp_path)[0].stat().st_size - 1
    with opened(tmp_path, retention_bytes=limit, retention_seconds=DAY) as it:
        it.trim(10, time.time())
        assert limit - 2 * segments(tmp_path)[0].stat().st_size < it.size <= limit
        assert 1 < it.first < 10


# ---- kills and leftovers


def test_a_killed_process_loses_nothing(tmp_path: Path) -> None:
    with opened(tmp_path / "a") as it:
        for number in range(1, 8):
            it.append(block(number, BIG))
            with opened(crashed(tmp_path / "a", tmp_path / "b")) as again:
                assert appended(again) == [block(each, BIG) for each in range(1, number + 1)]
                again.append(block(number + 1))


def test_kill_9_loses_nothing_that_was_returned(tmp_path: Path) -> None:
    code = (
        "import os, signal, sys\n"
        "from pathlib import Path\n"
        "from tests.journal.journals import block, journal\n"
        "it = journal(Path(sys.argv[1]), full=False)\n"
        "it.open(0)\n"
        "for number in range(1, 51):\n"
        "    print(it.append(block(number, b'x' * 300)), flush=True)\n"
        "os.kill(os.getpid(), signal.SIGKILL)\n"
    )
    done = subprocess.run(
        [sys.executable, "-c", code, str(tmp_path / "journal")],
        cwd=Path(__file__).parent.parent.parent,
        capture_output=True,
        timeout=60,
        check=False,
    )
    assert done.returncode == -9, done.stderr
    assert done.stdout.split()[-1] == b"50"
    with opened(tmp_path / "journal", full=False) as it:
        assert appended(it) == [block(number, b"x" * 300) for number in range(1, 51)]


def test_a_kill_between_the_next_segment_and_the_seal_is_harmless(tmp_path: Path) -> None:
    with opened(tmp_path / "a") as it:
        it.append(block(1, BIG), switch(2))
        left = crashed(tmp_path / "a", tmp_path / "b")
        crc = Segment.to_read(segments(tmp_path / "a")[0], last=True)
        link = [row.after for row in crc.rows()][-1]
        crc.close()
    Segment.create(path_of(left, 3), link)
    assert (left / f"{path_of(left, 1).name}-wal").stat().st_size
    with opened(left) as it:
        it.append(block(2))
        assert appended(it) == [block(1, BIG), switch(2), block(2)]


def test_leftovers_of_half_done_work_are_removed(tmp_path: Path) -> None:
    entries = filled(tmp_path, 4)
    with opened(tmp_path) as it:
        it.trim(2, time.time() + DAY)
    kept = names(tmp_path)
    old = path_of(tmp_path, 1)
    for name in (f"{old.name}-wal", f"{old.name}-shm", "0000000000000005.new", f"{NAME}.new"):
        (tmp_path / name).write_bytes(b"left over")
    with opened(tmp_path, after=2) as it:
        assert appended(it, 2) == entries[2:]
    assert names(tmp_path) == kept


def test_a_kill_right_after_the_first_mark_is_harmless(tmp_path: Path) -> None:
    with opened(tmp_path):
        pass
    segments(tmp_path)[0].unlink()
    with opened(tmp_path) as it:
        assert it.append(block(1)) == 1


def test_a_garbled_index_of_the_log_does_no_harm(tmp_path: Path) -> None:
    with opened(tmp_path / "a") as it:
        it.append(block(1, BIG))
        left = crashed(tmp_path / "a", tmp_path / "b")
    log = path_of(left, 1)
    log.with_name(f"{log.name}-shm").write_bytes(os.urandom(32_768))
    with opened(left) as it:
        assert appended(it) == [block(1, BIG)]


# ---- what cannot be as it was


def test_an_unsynced_tail_is_given_up_and_its_numbers_are_not_given_again(tmp_path: Path) -> None:
    with opened(tmp_path / "a", full=False) as it:
        it.append(block(1))
        it.sync()
        it.append(block(2), switch(3), block(3))
        left = crashed(tmp_path / "a", tmp_path / "b")
        log = next(left.glob("*-wal"))
    cut(log, log.stat().st_size - 100)
    with opened(left, full=False) as it:
        assert (it.last, it.last_block) == (4, 3)
        assert it.append(block(4)) == 5
        assert [entry.kind for entry in it.entries(0)] == [1, GONE, GONE, GONE, 1]
    with opened(left, full=False) as it:
        assert appended(it)[0] == block(1)
        assert appended(it)[4:] == [block(4)]


def test_a_lost_tail_of_a_full_journal_is_damage(tmp_path: Path) -> None:
    with opened(tmp_path / "a") as it:
        it.append(block(1))
        it.append(block(2))
        left = crashed(tmp_path / "a", tmp_path / "b")
    remove(next(left.glob("*-wal")))
    with (
        pytest.raises(
            JournalDamaged, match=r"entries 1 to 2 \(blocks 1 to 2\).*penstock journal verify"
        ),
        opened(left),
    ):
        pass


def test_a_checkpoint_ahead_of_the_journal_is_damage(tmp_path: Path) -> None:
    filled(tmp_path, 3)
    told = "ends at entry 3, and a checkpoint was taken at entry 9: .* from a backup"
    with pytest.raises(JournalDamaged, match=told), opened(tmp_path, after=9):
        pass


@pytest.mark.parametrize("after", [0, 3])
def test_of_segments_that_are_all_gone_it_is_told_what_is_needed(
    tmp_path: Path, after: int
) -> None:
    """A repair mends it only where nothing is."""
    filled(tmp_path / "a", 3)
    for path in segments(tmp_path / "a"):
        remove(path)
    told = "entries 1 to 3 were written .* from a backup" if after == 0 else "none .* is needed"
    with pytest.raises(JournalDamaged, match=told), opened(tmp_path / "a", after=after):
        pass
    if after == 3:
        assert repair(tmp_path / "a", tmp_path / "aside")
        with opened(tmp_path / "a", after=after) as it:
            assert it.append(block(4)) == 4


def test_a_checkpoint_before_the_oldest_entry_is_damage(tmp_path: Path) -> None:
    filled(tmp_path)
    remove(segments(tmp_path)[0])
    with pytest.raises(JournalDamaged, match="entries 1 to 2"), opened(tmp_path):
        pass
    with opened(tmp_path, after=2) as it:
        assert it.first == 3


@pytest.mark.parametrize("index", [1, 2, 3])
def test_a_segment_that_is_gone_is_damage(tmp_path: Path, index: int) -> None:
    filled(tmp_path)
    remove(segments(tmp_path)[index])
    with pytest.raises(JournalDamaged, match="blocks"), opened(tmp_path):
        pass


def test_a_segment_of_another_journal_is_damage(tmp_path: Path) -> None:
    for name in ("a", "b"):
        filled(tmp_path / name)
    segments(tmp_path / "b")[1].rename(segments(tmp_path / "a")[1])
    with pytest.raises(JournalDamaged, match="before it"), opened(tmp_path / "a"):
        pass


def test_the_mark_of_another_journal_is_damage(tmp_path: Path) -> None:
    for name in ("a", "b"):
        filled(tmp_path / name)
    (tmp_path / "b" / NAME).rename(tmp_path / "a" / NAME)
    with pytest.raises(JournalDamaged, match="high-water"), opened(tmp_path / "a"):
        pass


def test_entries_beyond_the_mark_are_taken_up(tmp_path: Path) -> None:
    with opened(tmp_path / "a") as it:
        it.append(block(1))
        mark = (tmp_path / "a" / NAME).read_bytes()
        it.append(block(2))
    (tmp_path / "a" / NAME).write_bytes(mark)
    with opened(tmp_path / "a") as it:
        assert appended(it) == [block(1), block(2)]


def test_a_closed_journal_refuses(tmp_path: Path) -> None:
    it = journal(tmp_path)
    with pytest.raises(OutcomeUnknown, match="not open"):
        it.append(block(1))
    it.open(0)
    it.close()
    it.close()
    with pytest.raises(OutcomeUnknown, match="closed"):
        it.append(block(1))
    with pytest.raises(OutcomeUnknown, match="closed"):
        it.find("key")


def test_threads_append_one_after_the_other(tmp_path: Path) -> None:
    together = Barrier(4)

    def run() -> None:
        together.wait(10)
        for _ in range(20):
            it.append(switch(1))

    with opened(tmp_path, full=False) as it:
        threads = [Thread(target=run, daemon=True) for _ in range(4)]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join(30)
        assert [entry.sequence for entry in it.entries(0)] == list(range(1, 81))
