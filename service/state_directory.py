"""The state directory: what outlives the process, held by one process at a time."""

from __future__ import annotations

import errno
import fcntl
import logging
import os
from collections.abc import Collection
from contextlib import suppress
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Final, TextIO

import msgspec

from service.chain import ChainVersion
from service.checkpoint import CheckpointFiles, checkpoints_in
from service.classes import handed_over, outgrown
from service.dead_letters import DeadLetters
from service.errors import PipelineFailed, StorageBusy
from service.free_space import FreeSpace
from service.journal.entry import Configuration
from service.journal.files import WAYS_BACK
from service.journal.journal import Journal
from service.journal.opening import is_new, read_mark
from service.journal.row import NewEntry
from service.journal.unkept import UnkeptJournal
from service.last_calls import tell_last_calls
from service.locks import once_unlocked
from service.privacy import keep_private, open_lock
from service.recovery import NO_EXCLUSIONS, Exclusions, Recovered, adopt, forget, recover
from service.runtime_directory import remove_earlier
from service.settings import StateSettings
from service.snapshot import Snapshot

log = logging.getLogger(__name__)


SEGMENTS: Final = 8
"""The journal is cut into about so many files, each of which can be given back whole."""

SEGMENT_BYTES: Final = (2**20, 2**26)
"""How small and how large such a file may be."""


@dataclass(frozen=True, slots=True)
class Storage:
    """What a pipeline keeps on disk, and what it found there.

    ``checkpoints`` is None where nothing is to survive the process. What was adopted or forgotten
    since holds for this process alone, until ``commit``.
    """

    journal: Journal
    checkpoints: CheckpointFiles | None
    dead_letters: DeadLetters
    space: FreeSpace
    recovered: Recovered
    entries: tuple[NewEntry, ...] = ()
    """What is to be in the journal before any block comes."""
    changed: bool = False
    """Whether the checkpoint to start from is not the one on disk."""

    def unfinished(self, configured: Configuration) -> bool:
        """Say whether blocks wait that were accepted under another chain than can start now."""
        recovered = self.recovered
        same = recovered.configuration.same_structure(configured) and not recovered.exclusions.found
        return bool(recovered.pending) and not same

    def adopting(self, configured: Configuration) -> Storage:
        """Return the storage with the present configuration holding from the next block on.

        No start may lead from blocks of one structure to those of another, as there is one set of
        steps with one memory at a time: so where the structure is another one, a checkpoint at once
        says so, before any block comes. So does one where a class has outgrown the params that its
        memory was kept under. It lies behind every block, so none may be pending: raises
        PipelineFailed, with nothing written.
        """
        if self.unfinished(configured):
            message = (
                f"{self.recovered.pending} blocks accepted under the chain as it was lie behind no "
                "checkpoint yet: nothing was changed; start again, and it is tried again"
            )
            raise PipelineFailed(message)
        recovered, entries = adopt(self.recovered, configured)
        adopted = replace(self, recovered=recovered, entries=self.entries + entries)
        checkpoint = recovered.checkpoint
        if checkpoint is None:
            return adopted
        same = checkpoint.configuration.same_structure(recovered.configuration)
        others = outgrown(recovered)
        if same and not recovered.exclusions.found and not others:
            return adopted
        memory = checkpoint.memory
        if memory is not None:  # what is not in the chain any more begins empty if it comes again
            snapshot = handed_over(Snapshot.decode(memory), recovered.chain, others)
            memory = memoryview(snapshot.encoded())
        checkpoint = msgspec.structs.replace(
            checkpoint,
            memory=memory,
            sequence=self.journal.last + len(adopted.entries),
            chain=recovered.chain,
            configuration=recovered.configuration,
        )
        recovered = replace(recovered, checkpoint=checkpoint)
        return replace(adopted, recovered=recovered, changed=True)

    def forgetting(self, names: Collection[str]) -> Storage:
        """Return the storage with the memory of some steps emptied."""
        recovered, entries = forget(self.recovered, names)
        changed = self.changed or recovered.checkpoint is not self.recovered.checkpoint
        return replace(self, recovered=recovered, entries=self.entries + entries, changed=changed)

    def commit(self) -> None:
        """Let what was adopted and forgotten hold for good, once nothing can refuse the start.

        1. The entries, all or none; the journal is synced, for a checkpoint is never ahead of it.
        2. The checkpoint.

        Raises StorageBusy and StorageFull, with nothing written, and PipelineFailed.
        """
        if self.entries:
            self.journal.append(*self.entries)
        if self.changed:
            self.journal.sync()
            self._save()

    def _save(self) -> None:
        checkpoint = self.recovered.checkpoint
        assert checkpoint is not None  # noqa: S101 - a changed one is one
        assert self.checkpoints is not None  # noqa: S101 - that is where it came from
        try:
            self.checkpoints.save(checkpoint)
        except OSError as error:
            message = (
                f"the checkpoint at block {checkpoint.block} cannot be written: {error}; "
                "nothing is lost: make room, then start again"
            )
            raise PipelineFailed(message) from error

    def again(self, configured: Configuration) -> Storage:
        """Return what is there now, after a pipeline ran on it."""
        assert self.checkpoints is not None  # noqa: S101 - only a durable pipeline is followed by another
        exclusions = self.recovered.exclusions
        recovered = recover(self.journal, self.checkpoints, configured, exclusions)
        return replace(self, recovered=recovered)


