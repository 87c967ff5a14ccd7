"""The benchmarks measure what they say: the same job, with the right answer known."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path

import pytest

from benchmarks import chains, memory, points, report, targets
from benchmarks.contenders import (
    CONFIG,
    Baseline,
    Case,
    Run,
    WrongOutput,
    configured,
    differences,
    run_baseline,
    run_bytewax,
    run_duckdb,
    run_penstock,
    run_plain_script,
)
from benchmarks.events import (
    write_clustered_events,
    write_events,
    write_lone_events,
    write_wide_events,
)
from benchmarks.ingest import ingest
from benchmarks.reference import write_expected
from benchmarks.report import Measured, Section

Writer = Callable[[Path, int, int], None]

EVENTS = 2_000


def made(folder: Path, write: Writer = write_events, points: int = 1_099) -> Case:
    case = Case(folder, folder / "events", folder / "kept", EVENTS)
    write(case.source, EVENTS, points)
    write_expected(case.source, case.expected)
    return case


@pytest.fixture
def case(tmp_path: Path) -> Case:
    return made(tmp_path)


def test_the_events_are_the_same_each_time(tmp_path: Path) -> None:
    write_events(tmp_path / "once", 2_000, 1_099)
    write_events(tmp_path / "again", 2_000, 1_099)
    once = (tmp_path / "once").read_text()
    assert once == (tmp_path / "again").read_text()
    assert once.startswith('{"cid":131000000857,"time":1700000000.000}\n')
    assert once.splitlines()[1].endswith('"time":1700000000.001}')
    assert once.splitlines()[-1].endswith('"time":1700000001.999}')


def test_clusters_lie_anywhere_in_64_bits(tmp_path: Path) -> None:
    write_clustered_events(tmp_path / "events", 2_000, 10_000)
    lines = (tmp_path / "events").read_bytes().splitlines()
    points = [json.loads(line)["cid"] for line in lines]
    assert min(points) < -(2**60)
    assert max(points) > 2**60
    assert len({point >> 12 for point in points}) <= 20


def test_wide_events_have_12_fields_and_about_300_bytes(tmp_path: Path) -> None:
    write_wide_events(tmp_path / "events", 100, 1_000)
    lines = (tmp_path / "events").read_bytes().splitlines()
    assert {len(json.loads(line)) for line in lines} == {12}
    assert 250 < sum(map(len, lines)) / len(lines) < 350


def test_the_stream_brings_every_point_once_a_round() -> None:
    events = [json.loads(line) for line in memory.lines(0, 3 * memory.POINTS).splitlines()]
    points = [event["cid"] for event in events]
    for start in range(0, len(points), memory.POINTS):
        assert len(set(points[start : start + memory.POINTS])) == memory.POINTS
    assert memory.lines(1_000, 2).splitlines() == memory.lines(0, 1_002).splitlines()[1_000:]
    assert events[1_234]["time"] == 1_700_000_001.234


@pytest.mark.parametrize("write", [write_events, write_clustered_events, write_wide_events])
def test_the_contenders_write_what_the_reference_writes(tmp_path: Path, write: Writer) -> None:
    case = made(tmp_path, write, points=2_000)
    assert 0 < len(case.expected.read_bytes().splitlines()) < EVENTS
    assert run_plain_script(case).seconds > 0
    assert run_penstock(case, 2).own_rate


@pytest.mark.parametrize("write", [write_events, write_clustered_events, write_wide_events])
def test_the_query_writes_what_the_reference_writes(tmp_path: Path, write: Writer) -> None:
    pytest.importorskip("duckdb", reason='the extra "bench" is not installed')
    assert run_duckdb(made(tmp_path, write, points=2_000)).events == EVENTS


def test_the_dataflow_writes_what_the_reference_writes_of_the_first_events(case: Case) -> None:
    pytest.importorskip("bytewax", reason='the extra "bench" is not installed')
    assert run_bytewax(case, 1_500).events == 1_500


def test_a_wrong_output_has_no_time(case: Case) -> None:
    case.expected.write_bytes(b"")
    with pytest.raises(WrongOutput, match="the plain script"):
        run_plain_script(case)


def test_the_baseline_ends_and_reports(case: Case) -> None:
    baseline = run_baseline(case, 300)
    assert baseline.run.events == 300
    assert baseline.run.own_rate


def test_differences_are_counted() -> None:
    expected = [b"a", b"b", b"c", b"d"]
    assert differences(expected, expected) == (0, 0)
    assert differences([b"a", b"c", b"d"], expected) == (1, 0)
    assert differences([b"a", b"b", b"c", b"x"], expected) == (2, 0)
    assert differences([b"d", b"a", b"b", b"c"], expected) == (0, 1)
    assert differences([b"d", b"c", b"b", b"a"], expected) == (0, 3)


def test_penstock_must_say_that_it_took_in_every_event(case: Case) -> None:
    fewer = Case(case.folder, case.source, case.expected, EVENTS - 1)
    with pytest.raises(WrongOutput, match="2000 of 1999"):
        run_penstock(fewer, 1)


def test_five_steps_write_what_one_does(case: Case) -> None:
    text = f"{chains.BLOCKLISTS}{CONFIG.read_text()}"
    assert text.count("[[middleware]]") == 5
    assert run_penstock(case, 2, configured(case.folder, "five", text)).own_rate


def test_posts_of_several_clients_are_compared_in_any_order(tmp_path: Path) -> None:
    lone = Case(tmp_path, tmp_path / "lone", tmp_path / "lone", 60)
    write_lone_events(lone.source, 60)
    assert ingest(lone, 1, 4, "off") > 0
    (tmp_path / "other").write_bytes(b"{}\n")
    with pytest.raises(WrongOutput, match="ingested"):
        ingest(Case(tmp_path, lone.source, tmp_path / "other", 60), 1, 4, "off")


def test_a_long_stream_is_sampled_and_its_output_checked(tmp_path: Path) -> None:
    samples = list(memory.stream(tmp_path, 2 * memory.AT_ONCE, 1))
    assert [each.events for each in samples] == [memory.AT_ONCE, 2 * memory.AT_ONCE]
    assert all(each.size > 10_000_000 for each in samples)
    assert samples[0].seconds < samples[1].seconds


def test_a_remembered_point_has_a_size() -> None:
    found = points.remembered(100_000)
    assert found.bytes_a_point >= 8
    assert found.rate > 0


def test_many_points_are_measured_with_the_output_checked(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(points, "MANY", 2_000)
    monkeypatch.setattr(points, "ASKED", 1_000)
    monkeypatch.setattr(points, "REPETITIONS", 1)
    assert points.process_rate(tmp_path, 2_000) > 0
    assert not (tmp_path / "points").exists()


RUNS = {"plain script": [Run(100, 1.0)], "Penstock": [Run(100, 0.4, 400.0), Run(100, 0.5, 250.0)]}
MEASURED = Measured("an input", [Baseline(Run(10, 2.0, 5.0), 3, 4)], RUNS)


def test_the_table_compares_with_the_baseline_and_the_plain_script() -> None:
    rows = [row.split(" | ") for row in report.speed_table([MEASURED]).splitlines()[2:]]
    assert [row[1] for row in rows] == ["baseline", "plain script", "Penstock"]
    assert rows[2][3:] == ["0.45 (0.40 to 0.50)", "222", "325", "44", "2.22 |"]


def test_a_target_is_met_or_not_or_not_measured() -> None:
    rows = targets.target_table({"latency p50": 0.004, "busy": 1.5}).splitlines()
    assert "| post to line in the file, p50 | <= 5.0 ms | 4.0 ms | yes |" in rows
    assert "| a step of 40 ms an event, 2 workers to 1 | >= 1.90 x | 1.50 x | no |" in rows
    assert len([row for row in rows if "not measured" in row]) == len(targets.TARGETS) - 2
    with pytest.raises(KeyError, match="speling"):
        targets.target_table({"speling": 1.0})


def test_the_figures_are_drawn_the_same_each_time(tmp_path: Path) -> None:
    pytest.importorskip("matplotlib", reason='the extra "bench" is not installed')
    from benchmarks import plot  # noqa: PLC0415 - with matplotlib only

    section = Section("Memory", "", {}, [(1_000, 10_000_000), (2_000, 11_000_000)])
    for name in ("once", "again"):
        plot.draw(tmp_path / name, [MEASURED], section.growth)
    assert (tmp_path / "once.svg").read_bytes() == (tmp_path / "again.svg").read_bytes()
    assert (tmp_path / "once.png").stat().st_size > 10_000
