"""Killing workers and the state host changes no byte of the output."""

from __future__ import annotations

import json
import random
import subprocess
import sys
from collections import Counter
from collections.abc import Callable
from pathlib import Path

import psutil
import pytest

from tests.faults.chaos import STATE, WORKER, Chaos
from tests.sequential import sequential

EVENTS = 1_000_000
POINTS = 1_000_000
KILLS = {1: 16, 2: 22, 4: 22}
"""Kills by number of workers: 60 in all."""

CONFIG = """
[[middleware]]
name = "adjacent"
use = "adjacent"

[[sink]]
name = "kept"
use = "stdout"

[block]
bytes = "256KiB"

[event]
max_event_bytes = "64KiB"

[state]
checkpoint_bytes = "4MiB"
"""


@pytest.fixture(scope="module")
def million(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, bytes]:
    """Return a million events, a thousand for each second of event time, and the right answer."""
    randomness = random.Random(20)
    lines = [
        b'{"cid":%d,"time":%.3f}\n' % (randomness.randrange(POINTS), 1.7e9 + index / 1_000)
        for index in range(EVENTS)
    ]
    path = tmp_path_factory.mktemp("million") / "events.ndjson"
    path.write_bytes(b"".join(lines))
    return path, sequential(lines)


def start(folder: Path, events: Path, workers: int) -> psutil.Popen:
    (folder / "config.toml").write_text(CONFIG)
    command = [sys.executable, "-m", "service", "process", str(events), "--json"]
    command += ["--output", str(folder / "kept.ndjson"), "--config", str(folder / "config.toml")]
    command += ["--workers", str(workers)]
    errors = (folder / "stderr").open("wb")
    with errors:
        return psutil.Popen(command, stdout=subprocess.PIPE, stderr=errors)


def finish(process: psutil.Popen, folder: Path) -> dict[str, object]:
    stdout, _ = process.communicate(timeout=240)
    assert process.returncode == 0, (folder / "stderr").read_text()
    summary: dict[str, object] = json.loads(stdout)
    return summary


@pytest.mark.parametrize("workers", [1, 2, 4])
def test_a_million_events_give_the_sequential_answer(
    million: tuple[Path, bytes], tmp_path: Path, workers: int
) -> None:
    events, expected = million
    summary = finish(start(tmp_path, events, workers), tmp_path)
    assert (tmp_path / "kept.ndjson").read_bytes() == expected
    kept = expected.count(b"\n")
    assert summary["accepted"] == EVENTS
    assert summary["emitted"] == kept
    assert summary["dropped"] == {"adjacent": EVENTS - kept}
    assert summary["dead"] == 0


@pytest.mark.parametrize("workers", [1, 2, 4])
def test_kills_while_it_runs_change_no_byte(
    million: tuple[Path, bytes],
    tmp_path: Path,
    workers: int,
    record_property: Callable[[str, object], None],
) -> None:
    events, expected = million
    process = start(tmp_path, events, workers)
    chaos = Chaos(process, tmp_path / "kept.ndjson", seed=workers)
    chaos.kill_along(len(expected), KILLS[workers])
    summary = finish(process, tmp_path)
    record_property("kills", dict(chaos.kills))
    assert (tmp_path / "kept.ndjson").read_bytes() == expected
    assert summary["accepted"] == EVENTS
    assert summary["emitted"] == expected.count(b"\n")
    assert summary["dead"] == 0
    died = Counter({WORKER: 0, STATE: 0}) + chaos.kills
    assert died[WORKER] > 0
    assert died[STATE] > 0
    assert died.total() >= KILLS[workers] - 3
