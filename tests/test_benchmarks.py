"""The benchmarks measure what they say: the same job, with the right answer known."""

from __future__ import annotations

from pathlib import Path

import pytest

from benchmarks.contenders import (
    Case,
    WrongOutput,
    differences,
    run_baseline,
    run_penstock,
    run_plain_script,
)
from benchmarks.events import write_events
from benchmarks.reference import write_expected


@pytest.fixture
def case(tmp_path: Path) -> Case:
    made = Case(tmp_path, tmp_path / "events", tmp_path / "kept")
    write_events(made.source, 2_000, 1_099)
    write_expected(made.source, made.expected)
    return made


def test_the_events_are_the_same_each_time(tmp_path: Path) -> None:
    write_events(tmp_path / "once", 2_000, 1_099)
    write_events(tmp_path / "again", 2_000, 1_099)
    once = (tmp_path / "once").read_text()
    assert once == (tmp_path / "again").read_text()
    assert once.startswith('{"cid":131000000857,"time":1700000000.000}\n')
    assert once.splitlines()[1].endswith('"time":1700000000.001}')
    assert once.splitlines()[-1].endswith('"time":1700000001.999}')


def test_the_contenders_write_what_the_reference_writes(case: Case) -> None:
    assert run_plain_script(case).seconds > 0
    assert run_penstock(case, 2).own_rate


def test_a_wrong_output_has_no_time(case: Case) -> None:
    case.expected.write_bytes(b"")
    with pytest.raises(WrongOutput, match="the plain script"):
        run_plain_script(case)


def test_the_baseline_ends_and_reports(case: Case) -> None:
    baseline = run_baseline(case, 300)
    assert baseline.events == 300
    assert baseline.run.own_rate


def test_differences_are_counted() -> None:
    expected = [b"a", b"b", b"c", b"d"]
    assert differences(expected, expected) == (0, 0)
    assert differences([b"a", b"c", b"d"], expected) == (1, 0)
    assert differences([b"a", b"b", b"c", b"x"], expected) == (2, 0)
    assert differences([b"d", b"a", b"b", b"c"], expected) == (0, 1)
    assert differences([b"d", b"c", b"b", b"a"], expected) == (0, 3)
