"""Idempotency keys: a new one is told from those of every segment without asking these."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

from service.errors import JournalDamaged
from service.journal.journal import Journal
from service.journal.keys import KeyFilter
from service.journal.segment import Segment
from tests.journal.damage import flip
from tests.journal.journals import block, opened, segments

LIMIT = 20.0
BIG = b"unmistakable" * 200


def filled(it: Journal, count: int) -> None:
    """Append blocks, one to a segment, each with two keys."""
    for number in range(1, count + 1):
        it.append(block(number, BIG, f"a{number}", f"b{number}"))


@pytest.fixture
def asked(monkeypatch: pytest.MonkeyPatch) -> list[Path]:
    """Return the segments that are asked for keys, from now on."""
    segments_asked: list[Path] = []
    find = Segment.find

    def noted(segment: Segment, key: str) -> int | None:
        segments_asked.append(segment.path)
        return find(segment, key)

    monkeypatch.setattr(Segment, "find", noted)
    return segments_asked


def test_a_filter_misses_no_key_of_its_own_and_takes_few_others_for_one() -> None:
    keys = [f"push key-{number}" for number in range(5_000)]
    known = KeyFilter(np.fromiter(map(hash, keys), np.int64))
    assert all(known.may_hold(key) for key in keys)
    assert sum(known.may_hold(f"push other-{number}") for number in range(20_000)) < 100
    assert known.size <= 4 * len(keys)


def test_a_filter_of_nothing_holds_nothing() -> None:
    assert not KeyFilter(np.zeros(0, np.int64)).may_hold("any")


@pytest.mark.parametrize("restarted", [False, True])
def test_a_new_key_asks_only_the_segment_that_is_being_written(
    tmp_path: Path, asked: list[Path], *, restarted: bool
) -> None:
    with opened(tmp_path, retention_bytes=1 << 30) as it:
        filled(it, 6)
        if not restarted:
            assert it.filters.wait(LIMIT)
            assert it.find("new") is None
    if restarted:
        with opened(tmp_path, retention_bytes=1 << 30) as it:
            assert it.filters.wait(LIMIT)
            assert it.find("new") is None
    assert asked == [segments(tmp_path)[-1]]


def test_every_key_is_found_whether_or_not_its_filter_is_made(tmp_path: Path) -> None:
    with opened(tmp_path, retention_bytes=1 << 30) as it:
        filled(it, 6)
        for _ in range(2):
            for number in range(1, 7):
                found = it.find(f"b{number}")
                assert found is not None
                assert (found[0], found[1].key) == (number, f"b{number}")
            assert it.filters.wait(LIMIT)


def test_a_journal_that_is_opened_again_makes_its_filters_again(
    tmp_path: Path, asked: list[Path]
) -> None:
    with opened(tmp_path, retention_bytes=1 << 30) as it:
        filled(it, 6)
        it.close()
        it.open(0)
        assert it.filters.wait(LIMIT)
        assert it.find("new") is None
    assert asked == [segments(tmp_path)[-1]]


def test_a_trimmed_segment_has_no_filter(tmp_path: Path) -> None:
    with opened(tmp_path, retention_bytes=1 << 30, retention_seconds=1e9) as it:
        filled(it, 6)
        assert it.filters.wait(LIMIT)
        five = it.filters.size
        it.trim(4, 1e12)
        assert len(segments(tmp_path)) < 6
        assert it.filters.size < five
        assert it.find("a1") is None


def test_a_segment_whose_keys_cannot_be_read_is_asked_itself(tmp_path: Path) -> None:
    with opened(tmp_path, retention_bytes=1 << 30) as it:
        filled(it, 3)
    first = segments(tmp_path)[0]
    data = first.read_bytes()
    for at in range(0, len(data), 64):
        flip(first, 8 * at)
    with opened(tmp_path, after=2, retention_bytes=1 << 30) as it:
        assert it.filters.wait(LIMIT)
        with pytest.raises(JournalDamaged, match=first.name):
            it.find("new")
