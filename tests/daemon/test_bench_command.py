"""``penstock bench``: where the time of a chain goes, and what to do about it."""

from __future__ import annotations

import json
import shutil
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from service.bench import READING, WRITING, Measurement, Stage, advice, measure
from service.sample_events import generated_lines, read_lines
from service.settings import EventSettings, Settings
from service.settings_file import load_settings
from tests.conftest import Command
from tests.daemon.running import write_configuration

pytestmark = pytest.mark.timeout(60)

ADJACENT: dict[str, Any] = {
    "name": "adjacent",
    "use": "adjacent",
    "params": {"window": 300.0, "radius": 1},
}
BLOCKED: dict[str, Any] = {"name": "blocked", "use": "blocklist", "params": {"cids": [7]}}
SEVERITY: dict[str, Any] = {"name": "severity", "use": "steps:Severity"}
ZONE: dict[str, Any] = {"name": "zone", "use": "steps:Zone"}
CONFIG = ("--config", "penstock.toml")

STEPS = """
from middleware import Middleware

class Severity(Middleware):
    reads = ("severity",)

    def handle(self, event):
        return event if event["severity"] >= 2 else None

class Zone(Middleware):
    def handle(self, event):
        return {**event, "zone": 1}
"""


@pytest.fixture(autouse=True)
def _steps(tmp_path: Path) -> None:
    (tmp_path / "steps.py").write_text(STEPS)


def written(path: Path, count: int = 40) -> Path:
    """Write events of points 7 and 100 in turn, each severity once in four."""
    events = [
        {"cid": (7, 100)[number % 2], "time": 1000.0 * number, "severity": number % 4}
        for number in range(count)
    ]
    path.write_text("".join(json.dumps(each) + "\n" for each in events))
    return path


def benched(penstock: Command, *options: str) -> Any:
    done = penstock("bench", "--json", *CONFIG, *options)
    assert done.returncode == 0, done.stderr
    return json.loads(done.stdout)


def test_every_step_has_a_row_between_reading_and_writing(
    penstock: Command, tmp_path: Path
) -> None:
    write_configuration(tmp_path, middleware=[BLOCKED, SEVERITY, ADJACENT])
    found = benched(penstock, "--events", str(written(tmp_path / "events")))
    rows = {row["name"]: row for row in found["stages"]}
    assert list(rows) == [READING, "blocked", "severity", "adjacent", WRITING]
    assert [row["form"] for row in rows.values()] == [None, "batch", "event", "batch", None]
    assert [row["shared"] for row in rows.values()] == [False, False, False, True, False]
    assert rows["severity"]["reads"] == ["severity"]
    assert sum(row["share"] for row in rows.values()) == pytest.approx(1)
    assert sum(row["seconds"] for row in rows.values()) == pytest.approx(found["seconds"])
    assert all(row["seconds"] > 0 for row in rows.values())


def test_a_step_is_measured_over_the_events_that_reach_it(
    penstock: Command, tmp_path: Path
) -> None:
    write_configuration(tmp_path, middleware=[BLOCKED, SEVERITY, ADJACENT])
    found = benched(penstock, "--events", str(written(tmp_path / "events")))
    # Point 7 has the even severities, point 100 has 1 and 3.
    assert [row["events"] for row in found["stages"]] == [40, 40, 20, 10, 10]
    assert (found["events"], found["emitted"], found["dead"]) == (40, 10, 0)


def test_the_modes_hold(penstock: Command, tmp_path: Path) -> None:
    chain = [BLOCKED | {"mode": "shadow"}, ADJACENT | {"mode": "disabled"}, SEVERITY]
    write_configuration(tmp_path, middleware=chain)
    found = benched(penstock, "--events", str(written(tmp_path / "events")))
    blocked, adjacent, severity = found["stages"][1:-1]
    assert (blocked["events"], adjacent["events"], severity["events"]) == (40, 0, 40)
    assert (adjacent["form"], adjacent["events_per_second"]) == ("disabled", None)
    assert found["emitted"] == 20


def test_a_step_that_changes_whole_events_is_one(penstock: Command, tmp_path: Path) -> None:
    write_configuration(tmp_path, middleware=[ZONE])
    found = benched(penstock, "--events", str(written(tmp_path / "events")))
    assert (found["emitted"], found["dead"]) == (40, 0)
    assert found["stages"][1]["reads"] == []
    assert found["advice"].startswith("zone reads the whole event")


def test_each_block_is_counted_and_memories_reach_across_them(tmp_path: Path) -> None:
    block, event = {"bytes": "100B"}, {"max_event_bytes": "100B"}
    path = write_configuration(tmp_path, middleware=[ADJACENT], block=block, event=event)
    lines = [b'{"cid":1,"time":%d}\n' % second for second in range(100)]
    found = measure(load_settings(path), lines)
    assert (found.events, found.emitted) == (100, 1)


def test_a_bad_line_reaches_no_step(tmp_path: Path) -> None:
    settings = load_settings(write_configuration(tmp_path, middleware=[BLOCKED]))
    found = measure(settings, [b"{}\n", b'{"cid":1,"time":1}\n'])
    assert [stage.events for stage in found.stages] == [2, 1, 1]
    assert (found.dead, found.failed) == (1, 'border: no "cid"')


def test_the_table_ends_with_what_to_do(penstock: Command, tmp_path: Path) -> None:
    write_configuration(tmp_path, middleware=[BLOCKED, ADJACENT])
    done = penstock("bench", *CONFIG, "--count", "500", "--points", "50")
    assert done.returncode == 0, done.stderr
    *table, empty, last = done.stdout.decode().splitlines()
    assert [row.split("  ")[0] for row in table[1:]] == [
        READING,
        "blocked",
        "adjacent",
        WRITING,
        "in all",
    ]
    assert empty == ""
    assert "of the time" in last


