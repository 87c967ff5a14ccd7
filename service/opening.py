"""The sinks are opened before anything is taken in, however long that takes.

What a sink holds for good is known only then; and no block may get a number that a sink holds
something under already.
"""

from __future__ import annotations

import logging
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from service.block import Block
from service.checkpointer import Checkpointer
from service.emitter import Emitter
from service.file_position import path_in, take_back
from service.intake import Intake
from service.outlet import Outlet
from service.recovery import Recovered

log = logging.getLogger(__name__)


def open_sinks(
    emitter: Emitter, intake: Intake, checkpointer: Checkpointer, recovered: Recovered
) -> bool:
    """Open the sinks where the last checkpoint saw them; False when the emitter is stopped first.

    Raises PipelineFailed. In this order:

    1. Files that go from one sink to another are taken back to the checkpoint, before anyone
       appends to them: what came after it is written again.
    2. The sinks are opened.
    3. A checkpoint says where they were before anything came, at the very first start and when one
       is new or writes elsewhere. The positions of sinks that left still hold here: one that comes
       back before the next checkpoint goes on exactly.
    4. Later on, only those of sinks that this run leaves out are kept.
    """
    checkpoint, start = recovered.checkpoint, recovered.start
    sinks, letters = (checkpoint.sinks, checkpoint.dead_letters) if checkpoint else ({}, None)
    sinks = _handed_over(sinks, emitter.outlets)
    settled = emitter.open(sinks, letters, recovered.last_block)
    if settled is None:
        return False
    intake.skip_to(settled)
    block = Block(start.block, b"", (), start.chain, barrier=True, sequence=start.sequence)
    mark = emitter.mark_now(block)
    if mark is None:
        return False
    if checkpoint is None or mark.sinks != checkpoint.sinks:
        checkpointer.begin(mark, checkpoint.memory if checkpoint else None)
    emitter.elsewhere = {
        name: at for name, at in emitter.elsewhere.items() if name in recovered.exclusions.asked
    }
    return not emitter.stopped


def _handed_over(positions: Mapping[str, Any], outlets: Mapping[str, Outlet]) -> dict[str, Any]:
    """Take files back to their positions where another sink writes them now; return what holds on.

    The file of a sink that left, and that nobody writes now, stays as it is.
    """
    written = {
        name: {each.resolve() for each in outlet.sink.writes() if isinstance(each, Path)}
        for name, outlet in outlets.items()
    }
    left = dict(positions)
    for name, position in positions.items():
        path = path_in(position)
        takers = [other for other, files in written.items() if path in files and other != name]
        if takers:
            log.warning(
                'sink "%s": goes on with %s, which "%s" wrote before', takers[0], path, name
            )
            take_back(position)
            if name not in written:
                del left[name]
    return left
