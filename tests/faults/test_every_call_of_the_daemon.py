"""The daemon is killed, or meets an error, at each call by which it changes a file.

It is started again, the producer posts again what was not confirmed: each event is there once.
"""

from __future__ import annotations

import errno
import json
import os
import shutil
import subprocess
import time
from collections import Counter
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import Final

import pytest

from tests.daemon.running import PENSTOCK
from tests.faults.budget import faults, spread
from tests.faults.injection import Fault, Injection, build, calls, survive_each
from tests.faults.mortal_daemon import MortalDaemon
from tests.faults.producers import Producers
from tests.faults.small_blocks import ADJACENT, SMALL, bodies, suppressed

pytestmark = pytest.mark.timeout(7_200)

BODIES: Final = 4
KILLED: Final = -9
STOPPED: Final = 1
LIMIT: Final = 90
"""Seconds that all lives of one daemon may take; they take about three."""


class Stage:
    """How to let a daemon live through a fault."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self.injection: Injection = build(folder)
        self.survives("count", None)
        self.calls = len(calls(folder / "count-calls"))

    def survives(self, name: str, fault: Fault | None) -> str:
        """Run until everything is confirmed and emitted; return how the first daemon ended."""
        folder, log = self.folder / name, self.folder / f"{name}-calls"
        folder.mkdir()
        environment = os.environ | self.injection.environment(folder, log, fault)
        daemon = MortalDaemon(
            folder, environment, middleware=[ADJACENT], **(SMALL | {"workers": {"count": 1}})
        )
        producers = Producers(daemon.port, bodies(BODIES, 5), threads=1)
        first = daemon.running
        try:
            self._live_on(daemon, producers)
            if daemon.running is first and first.process.poll() is None:
                first.stop(60)
            ended = first.process.returncode
            where = f"{fault} at {[call for call in calls(log) if call.faulty]}: {first.log}"
            if ended == STOPPED:
                assert fault is not None, where
                assert fault.error, where
                assert PENSTOCK not in first.log, where  # no error goes through the command itself
                last = json.loads(first.log.splitlines()[-1])
                assert (last["logger"], last["level"]) == ("penstock", "error"), where
            else:
                assert ended == KILLED if fault and not fault.error else ended == 0, where
            if daemon.running.process.poll() is not None:
                daemon.start_again()
            daemon.finish(producers, suppressed)
            assert daemon.running.stop() == 0
        except (AssertionError, subprocess.TimeoutExpired) as error:
            raise AssertionError(f"{fault}: {first.log}\n{daemon.running.log}") from error
        finally:
            producers.stop()
            daemon.end()
        shutil.rmtree(folder)
        return {KILLED: "killed", STOPPED: "stopped", 0: "went on"}[ended]

    def _live_on(self, daemon: MortalDaemon, producers: Producers) -> None:
        until = time.monotonic() + LIMIT
        while not producers.done:
            if daemon.running.process.poll() is not None:
                daemon.start_again()
            assert time.monotonic() < until, "the producer did not get through"
            time.sleep(0.01)
        producers.wait_for(BODIES)


@pytest.fixture(scope="module")
def stage(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Stage]:
    folder = tmp_path_factory.mktemp("daemon-calls")
    yield Stage(folder)
    shutil.rmtree(folder)


def survive_all(
    stage: Stage, injected: Sequence[Fault], record_property: Callable[[str, object], None]
) -> Counter[str]:
    outcomes = survive_each(stage.survives, injected)
    record_property("faults", {**outcomes, "calls": stage.calls})
    return outcomes


def test_a_daemon_killed_before_any_call_loses_and_doubles_nothing(
    stage: Stage, record_property: Callable[[str, object], None]
) -> None:
    places = spread(stage.calls, faults(80))
    outcomes = survive_all(stage, [Fault(at) for at in places], record_property)
    assert outcomes["killed"] >= 0.8 * len(places)


@pytest.mark.parametrize("error", [errno.EIO, errno.ENOSPC], ids=["EIO", "ENOSPC"])
def test_a_daemon_that_meets_an_error_goes_on_or_says_why_it_stops(
    stage: Stage, record_property: Callable[[str, object], None], error: int
) -> None:
    places = spread(stage.calls, faults(8))
    injected = [Fault(at, error=error) for at in places]
    outcomes = survive_all(stage, injected, record_property)
    assert outcomes["stopped"]
    assert outcomes["went on"]