def test_events_that_cannot_be_handled_are_named(penstock: Command, tmp_path: Path) -> None:
    write_configuration(tmp_path, middleware=[SEVERITY])
    done = penstock("bench", "--json", *CONFIG, "--count", "30")
    assert done.returncode == 0
    assert json.loads(done.stdout)["dead"] == 30
    message = "30 of 30 events could not be handled, such as by severity: the event has no field"
    assert message in done.stderr.decode()
    assert b"--events FILE" in done.stderr


def test_nothing_is_left_behind_and_no_sink_is_touched(penstock: Command, tmp_path: Path) -> None:
    write_configuration(tmp_path, middleware=[ADJACENT])
    before = sorted(each.name for each in tmp_path.iterdir())
    benched(penstock, "--count", "100")
    shutil.rmtree(tmp_path / "__pycache__", ignore_errors=True)
    assert sorted(each.name for each in tmp_path.iterdir()) == before


@pytest.mark.parametrize(
    ("options", "code", "message"),
    [
        (["--events", "nowhere"], 2, b"nowhere"),
        (["--events", "penstock.toml", "--points", "5"], 2, b"--points goes with generated events"),
        (["--events", "empty"], 1, b"there is no event"),
        (["--count", "0"], 2, b"--count"),
    ],
)
def test_wrong_usage_is_refused(
    penstock: Command, tmp_path: Path, options: list[str], code: int, message: bytes
) -> None:
    write_configuration(tmp_path, middleware=[ADJACENT])
    (tmp_path / "empty").write_bytes(b"")
    done = penstock("bench", *CONFIG, *options)
    assert done.returncode == code
    assert message in done.stderr


def test_a_wrong_configuration_has_the_usual_exit_code(penstock: Command, tmp_path: Path) -> None:
    write_configuration(tmp_path, middleware=[BLOCKED | {"params": {}}])
    done = penstock("bench", *CONFIG)
    assert done.returncode == 78
    assert b'middleware[0] "blocked".params' in done.stderr


def test_generated_events_are_those_that_the_configuration_reads() -> None:
    event = EventSettings(cid="point", time="at", time_format="rfc3339")
    first, *_ = lines = generated_lines(event, 10, 100)
    assert set(json.loads(first)) == {"point", "at"}
    assert generated_lines(event, 10, 100) == lines
    settings = Settings.model_validate(
        {"event": event.model_dump(), "sink": [{"name": "kept", "use": "stdout"}]}
    )
    found = measure(settings, lines)
    assert (found.events, found.emitted, found.failed) == (100, 100, None)


def test_a_sample_is_the_beginning_of_the_file(tmp_path: Path) -> None:
    (tmp_path / "events").write_bytes(b"1\n2\n3")
    assert read_lines(tmp_path / "events", 2) == [b"1\n", b"2\n"]
    assert read_lines(tmp_path / "events", 9) == [b"1\n", b"2\n", b"3\n"]


READ = Stage(READING, 100, 4.0, 0.4)
WRITTEN = Stage(WRITING, 100, 0.5, 0.05)
STEP = Stage("severity", 100, 5.5, 0.55, "event", ("severity",))


def advised(*stages: Stage) -> str:
    return advice(Measurement(100, 10.0, stages, emitted=100, dead=0, failed=None))


def test_a_step_without_a_batch_form_is_named_first() -> None:
    faster = Stage("other", 100, 1.0, 0.1, "event", ("cid",))
    assert advised(READ, faster, STEP, WRITTEN) == (
        "severity has no handle_batch: writing one is what pays most, unless it changes events "
        "(it costs 55% of the time)"
    )


def test_a_step_that_reads_the_whole_event_also_answers_for_the_reading() -> None:
    zone = Stage("zone", 100, 3.0, 0.3, "event", ())
    assert advised(READ, zone, replace(STEP, share=0.25), WRITTEN) == (
        "zone reads the whole event: naming the fields in `reads` is what pays most "
        "(it costs 70% of the time)"
    )


def test_a_step_that_costs_little_is_not_worth_work() -> None:
    few = replace(STEP, seconds=0.5, share=0.05)
    most = advised(replace(READ, seconds=9.0, share=0.9), few, WRITTEN)
    assert (
        most == "reading takes most, 90% of the time: no step is worth work; more workers share it"
    )


def test_of_many_steps_that_cost_little_each_the_slowest_is_named() -> None:
    steps = [Stage(f"step-{each}", 100, 1.2 + each / 10, 0.15, "event", ("a",)) for each in (0, 1)]
    read = replace(READ, seconds=1.0, share=0.1)
    assert advised(read, *steps, WRITTEN).startswith("step-")
    assert "no handle_batch" in advised(read, *steps, WRITTEN)


def test_a_fast_form_that_takes_most_is_for_more_workers_unless_it_is_shared() -> None:
    batch = replace(STEP, form="batch")
    assert advised(READ, batch, WRITTEN).endswith("more workers share it")
    assert "one process" in advised(READ, replace(batch, shared=True), WRITTEN)


def test_a_chain_without_steps_and_a_disabled_step_are_advised_about_too() -> None:
    assert advised(READ, WRITTEN).startswith("reading takes most")
    off = replace(STEP, form="disabled", seconds=0.1, share=0.01)
    assert advised(READ, off, WRITTEN).startswith("reading takes most")
