"""From a state directory to the storage that a daemon starts with, all of it as configured.

There is one set of steps with one memory at a time. So what was accepted under another structure is
finished first: it goes through that one, in a pipeline of its own that takes nothing in.
"""

from __future__ import annotations

import logging
import time
from collections.abc import Collection
from typing import Final

from service.changes import told_positions
from service.class_trial import try_out_steps
from service.classes import check_classes, check_switched, of_then
from service.configured import configured_chain
from service.dead_letters import DeadLetters
from service.errors import Interrupted, PipelineFailed
from service.left_out import tell_exclusions
from service.locks import STOPPED_EARLY, once_unlocked
from service.pipeline import Pipeline
from service.recovery import (
    NO_EXCLUSIONS,
    Exclusions,
    Recovered,
    as_accepted,
    check_forgotten,
    configuration_of,
)
from service.settings import Settings
from service.signals import Stop
from service.state_directory import Storage, open_storage

log = logging.getLogger(__name__)

WORD: Final = 5.0
"""Seconds between two words on what the chain of before still waits for."""

END_LIMIT: Final = 5.0
"""Seconds after which a start that was told to stop has ended, whatever it is stuck at."""


def storage_to_start(
    settings: Settings,
    dead_letters: DeadLetters,
    stop: Stop,
    exclusions: Exclusions = NO_EXCLUSIONS,
    forget: Collection[str] = (),
) -> Storage:
    """Return what the state directory of the settings holds, which must be locked.

    ``exclusions``: what the settings lack already and counts as if it had never been, ``forget``:
    what begins with an empty memory. It holds on disk once it is committed. Raises
    ConfigurationError and PipelineFailed, which name a way on, and Interrupted. Waits while another
    process holds a lock on the journal.
    """
    chain = configured_chain(settings)
    check_forgotten(chain, forget)
    configured = configuration_of(settings, chain)

    def go_on() -> bool:
        return not stop.asked

    storage = open_storage(settings.state, configured, dead_letters, exclusions)
    try:
        tell_exclusions(storage.recovered)
        try_out_steps(of_then(storage.recovered, configured), go_on)
        check_classes(storage.recovered)
        check_switched(storage.recovered.adopting(configured), configured)
        if storage.unfinished(configured):
            storage = finished(settings, storage, stop)
        adopted = storage.adopting(configured)
        _tell_positions(settings, adopted.recovered)
        return adopted.forgetting(forget)
    except BaseException:
        storage.journal.close()
        raise


def _tell_positions(settings: Settings, recovered: Recovered) -> None:
    """Log what becomes of the places in sinks and sources that came or went; left out ones told."""
    checkpoint, left_out = recovered.checkpoint, recovered.exclusions.asked
    if checkpoint is None:
        return
    sinks = {name: at for name, at in checkpoint.sinks.items() if name not in left_out}
    origins = {name: at for name, at in checkpoint.origins.items() if name not in left_out}
    ours = ([sink.name for sink in settings.sink], [source.name for source in settings.source])
    for told in told_positions(sinks, origins, *ours):
        log.warning("%s", told)


def finished(settings: Settings, storage: Storage, stop: Stop) -> Storage:
    """Emit what was accepted under the chain of before; return what is there then.

    A signal to ``stop`` ends it, as any start that is not ready yet. In this order:

    1. what the journal holds is emitted, each block with the chain it was accepted under;
    2. a checkpoint is taken behind all of it, however long that takes: only from there on may the
       chain be another one.

    Raises PipelineFailed, and Interrupted after a signal, with everything as it was for the next
    start.
    """
    recovered = storage.recovered
    pipeline = Pipeline(as_accepted(settings, recovered), storage, stop.wake)
    checkpointer = pipeline.checkpointer
    stop.begin(pipeline.waits_for, END_LIMIT)
    log.warning(
        "the chain's structure was changed: %s blocks accepted before go through it as it was",
        recovered.pending,
    )
    next_word = time.monotonic() + WORD

    def go_on() -> bool:
        nonlocal next_word
        if time.monotonic() >= next_word:
            next_word = time.monotonic() + WORD
            log.warning("the chain as it was is not done: %s", pipeline.waits_for())
        return not stop.asked

    done = False
    try:
        pipeline.start()
        pipeline.wait_until(lambda: pipeline.caught_up, go_on)
        while pipeline.drain(go_on) and not (done := pipeline.saved) and go_on():
            if checkpointer.problem is not None and not pipeline.saving.locked:
                break  # of a full disk nobody knows whether there will ever be room
    finally:
        pipeline.stop()
    pipeline.check()
    if done:
        return once_unlocked(lambda: storage.again(recovered.configuration), go_on)
    if checkpointer.problem is not None and not stop.asked:
        message = (
            f"{checkpointer.problem}: the chain's structure stays as it is; make room, start again"
        )
        raise PipelineFailed(message)
    check_ended(pipeline)
    raise Interrupted(STOPPED_EARLY)


def check_ended(pipeline: Pipeline) -> None:
    """Raise PipelineFailed if a part of a stopped pipeline, other than a sink, does not end."""
    if stuck := ", ".join(pipeline.ending.stuck):
        if not pipeline.emitter.held_back():
            raise PipelineFailed(f"ended without waiting for: {stuck}")
        log.warning("ended without waiting for: %s", stuck)  # a sink's; nothing is lost
