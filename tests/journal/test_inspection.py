"""What an operator is told of a journal, and what a repair leaves of it."""

from __future__ import annotations

import os
import re
import time
from pathlib import Path
from typing import Any

import pytest

from service.block import Block, Part
from service.chain import ChainVersion
from service.errors import JournalDamaged
from service.journal.entry import block_entry
from service.journal.high_water import NAME
from service.journal.inspection import Finding, repair, verify
from service.journal.journal import GONE, NewEntry
from service.journal.row import loss
from service.journal.survey import Survey
from tests.journal.damage import crashed, cut, flip, garble, remove
from tests.journal.journals import (
    as_appended,
    block,
    names,
    opened,
    poison,
    segments,
    switch,
)

BIG = b"unmistakable" * 200


def filled(directory: Path, count: int = 6) -> list[NewEntry]:
    """Make a journal of blocks, two to a segment, the second one with a key."""
    entries = []
    with opened(directory, segment_bytes=4_000) as it:
        for number in range(1, count + 1):
            entries.append(block(number, BIG, *([] if number % 2 else [f"key {number}"])))
            it.append(entries[-1])
    return entries


def damage_entry(directory: Path, sequence: int) -> None:
    """Turn over a bit in a block's payload."""
    path = segments(directory)[(sequence - 1) // 2]
    data = path.read_bytes()
    at = data.index(b"body %d" % sequence) + 500
    flip(path, 8 * at)


def read(directory: Path) -> list[int | NewEntry]:
    """Return all entries; of a lost one the sequence."""
    with opened(directory) as it:
        return [
            entry.sequence if entry.kind == GONE else as_appended(entry) for entry in it.entries(0)
        ]


def damage(directory: Path) -> list[Finding]:
    return [finding for finding in verify(directory).findings if finding.damage]


def test_a_sound_journal_has_totals_and_no_findings(tmp_path: Path) -> None:
    filled(tmp_path)
    before = {path: path.read_bytes() for path in tmp_path.iterdir()}
    found = verify(tmp_path)
    assert found.clean
    assert found.findings == ()
    assert (found.segments, found.entries, found.blocks) == (3, 6, (1, 6))
    assert found.size >= sum(path.stat().st_size for path in segments(tmp_path))
    assert {path: path.read_bytes() for path in before} == before


def test_no_journal_has_no_findings(tmp_path: Path) -> None:
    assert verify(tmp_path).findings == ()
    assert repair(tmp_path, tmp_path / "aside") == []


def test_a_running_daemon_can_be_looked_at(tmp_path: Path) -> None:
    filled(tmp_path)
    with opened(tmp_path, segment_bytes=4_000) as it:
        for number in range(7, 20):
            it.append(block(number, BIG))
            assert verify(tmp_path).findings == ()
            it.trim(number - 3, time.time() + 60)
        assert verify(tmp_path).blocks == (it.first, 19)


def test_segments_that_the_daemon_trims_meanwhile_are_no_damage(tmp_path: Path) -> None:
    filled(tmp_path)
    survey = Survey(tmp_path)
    with opened(tmp_path) as it:
        it.trim(4, time.time() + 60)
        rows = list(survey.rows())
    assert [row.entry.sequence for _, row in rows] == [5, 6]
    assert survey.findings == []


def test_a_reader_of_the_last_segment_does_not_hinder_the_daemon(tmp_path: Path) -> None:
    with opened(tmp_path, segment_bytes=4_000) as it:
        it.append(block(1, BIG), block(2, BIG))
        rows = Survey(tmp_path).rows()
        next(rows)
        it.append(block(3, BIG))
        rows.close()  # type: ignore[attr-defined]  # it is a generator
        assert [entry.block for entry in it.entries(0)] == [1, 2, 3]
        assert verify(tmp_path).findings == ()
    assert [entry.block for entry in read(tmp_path) if isinstance(entry, NewEntry)] == [1, 2, 3]


def test_a_damaged_block_is_named_and_replaced_and_all_others_kept(tmp_path: Path) -> None:
    entries = filled(tmp_path / "a")
    damage_entry(tmp_path / "a", 3)
    name = segments(tmp_path / "a")[1].name
    found = damage(tmp_path / "a")
    assert found == [Finding(name, (3, 3), (3, 3), "it does not match its checksum")]
    was = segments(tmp_path / "a")[1].read_bytes()
    assert repair(tmp_path / "a", tmp_path / "aside") == found
    assert (tmp_path / "aside" / name).read_bytes() == was
    assert read(tmp_path / "a") == [*entries[:2], 3, *entries[3:]]
    found = list(verify(tmp_path / "a").findings)
    assert [(each.damage, each.sequences, each.blocks) for each in found] == [
        (False, (3, 3), (3, 3))
    ]
    with opened(tmp_path / "a") as it:
        body = loss(next(it.entries(2, 3)))
        assert (body.first, body.last, body.why) == (3, 3, "it does not match its checksum")
        assert it.find("key 4") == (4, entries[3].keys[0])


def test_damage_to_a_repaired_entry_is_found_too(tmp_path: Path) -> None:
    filled(tmp_path / "a")
    damage_entry(tmp_path / "a", 3)
    repair(tmp_path / "a", tmp_path / "aside")
    path = segments(tmp_path / "a")[1]
    at = path.read_bytes().index(b"it does not match")
    flip(path, 8 * at)
    assert [each.sequences for each in damage(tmp_path / "a")] == [(3, 3)]
    with pytest.raises(JournalDamaged, match="entry 3 "), opened(tmp_path / "a"):
        pass


@pytest.mark.parametrize("index", [0, 1, 2])
def test_a_segment_that_cannot_be_read_at_all_is_named_and_replaced(
    tmp_path: Path, index: int
) -> None:
    entries: list[int | NewEntry] = list(filled(tmp_path / "a"))
    path = segments(tmp_path / "a")[index]
    garble(path, 0, os.urandom(path.stat().st_size))
    lost = [2 * index + 1, 2 * index + 2]
    assert any(each.blocks == (lost[0], lost[1]) for each in damage(tmp_path / "a"))
    repair(tmp_path / "a", tmp_path / "aside")
    entries[2 * index : 2 * index + 2] = lost
    assert read(tmp_path / "a") == entries


@pytest.mark.parametrize("index", [1, 2])
def test_a_segment_that_is_gone_is_named_and_replaced(tmp_path: Path, index: int) -> None:
    entries: list[int | NewEntry] = list(filled(tmp_path / "a"))
    remove(segments(tmp_path / "a")[index])
    lost = [2 * index + 1, 2 * index + 2]
    assert [each.blocks for each in damage(tmp_path / "a")] == [(lost[0], lost[1])]
    repair(tmp_path / "a", tmp_path / "aside")
    entries[2 * index : 2 * index + 2] = lost
    assert read(tmp_path / "a") == entries


def test_neighbours_that_are_both_gone_are_replaced(tmp_path: Path) -> None:
    entries: list[int | NewEntry] = list(filled(tmp_path / "a", 10))
    for index in (1, 2):
        garble(segments(tmp_path / "a")[index], 0, os.urandom(5_000))
    repair(tmp_path / "a", tmp_path / "aside")
    assert read(tmp_path / "a") == [*entries[:2], 3, 4, 5, 6, *entries[6:]]


def test_a_lost_tail_is_used_up(tmp_path: Path) -> None:
    with opened(tmp_path / "a") as it:
        it.append(block(1))
        it.append(block(2), switch(3), block(3), switch(4))
        left = crashed(tmp_path / "a", tmp_path / "b")
    log = next(left.glob("*-wal"))
    cut(log, log.stat().st_size - 1)
    assert [(each.sequences, each.blocks) for each in damage(left)] == [((2, 5), (2, 3))]
    repair(left, tmp_path / "aside")
    assert (tmp_path / "aside" / log.name).exists()
    with opened(left) as it:
        assert (it.last, it.last_block) == (5, 3)
        assert [loss(entry).last for entry in it.entries(1)] == [2, 3, 3, 3]
        it.append(block(4))
    assert verify(left).clean


def test_an_index_of_keys_that_lacks_one_is_damage_and_made_anew(tmp_path: Path) -> None:
    entries = filled(tmp_path / "a")
    path = segments(tmp_path / "a")[2]
    was = path.read_bytes()
    # The key is in its entry and in the index: the former would fail the entry's checksum.
    told = {}
    for place in [found.start() for found in re.finditer(b"key 6", was)]:
        flip(path, 8 * place)
        told[place] = [each.what for each in damage(tmp_path / "a")]
        path.write_bytes(was)
    (place,) = (place for place, what in told.items() if all("index" in each for each in what))
    flip(path, 8 * place)
    with pytest.raises(JournalDamaged, match="index of idempotency keys"), opened(tmp_path / "a"):
        pass
    assert ["index" in each.what for each in repair(tmp_path / "a", tmp_path / "aside")] == [True]
    assert read(tmp_path / "a") == entries
    with opened(tmp_path / "a") as it:
        assert it.find("key 6") == (6, entries[5].keys[0])


@pytest.mark.parametrize("place", [0, 4_096])
def test_a_damaged_mark_is_damage_and_made_anew(tmp_path: Path, place: int) -> None:
    entries = filled(tmp_path / "a")
    flip(tmp_path / "a" / NAME, 8 * place + 3)
    with pytest.raises(JournalDamaged, match="high-water"), opened(tmp_path / "a"):
        pass
    assert [each.segment for each in repair(tmp_path / "a", tmp_path / "aside")] == [NAME]
    assert read(tmp_path / "a") == entries
    assert verify(tmp_path / "a").findings == ()


def test_a_mark_that_is_gone_is_damage_and_made_anew(tmp_path: Path) -> None:
    entries = filled(tmp_path / "a")
    remove(tmp_path / "a" / NAME)
    with pytest.raises(JournalDamaged, match="high-water"), opened(tmp_path / "a"):
        pass
    assert [each.segment for each in repair(tmp_path / "a", tmp_path / "aside")] == [NAME]
    assert read(tmp_path / "a") == entries


def test_the_blocks_of_a_journal_whose_segments_are_all_gone_are_not_given_again(
    tmp_path: Path,
) -> None:
    filled(tmp_path / "a")
    for path in segments(tmp_path / "a"):
        remove(path)
    assert [each.blocks for each in damage(tmp_path / "a")] == [(1, 6)]
    repair(tmp_path / "a", tmp_path / "aside")
    with opened(tmp_path / "a", after=6) as it:
        assert it.append(block(7)) == 7
    assert verify(tmp_path / "a").clean


def test_an_empty_last_segment_is_made_anew(tmp_path: Path) -> None:
    filled(tmp_path / "a")
    with opened(tmp_path / "a") as it:
        it.trim(6, time.time() + 60)
        assert (it.first, it.last) == (7, 6)
    path = segments(tmp_path / "a")[0]
    garble(path, 0, os.urandom(path.stat().st_size))
    assert damage(tmp_path / "a")
    repair(tmp_path / "a", tmp_path / "aside")
    with opened(tmp_path / "a", after=6) as it:
        assert it.append(block(7)) == 7


def test_segments_of_two_journals_are_not_joined(tmp_path: Path) -> None:
    for name in ("a", "b"):
        filled(tmp_path / name)
    segments(tmp_path / "b")[1].rename(segments(tmp_path / "a")[1])
    assert any("another journal" in each.what for each in damage(tmp_path / "a"))
    with pytest.raises(JournalDamaged, match="backup"):
        repair(tmp_path / "a", tmp_path / "aside")


@pytest.mark.parametrize("step", range(40))
def test_a_repair_that_is_killed_is_run_again(
    tmp_path: Path, step: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A kill is played by an error at the n-th change of a name or of the disk."""
    with opened(tmp_path / "a", segment_bytes=4_000) as it:
        for number in range(1, 6):
            it.append(block(number, BIG))
        left = crashed(tmp_path / "a", tmp_path / "b")
    damage_entry(left, 3)
    damage_entry(left, 1)
    log = next(left.glob("*-wal"))
    flip(log, -8)
    steps = iter(range(1_000))

    def killed_at(name: str) -> None:
        real = getattr(Path, name)

        def change(path: Path, *arguments: object, **named: object) -> object:
            if path.is_relative_to(tmp_path) and next(steps) == step:
                raise KeyboardInterrupt
            return real(path, *arguments, **named)

        monkeypatch.setattr(Path, name, change)

    for name in ("rename", "unlink", "mkdir"):
        killed_at(name)
    try:
        repair(left, tmp_path / "aside")
    except KeyboardInterrupt:
        monkeypatch.undo()
        repair(left, tmp_path / "aside")
    monkeypatch.undo()
    assert verify(left).clean
    assert read(left) == [1, block(2, BIG), 3, block(4, BIG), 5]
    evidence = names(tmp_path / "aside")
    assert {path.name for path in segments(left)} | {log.name} <= set(evidence)
    assert not any(name.endswith((".new", ".repaired")) for name in names(left))


def test_an_interrupted_repair_keeps_the_journal_from_opening(tmp_path: Path) -> None:
    filled(tmp_path)
    path = segments(tmp_path)[1]
    path.with_suffix(".repaired").write_bytes(path.read_bytes())
    with pytest.raises(JournalDamaged, match="interrupted"), opened(tmp_path):
        pass
    assert [each.what for each in damage(tmp_path)] == ["a repair was interrupted"]
    repair(tmp_path, tmp_path / "aside")
    assert verify(tmp_path).findings == ()


# ---- what is whole, but cannot be understood


def poisoned(directory: Path, at: int, count: int = 6) -> None:
    """Make a journal, two blocks to a segment, one of which nobody can read again."""
    with opened(directory, segment_bytes=4_000) as it:
        for number in range(1, count + 1):
            it.append((poison if number == at else block)(number, BIG))


@pytest.mark.parametrize("at", range(1, 7))
def test_an_entry_that_cannot_be_understood_is_damage_and_is_repaired(
    tmp_path: Path, at: int
) -> None:
    poisoned(tmp_path / "journal", at)
    (found,) = damage(tmp_path / "journal")
    assert (found.sequences, found.blocks) == ((at, at), (at, at))
    assert "it is as it was written, but cannot be read: Expected `str`, got `None`" in found.what
    with pytest.raises(JournalDamaged, match=f"entry {at} .*cannot be read.*journal repair"):
        opened(tmp_path / "journal").__enter__()
    repair(tmp_path / "journal", tmp_path / "aside")
    assert verify(tmp_path / "journal").clean
    assert [number for number in read(tmp_path / "journal") if number == at] == [at]
    assert len(read(tmp_path / "journal")) == 6


def test_an_entry_of_a_kind_of_another_version_is_damage(tmp_path: Path) -> None:
    with opened(tmp_path) as it:
        it.append(block(1), switch(2)._replace(kind=7))
    (found,) = damage(tmp_path)
    assert "its kind 7 is not known here" in found.what


def test_what_could_not_be_read_again_is_not_written() -> None:
    wrong: Any = Part(None, 1, 1, 17.5)  # type: ignore[arg-type]
    with pytest.raises(ValueError, match="Expected `str`"):
        block_entry(Block(1, b"{}\n", (wrong,), ChainVersion(1, ()), barrier=False))