def lock_directory(
    directory: Path, otherwise: str = "give this one a state.directory of its own"
) -> TextIO:
    """Hold a state directory for this process, and this user, alone; raises PipelineFailed.

    Its message says what can be done ``otherwise`` than to stop who holds it.
    """
    try:
        keep_private(directory)
        lock = os.fdopen(open_lock(directory / "lock"), "r+")
    except OSError as error:
        problem = f"cannot be used as state.directory: {error.strerror}"
        path = Path(error.filename or directory)
        message = f"{path.absolute()}: {problem}"
        raise PipelineFailed(message) from error
    try:
        fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except OSError:
        lock.seek(0)
        owner = lock.read().strip() or "unknown"
        lock.close()
        message = f"{directory}: another penstock runs here (pid {owner}); stop it, or {otherwise}"
        raise PipelineFailed(message) from None
    with suppress(OSError):  # a full disk: the lock is held, only who holds it cannot be told
        os.ftruncate(lock.fileno(), 0)
        os.write(lock.fileno(), f"{os.getpid()}\n".encode())
    tell_last_calls(directory)
    remove_earlier(directory)
    return lock


def open_storage(
    state: StateSettings,
    configured: Configuration,
    dead_letters: DeadLetters,
    exclusions: Exclusions = NO_EXCLUSIONS,
) -> Storage:
    """Read what a state directory holds, which must be locked; raises PipelineFailed.

    The ``exclusions`` are left out of what it tells, as they are of ``configured``.
    Waits while another process holds a lock on the journal, or, where there is none, on the dead
    letters: the numbers of blocks go on after theirs.
    """
    journal_folder, checkpoint_folder = journal_directory(state), state.directory / "checkpoints"
    if state.durability == "off":
        if journal_folder.exists():
            message = (
                f"{journal_folder}: holds what another durability accepted; "
                'run it with durability = "full" and stop it, so that all of that is emitted, '
                "then move the state directory away; or use another state.directory"
            )
            raise PipelineFailed(message)
        chain = ChainVersion(1, configured.steps)
        last = once_unlocked(lambda: _last_of(dead_letters))
        nothing = Recovered(None, chain, configured, 0, last, exclusions)
        nowhere = FreeSpace(state.directory, 0)
        return Storage(UnkeptJournal(), None, dead_letters, nowhere, nothing)
    _check_whole(journal_folder, checkpoint_folder)
    journal = open_journal(state)
    checkpoints = CheckpointFiles(checkpoint_folder)
    try:
        recovered = once_unlocked(lambda: recover(journal, checkpoints, configured, exclusions))
    except BaseException:
        journal.close()
        raise
    space = FreeSpace(state.directory, state.reserve)
    return Storage(journal, checkpoints, dead_letters, space, recovered)


def _check_whole(journal: Path, checkpoints: Path) -> None:
    """See that none of two folders that belong together is gone, before anything is made.

    Raises PipelineFailed. A journal that nothing was written to needs no checkpoint yet.
    """
    if is_new(journal):
        if checkpoints_in(checkpoints):
            message = f"{journal}: the journal is gone, and its checkpoints are there; {WAYS_BACK}"
            raise PipelineFailed(message)
    elif not checkpoints_in(checkpoints) and read_mark(journal).sequence:
        message = (
            f"{checkpoints}: there is a journal, but no checkpoint to start from: the checkpoints "
            f"are gone; {WAYS_BACK}"
        )
        raise PipelineFailed(message)


def _last_of(dead_letters: DeadLetters) -> int:
    """Return the last block that has a dead letter: where no journal is, numbers follow it."""
    try:
        return dead_letters.last_block()
    except OSError as error:
        if error.errno == errno.EAGAIN:
            raise StorageBusy(str(error)) from error
        message = f"the dead letters cannot be read: {error}; see to that, then start again"
        raise PipelineFailed(message) from error


def journal_directory(state: StateSettings) -> Path:
    """Return where the journal's files are."""
    return state.directory / "journal"


def existing_journal(state: StateSettings) -> Path:
    """Return where the journal's files are; raises PipelineFailed when there are none."""
    directory = journal_directory(state)
    if not directory.is_dir():
        raise PipelineFailed(f"{directory}: there is no journal")
    return directory


def open_journal(state: StateSettings) -> Journal:
    """Return the journal of a state directory, not yet open."""
    smallest, largest = SEGMENT_BYTES
    return Journal(
        journal_directory(state),
        full=state.durability == "full",
        segment_bytes=max(smallest, min(largest, state.retention_bytes // SEGMENTS)),
        retention_bytes=state.retention_bytes,
        retention_seconds=state.retention_age,
    )
