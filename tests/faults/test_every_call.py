"""``penstock process`` is killed, or meets an error, at each call by which it changes a file.

Then the same command is given again, and ends with the output of a run that nothing happened to.
"""

from __future__ import annotations

import errno
import json
import os
import random
import shutil
import subprocess
from collections import Counter
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import Any, Final

import pytest

from tests.daemon.running import PENSTOCK, left_behind
from tests.faults.budget import faults, spread
from tests.faults.injection import Fault, build, calls, survive_each
from tests.sequential import sequential

pytestmark = pytest.mark.timeout(7_200)

CONFIG: Final = """
[[middleware]]
name = "adjacent"
use = "adjacent"

[[sink]]
name = "kept"
use = "stdout"

[block]
bytes = "16KiB"

[event]
max_event_bytes = "1KiB"

[state]
checkpoint_bytes = "32KiB"
"""
EVENTS: Final = 3_000
BAD: Final = 5
CALLS_OF_A_CHECKPOINT: Final = 12
KILLED: Final = -9
LIMIT: Final = 30
"""Seconds that a run may take; it takes about one."""


class Stage:
    """Files to filter, the right answer, and how to run the command over them."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        # Killed before it has children, a process leaves its runtime directory; it is to lie here.
        self._temporary = folder / "tmp"
        self._temporary.mkdir()
        self.injection = build(folder)
        choice = random.Random(1)
        self.lines = [
            b'{"cid":%d,"time":%.3f}\n' % (choice.randrange(3_000), 1.7e9 + index / 2)
            for index in range(EVENTS)
        ]
        self.expected = sequential(self.lines)
        bad = [b"no event %d\n" % number for number in range(BAD)]
        mixed = self.lines.copy()
        for number, each in enumerate(bad):
            mixed.insert(number * EVENTS // BAD, each)
        (folder / "events.ndjson").write_bytes(b"".join(mixed))
        (folder / "penstock.toml").write_text(CONFIG)
        self.calls = self._count()

    def run(self, name: str, fault: Fault | None) -> subprocess.CompletedProcess[str]:
        """Run the command with the outputs in a folder of its own."""
        folder = self.folder / name
        folder.mkdir(exist_ok=True)
        added = self.injection.environment(folder / "kept.ndjson", folder / "calls", fault)
        command = [PENSTOCK, "process", "../events.ndjson", "--workers", "1", "--json"]
        command += ["--output", str(folder / "kept.ndjson"), "--config", "../penstock.toml"]
        with (folder / "stderr").open("w+") as stderr:
            try:
                done = subprocess.run(
                    command,
                    cwd=folder,
                    env={**os.environ, "TMPDIR": str(self._temporary), **added},
                    stdout=subprocess.PIPE,
                    stderr=stderr,
                    text=True,
                    timeout=LIMIT,
                    check=False,
                )
            except subprocess.TimeoutExpired as error:
                stderr.seek(0)
                raise AssertionError(f"{fault} hangs: {stderr.read()}") from error
            stderr.seek(0)
            done.stderr = stderr.read()
        return done

    def survives(self, name: str, fault: Fault) -> str:
        """Run with a fault, then again without one; return what became of the first run."""
        first = self.run(name, fault)
        folder = self.folder / name
        met = [call for call in calls(folder / "calls") if call.faulty]
        where = f"{fault} at {met}: {first.stderr}"
        if not met:
            assert first.returncode == 0, where
            outcome = "not met"
        elif not fault.error:
            assert first.returncode == KILLED, where
            outcome = "killed"
        elif first.returncode == 0:
            outcome = "went on"
            self._check(folder, first, where)
        else:
            assert first.returncode == 1, where
            assert "Traceback" not in first.stderr, where
            assert first.stderr.splitlines()[-1].startswith("penstock: "), where
            outcome = "stopped"
        if outcome in {"killed", "stopped"}:
            again = self.run(name, None)
            assert again.returncode == 0, f"{where}\nthen: {again.stderr}"
            self._check(folder, again, f"{where}\nthen: {again.stderr}")
        assert left_behind(folder) == []
        shutil.rmtree(folder)
        return outcome

    def _check(self, folder: Path, done: subprocess.CompletedProcess[str], where: str) -> None:
        assert (folder / "kept.ndjson").read_bytes() == self.expected, where
        summary: Any = json.loads(done.stdout)
        kept = self.expected.count(b"\n")
        assert summary["accepted"] == EVENTS + BAD, where
        assert summary["emitted"] == kept, where
        assert summary["dropped"] == {"adjacent": EVENTS - kept}, where
        assert summary["dead"] == BAD, where
        letters = (folder / "kept.ndjson.dead").read_text().splitlines()
        events = [json.loads(letter)["event"] for letter in letters]
        assert events == [f"no event {number}" for number in range(BAD)], where

    def _count(self) -> int:
        done = self.run("count", None)
        self._check(self.folder / "count", done, done.stderr)
        assert not (self.folder / "count" / "kept.ndjson.state").exists()
        return len(calls(self.folder / "count" / "calls"))


@pytest.fixture(scope="module")
def stage(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Stage]:
    folder = tmp_path_factory.mktemp("every-call")
    yield Stage(folder)
    shutil.rmtree(folder)


def survive_all(
    stage: Stage, injected: Sequence[Fault], record_property: Callable[[str, object], None]
) -> Counter[str]:
    outcomes = survive_each(stage.survives, injected)
    record_property("faults", dict(outcomes))
    record_property("calls", stage.calls)
    # A checkpoint on its way at the end is not always taken: all calls before its own are met.
    assert outcomes["not met"] <= CALLS_OF_A_CHECKPOINT
    assert outcomes.total() - outcomes["not met"] >= 0.9 * len(injected)
    return outcomes


def test_a_process_killed_before_any_call_goes_on(
    stage: Stage, record_property: Callable[[str, object], None]
) -> None:
    places = spread(stage.calls, faults(200))
    outcomes = survive_all(stage, [Fault(at) for at in places], record_property)
    assert outcomes["killed"] >= 0.9 * len(places)


def test_a_process_killed_in_the_middle_of_any_write_goes_on(
    stage: Stage, record_property: Callable[[str, object], None]
) -> None:
    places = spread(stage.calls, faults(30))
    survive_all(stage, [Fault(at, torn=True) for at in places], record_property)


@pytest.mark.parametrize("times", [1, 3])
@pytest.mark.parametrize("error", [errno.EIO, errno.ENOSPC], ids=["EIO", "ENOSPC"])
def test_a_process_that_meets_an_error_goes_on_or_says_why_it_stops(
    stage: Stage, record_property: Callable[[str, object], None], error: int, times: int
) -> None:
    places = spread(stage.calls, faults(10))
    injected = [Fault(at, error=error, times=times) for at in places]
    outcomes = survive_all(stage, injected, record_property)
    assert outcomes["stopped"]
    assert outcomes["went on"]
