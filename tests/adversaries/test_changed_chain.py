"""What was accepted before the chain was changed goes through the chain it was accepted under."""

from __future__ import annotations

import itertools
from pathlib import Path

import pytest

from tests.adversaries.changed_chain import Case, cases, run
from tests.faults.budget import faults

pytestmark = pytest.mark.timeout(600)


@pytest.mark.parametrize(
    "case", list(itertools.islice(cases(), faults(2))), ids=lambda case: "-".join(map(str, case))
)
def test_a_stop_with_a_stuck_sink_and_another_chain_lose_nothing(
    case: Case, tmp_path: Path
) -> None:
    result = run(tmp_path, case)
    assert (result.lost, result.problem, result.stopped) == (0, "", True)
