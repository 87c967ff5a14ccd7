"""The sinks are opened before anything is taken in, however long that takes.

What a sink holds for good is known only then; and no block may get a number that a sink holds
something under already.
"""

from __future__ import annotations

from service.block import Block
from service.checkpointer import Checkpointer
from service.emitter import Emitter
from service.intake import Intake
from service.recovery import Recovered


def open_sinks(
    emitter: Emitter, intake: Intake, checkpointer: Checkpointer, recovered: Recovered
) -> bool:
    """Open the sinks where the last checkpoint saw them; False when the emitter is stopped first.

    At the very first start, and when a sink is new, a checkpoint says where the sinks were before
    anything came. Raises PipelineFailed.
    """
    checkpoint, start = recovered.checkpoint, recovered.start
    sinks, letters = (checkpoint.sinks, checkpoint.dead_letters) if checkpoint else ({}, None)
    settled = emitter.open(sinks, letters)
    if settled is None:
        return False
    intake.skip_to(settled)
    block = Block(start.block, b"", (), start.chain, barrier=True, sequence=start.sequence)
    mark = emitter.mark_now(block)
    if mark is None:
        return False
    if checkpoint is None or mark.sinks != checkpoint.sinks:
        checkpointer.begin(mark, checkpoint.memory if checkpoint else None)
    return not emitter.stopped
