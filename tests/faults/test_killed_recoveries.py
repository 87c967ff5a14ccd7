"""Killed again and again while it recovers, a daemon gets on: each life begins further on."""

from __future__ import annotations

from pathlib import Path
from unittest.mock import patch

import pytest

from tests.faults.one_process import OneProcess, accept, settle
from tests.faults.stuck_sink import MortalSink

pytestmark = pytest.mark.timeout(120)

BLOCKS = 200
ADJACENT = {"name": "adjacent", "use": "adjacent"}


def test_lives_that_each_emit_a_part_of_what_waits_emit_all_of_it(tmp_path: Path) -> None:
    one = OneProcess(tmp_path / "life", sink="tests.faults.stuck_sink:MortalSink")
    with patch.object(MortalSink, "WRITES", 0), one.life(ADJACENT) as pipeline:
        lines = b"".join(accept(pipeline, 10 * number) for number in range(BLOCKS))
    reached = 0
    for _ in range(BLOCKS // MortalSink.WRITES):
        pipeline = one.pipeline(ADJACENT)
        before = pipeline.checkpointer.block
        assert before >= reached
        try:
            pipeline.start()
            # Every write that it makes lies before the death of this life.
            assert pipeline.checkpointer.wait_for(before + MortalSink.WRITES // 2, 30)
            reached = pipeline.checkpointer.block
            assert reached > before
        finally:
            one.killed(pipeline)
    with patch.object(MortalSink, "WRITES", BLOCKS), one.life(ADJACENT) as pipeline:
        settle(pipeline)
    assert one.kept == lines
