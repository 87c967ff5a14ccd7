"""Whatever a user's class does, the daemon goes on, or says which part it is and what to do."""

from __future__ import annotations

from pathlib import Path

import pytest

from tests.adversaries.mistaken_classes import Case, cases, run
from tests.faults.budget import faults, spread

pytestmark = pytest.mark.timeout(600)

HELD = {
    "local-__init__-raises-later",
    "local-handle_batch-raises",
    "local-import-raises",
    "local-mask-list",
    "local-open-exits",
    "local-open-hangs",
    "local-open-raises",
    "local-open-raises-later",
    "local-returns-nan-time",
    "shared-count-numpy",
    "shared-handle-raises",
    "shared-handle_batch-raises",
    "shared-no-snapshot",
    "shared-open-hangs-later",
    "shared-open-raises",
    "shared-open-raises-later",
    "shared-params-no-model",
    "shared-restore-hangs",
    "shared-returns-number",
    "shared-returns-text-cid",
    "shared-snapshot-cycle",
    "shared-snapshot-exits",
    "shared-snapshot-set",
    "shared-snapshot-set-once-filled",
    "sink-__init__-raises",
    "sink-__init__-raises-later",
    "sink-flush-raises",
    "sink-import-raises",
    "sink-no-write",
    "sink-open-exits",
    "sink-open-raises-later",
    "sink-position-hangs",
    "sink-position-object",
    "sink-position-raises-later",
    "sink-position-set",
    "sink-settled-text",
    "sink-write-raises",
    "sink-write-raises-later",
    "source-__init__-raises",
    "source-import-raises",
    "source-puts-none-as-name",
    "source-puts-number",
    "source-puts-text",
    "source-start-exits",
    "source-start-hangs",
    "source-start-raises-later",
    "source-stop-hangs",
}
"""Of the many cases those that are repeated here; the others are tried by hand."""

CASES = [case for case in cases() if case.name in HELD]


def test_no_case_that_is_repeated_has_gone() -> None:
    assert {case.name for case in CASES} == HELD


@pytest.mark.parametrize(
    "case",
    [CASES[number - 1] for number in spread(len(CASES), faults(3))],
    ids=lambda case: case.name,
)
def test_no_class_of_a_user_makes_a_start_impossible(case: Case, tmp_path: Path) -> None:
    assert run(tmp_path, case).problems == []
