"""Whatever is damaged: all that was appended, or an error; repaired: each entry or its loss."""

from __future__ import annotations

from pathlib import Path
from random import Random

import msgspec
import pytest

from service.errors import JournalDamaged
from service.journal.high_water import NAME
from service.journal.inspection import repair, verify
from service.journal.journal import BLOCK, GONE, NewEntry
from tests.journal.damage import at_random, crashed, files
from tests.journal.journals import as_appended, block, journal, opened, switch

SEEDS = 150


@pytest.fixture(scope="module")
def sound(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, list[NewEntry]]:
    """Return a killed journal of some segments with a write-ahead log, and its entries."""
    directory = tmp_path_factory.mktemp("sound")
    random = Random(1)
    entries = []
    with opened(directory / "a", segment_bytes=20_000) as it:
        number = 1
        for sequence in range(1, 61):
            if sequence % 7 == 0:
                entries.append(switch(number))
            else:
                payload = random.randbytes(random.choice([10, 300, 3_000]))
                entries.append(block(number, payload, *([f"key {number}"] * (number % 3 == 0))))
                number += 1
            it.append(entries[-1])
        left = crashed(directory / "a", directory / "b")
    assert next(left.glob("*-wal")).stat().st_size > 0
    return left, entries


def damaged(
    sound: tuple[Path, list[NewEntry]], directory: Path, random: Random
) -> tuple[Path, list[str]]:
    left = crashed(sound[0], directory / "damaged")
    return left, [
        at_random(path, random) for path in random.sample(files(left), random.choice([1, 1, 2]))
    ]


@pytest.mark.parametrize("seed", range(SEEDS))
def test_random_damage_is_never_taken_for_less_or_other_than_was_written(
    tmp_path: Path, sound: tuple[Path, list[NewEntry]], seed: int
) -> None:
    left, how = damaged(sound, tmp_path, Random(seed))
    after = Random(seed).choice([0, 0, 30, 60])
    it = journal(left, segment_bytes=20_000)
    try:
        it.open(after)
        read = [as_appended(entry) for entry in it.entries(after)]
        found = [it.find(key.key) for entry in sound[1][after:] for key in entry.keys]
    except JournalDamaged as error:
        assert "penstock journal repair" in str(error)  # noqa: PT017 - either is right
        return
    finally:
        it.close()
    assert read == sound[1][after:], how
    assert found == [(entry.block, key) for entry in sound[1][after:] for key in entry.keys], how


@pytest.mark.parametrize("seed", range(SEEDS))
def test_after_a_repair_each_entry_is_there_or_named_as_gone(
    tmp_path: Path, sound: tuple[Path, list[NewEntry]], seed: int
) -> None:
    left, how = damaged(sound, tmp_path, Random(seed))
    found = repair(left, tmp_path / "aside")
    assert verify(left).clean, how
    assert repair(left, tmp_path / "aside") == []
    with opened(left, segment_bytes=20_000) as it:
        read = list(it.entries(0))
        kinds = [entry.kind for entry in read]
        gone = {
            number
            for entry in read
            if entry.kind == GONE
            for body in [msgspec.msgpack.decode(entry.body)]
            for number in range(body["from"], body["to"] + 1)
        }
        assert bool(gone) <= bool(found)
        marked = not any(finding.segment == NAME for finding in found)
        expected = sound[1] if marked else sound[1][: len(read)]
        assert len(read) == len(expected), how
        for entry, was in zip(read, expected, strict=True):
            assert entry.kind == GONE or as_appended(entry) == was, how
        blocks = {entry.block for entry in read if entry.kind == BLOCK}
        assert blocks.isdisjoint(gone)
        assert blocks | gone == {entry.block for entry in expected if entry.kind == BLOCK}, how
        last = len(kinds)
        assert it.append(block(it.last_block + 1)) == last + 1
    assert verify(left).clean
