"""Whatever a user's class does, the daemon goes on, or says which part it is and what to do."""

from __future__ import annotations

from pathlib import Path

import pytest

from tests.adversaries.mistaken_classes import Case, cases, run
from tests.faults.budget import faults, spread

pytestmark = pytest.mark.timeout(600)

CASES = list(cases())


@pytest.mark.parametrize(
    "case",
    [CASES[number - 1] for number in spread(len(CASES), faults(6))],
    ids=lambda case: case.name,
)
def test_no_class_of_a_user_makes_a_start_impossible(case: Case, tmp_path: Path) -> None:
    assert run(tmp_path, case).problems == []
