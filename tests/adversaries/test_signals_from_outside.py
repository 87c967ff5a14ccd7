"""A daemon that is told to stop, at any moment and in any way, stops."""

from __future__ import annotations

import itertools
from pathlib import Path

import pytest

from tests.adversaries.stops import Stop, Stopping, stops
from tests.faults.budget import faults

pytestmark = pytest.mark.timeout(600)


@pytest.mark.parametrize("stop", list(itertools.islice(stops(), faults(5))), ids=str)
def test_every_stop_is_heard(stop: Stop, tmp_path: Path) -> None:
    assert not Stopping(tmp_path).stop(stop).problem
