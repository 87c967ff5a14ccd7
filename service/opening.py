"""The sinks are opened before anything is taken in, however long that takes.

What a sink holds for good is known only then; and no block may get a number that a sink or a dead
letter has already.
"""

from __future__ import annotations

import logging
from collections.abc import Collection, Mapping
from functools import partial
from pathlib import Path
from typing import Any, NamedTuple

from middleware.errors import ConfigurationError
from service.block import Block
from service.checkpointer import Checkpointer
from service.emitter import LETTERS, Emitter
from service.errors import Interrupted, PipelineFailed, SinkFailed
from service.file_position import found, path_in, set_aside, take_back
from service.intake import Intake
from service.locks import once_unlocked
from service.outlet import Outlet
from service.sinks.ndjson import NdjsonSink
from service.state_directory import Storage

log = logging.getLogger(__name__)


class Before(NamedTuple):
    """What a start goes on from, as far as sinks and dead letters are concerned."""

    positions: Mapping[str, Any]
    """Those of the sinks, by name."""
    letters: Any
    """The position of the dead letters."""
    last_block: int
    """The last one in the journal."""
    died: int = 0
    """So many events had become dead letters."""
    copied: bool = False
    """Whether the state is a copy, whose original may be in use."""
    followed: bool = True
    """Whether the journal holds blocks after the positions, so that they are written again."""

    @classmethod
    def found_in(cls, storage: Storage) -> Before:
        """Return what a storage tells of it."""
        recovered, checkpoint = storage.recovered, storage.recovered.checkpoint
        if checkpoint is None:
            return cls({}, None, recovered.last_block)
        return cls(
            checkpoint.sinks,
            checkpoint.dead_letters,
            recovered.last_block,
            int(checkpoint.statistics.get("dead", 0)),
            storage.checkpoints is not None and storage.checkpoints.copied,
            bool(recovered.pending),
        )


def open_sinks(
    emitter: Emitter, intake: Intake, checkpointer: Checkpointer, storage: Storage
) -> bool:
    """Open the sinks where the last checkpoint saw them; False when the emitter is stopped first.

    Raises PipelineFailed. In this order:

    1. The dead letters are opened, so that operators see them while a sink is waited for.
    2. Files that go from one sink to another do so with their positions, before anyone appends to
       them.
    3. The sinks are opened, and taken back to the checkpoint: what came after it is written again.
    4. Nothing can refuse the start any more: what it adopted is committed.
    5. A checkpoint says where they were before anything came, at the very first start and when one
       is new or writes elsewhere. The positions of sinks that left still hold here: one that comes
       back before the next checkpoint goes on exactly.
    6. Later on, only those of sinks that this run leaves out are kept.
    """
    recovered = storage.recovered
    checkpoint, start = recovered.checkpoint, recovered.start
    held = open_outlets(emitter, Before.found_in(storage))
    if held is None:
        return False
    try:
        once_unlocked(storage.commit, lambda: not emitter.stopped)
    except Interrupted:
        return False
    intake.skip_to(held)
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


def open_outlets(emitter: Emitter, before: Before) -> int | None:
    """Open the dead letters, then every sink at its position, by name.

    Waits for what cannot be opened now. Returns the last block that a sink holds for good or that a
    letter is kept of; None when the emitter is stopped meanwhile. Raises PipelineFailed when a sink
    is not what it was, or tells of blocks far after the last one in the journal.
    """
    kept = 0

    def open_letters() -> None:
        nonlocal kept
        emitter.dead_letters.open(before.letters, before.died)
        kept = emitter.dead_letters.last_block()

    if not emitter.attempt(LETTERS, open_letters, "opened"):
        return None
    handed = _handed_over(emitter, before)
    if handed is None:
        return None
    emitter.elsewhere = {name: at for name, at in handed.items() if name not in emitter.outlets}
    for name, outlet in emitter.outlets.items():
        opening = partial(outlet.open, handed.get(name), before.last_block)
        try:
            if not emitter.attempt(name, opening, "opened"):
                return None
        except PipelineFailed as error:
            raise PipelineFailed(f'sink "{name}": {error}') from error
    return max([kept, *(outlet.settled for outlet in emitter.outlets.values())])


def _handed_over(emitter: Emitter, before: Before) -> dict[str, Any] | None:
    """Return from where each sink goes on: what is known of a file goes to who writes it now.

    The file of a sink that goes on with another one is taken back here; that of a sink that left,
    and that nobody writes now, stays as it is. None when the emitter is stopped meanwhile.
    """
    writers: dict[Path, str] = {}
    for name, outlet in emitter.outlets.items():
        if not emitter.attempt(name, partial(_note_files, name, outlet, writers), "opened"):
            return None
    positions = before.positions
    if before.copied:
        positions = _without_those_of_the_original(positions, writers)
    handed = dict(positions)
    for name, position in positions.items():
        cut_back = not before.followed and (name in emitter.outlets or found(position) in writers)
        if cut_back and not emitter.attempt(name, partial(set_aside, position), "opened"):
            return None
        handing = partial(_hand_over, name, position, writers, emitter.outlets, handed)
        if not emitter.attempt(name, handing, "opened"):
            return None
    for name, position in positions.items():
        left = name in emitter.outlets and all(position is not each for each in handed.values())
        if left and not emitter.attempt(name, partial(take_back, position), "opened"):
            return None
    return handed


def _without_those_of_the_original(
    positions: Mapping[str, Any], writers: Collection[Path]
) -> dict[str, Any]:
    """Return the positions but for files that only the state that this is a copy of writes."""
    ours = {}
    for name, position in positions.items():
        path = path_in(position)
        if path is None or path in writers:
            ours[name] = position
        else:
            log.warning(
                'sink "%s": %s belongs to the directory that this state is a copy of, and is left',
                name,
                path,
            )
    return ours


def _note_files(name: str, outlet: Outlet, writers: dict[Path, str]) -> None:
    try:
        places = outlet.writes()
    except ConfigurationError as error:
        raise SinkFailed(str(error)) from error
    writers.update((each.resolve(), name) for each in places if isinstance(each, Path))


def _hand_over(
    name: str,
    position: Any,
    writers: Mapping[Path, str],
    outlets: Mapping[str, Outlet],
    handed: dict[str, Any],
) -> None:
    """Let the position of a file be that of the sink that writes this file now."""
    path = path_in(position)
    if path is None:
        return
    taker = writers.get(found(position) or path) or writers.get(path)
    if taker is None or taker == name:
        return
    knows_positions = isinstance(outlets[taker].sink, NdjsonSink)
    if not knows_positions:
        take_back(position)
    log.warning('sink "%s": goes on with %s, which "%s" wrote before', taker, path, name)
    if handed.get(name) is position:
        del handed[name]
    if knows_positions:
        handed[taker] = position
