"""Whatever is done to a daemon, in any order: what can be seen is what one loop makes of it."""

from __future__ import annotations

from pathlib import Path

import pytest

from tests.adversaries.operations import perform, plan
from tests.faults.budget import faults

pytestmark = pytest.mark.timeout(600)


@pytest.mark.parametrize("seed", range(1, 1 + faults(2)))
def test_any_sequence_of_operations_gives_what_one_loop_gives(seed: int, tmp_path: Path) -> None:
    perform(tmp_path, seed)


def test_a_seed_always_makes_the_same_plan() -> None:
    assert plan(7) == plan(7)
