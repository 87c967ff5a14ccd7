"""Finishing what was accepted under another chain, before the configured one holds.

There is one set of steps with one memory at a time, so what was accepted under another structure
goes through that one first, in a pipeline of its own that takes nothing in.
"""

from __future__ import annotations

import logging
from collections.abc import Callable

from service.errors import PipelineFailed
from service.pipeline import Pipeline
from service.recovery import as_accepted
from service.settings import Settings
from service.state_directory import Storage

log = logging.getLogger(__name__)


def finished(
    settings: Settings, storage: Storage, failed: Callable[[], None], go_on: Callable[[], bool]
) -> Storage:
    """Emit what was accepted under the chain of before; return what is there then.

    ``failed`` is called when that cannot go on, ``go_on`` is asked whether it is to. In this order:

    1. what the journal holds is emitted, each block with the chain it was accepted under;
    2. a checkpoint is taken behind all of it, however long that takes: only from there on may the
       chain be another one.

    Raises PipelineFailed, with everything as it was for the next start.
    """
    recovered = storage.recovered
    log.warning(
        "the chain's structure was changed: %s blocks accepted before go through it as it was",
        recovered.pending,
    )
    pipeline = Pipeline(as_accepted(settings, recovered), storage, failed)
    checkpointer = pipeline.checkpointer
    try:
        pipeline.start()
        pipeline.wait_until(lambda: pipeline.caught_up, go_on)
        if pipeline.drain(go_on):
            pipeline.wait_until(lambda: pipeline.saved or checkpointer.problem is not None, go_on)
    finally:
        pipeline.stop()
    pipeline.check()
    if pipeline.saved:
        return storage.again(recovered.configuration)
    if checkpointer.problem is not None:
        message = (
            f"{checkpointer.problem}: the chain's structure stays as it is; make room, start again"
        )
        raise PipelineFailed(message)
    raise PipelineFailed("stopped at once: the next start goes on with what was accepted")
