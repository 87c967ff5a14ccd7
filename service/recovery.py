"""Recovery: from what the disk holds to the state a pipeline starts in. A crash is just a start.

A start takes the last checkpoint and runs the blocks that the journal holds after it, each with the
chain it was accepted under; only then does what the configuration says now hold.
"""

from __future__ import annotations

import logging
import time
from collections.abc import Collection, Mapping
from dataclasses import dataclass, field, replace
from itertools import groupby
from operator import attrgetter
from typing import Final

import msgspec

from middleware.errors import ConfigurationError
from service.chain import ChainVersion
from service.changes import adopted, same_configuration, told_changes, told_switches
from service.checkpoint import Checkpoint, CheckpointFiles
from service.errors import JournalDamaged, PipelineFailed
from service.intake import Start
from service.journal.entry import (
    CHAIN,
    ChainChange,
    Configuration,
    chain_entry,
    gone_blocks,
    read_block,
    read_chain,
)
from service.journal.journal import BLOCK, GONE, Journal
from service.journal.row import Loss, NewEntry, loss
from service.origins import range_reached
from service.settings import EventSettings, MiddlewareSettings, Settings
from service.snapshot import Snapshot

log = logging.getLogger(__name__)


@dataclass(frozen=True, slots=True)
class Exclusions:
    """What a run leaves out.

    ``asked``: by name, the kinds of part that the configuration calls so, if any. ``found``: the
    steps among them that blocks in the journal were accepted under.
    """

    asked: Mapping[str, Collection[str]] = field(default_factory=dict)
    found: frozenset[str] = frozenset()


NO_EXCLUSIONS: Final = Exclusions()


@dataclass(frozen=True, slots=True)
class Recovered:
    """What the disk holds.

    ``checkpoint`` is None at the very first start. ``chain`` and ``configuration`` are those at the
    journal's end, ``pending`` the number of blocks after the checkpoint, ``last_block`` the last
    block's number, ``chains`` those that blocks after the checkpoint were accepted under. All this
    is told as if the steps in ``exclusions`` had never been.
    """

    checkpoint: Checkpoint | None
    chain: ChainVersion
    configuration: Configuration
    pending: int
    last_block: int
    exclusions: Exclusions = NO_EXCLUSIONS
    chains: tuple[ChainVersion, ...] = ()

    @property
    def start(self) -> Start:
        """Where the intake begins."""
        checkpoint = self.checkpoint
        if checkpoint is None:
            return Start(self.last_block, 0, self.chain, self.configuration, {})
        # Without blocks to do again nothing needs a chain that may be gone from the disk.
        chain = checkpoint.chain if self.pending else self.chain
        references = {name: range_reached(each) for name, each in checkpoint.origins.items()}
        return Start(
            checkpoint.block,
            checkpoint.sequence,
            chain,
            self.configuration,
            references,
            frozenset(self.exclusions.asked),
        )

    def adopting(self, configured: Configuration) -> ChainVersion:
        """Return the chain that a start with this configuration goes on with."""
        same = same_configuration(self.configuration, configured) and not self.exclusions.found
        if self.checkpoint is None or same:
            return self.chain
        return adopted(self.chain, self.configuration, configured, f"{self.last_block + 1}.0")


_ACROSS: Final = (
    "the checkpoint at block {} is from before the chain's structure was changed, and block {} was "
    "accepted after that: put the checkpoint of the change back; or let `penstock journal export` "
    "write what was accepted into a file, and move the whole state directory away to start anew"
)
"""When the checkpoint taken with the change is damaged or gone."""


_PASSED_AND_GONE: Final = (
    "an earlier version moved the checkpoint at block {} past blocks {} to {}, which are confirmed "
    "and not emitted; the journal does not tell those before block {} any more: let `penstock "
    "journal export` write what is left into a file, and move the whole state directory away to "
    "start anew"
)
"""When what a checkpoint was moved past was trimmed since."""


def configuration_of(settings: Settings, chain: ChainVersion) -> Configuration:
    """Return what is remembered of the configuration; ``chain`` is made from it."""
    return Configuration(settings.event.model_dump(mode="json"), chain.steps)


def recover(
    journal: Journal,
    files: CheckpointFiles,
    configured: Configuration,
    exclusions: Exclusions = NO_EXCLUSIONS,
) -> Recovered:
    """Read the last checkpoint and open the journal; raises PipelineFailed.

    ``configured`` is what a first start begins with; the steps ``asked`` for in ``exclusions``
    count as if they had never been. Those ``found`` are added to it.
    """
    without = exclusions.asked.keys()
    checkpoint = files.load()
    journal.open(checkpoint.sequence if checkpoint is not None else 0)
    if checkpoint is None:
        if journal.last:
            message = (
                "there is a journal, but no checkpoint to start from: the checkpoints folder was "
                "removed; put it back, or move the whole state directory away to start anew"
            )
            raise PipelineFailed(message)
        chain = ChainVersion(1, configured.steps)
        return Recovered(None, chain, configured, 0, 0, exclusions)
    checkpoint = _put_back(checkpoint, journal, files)
    there = {step.name for step in checkpoint.chain.steps}
    checkpoint = msgspec.structs.replace(
        checkpoint,
        chain=checkpoint.chain.without(without),
        configuration=checkpoint.configuration.without(without),
    )
    chain, configuration = checkpoint.chain, checkpoint.configuration
    pending, last_block = 0, checkpoint.block
    chains: dict[int, ChainVersion] = {}
    across = False
    lost: list[Loss] = []
    for entry in journal.entries(checkpoint.sequence):
        if entry.kind == CHAIN:
            change = read_chain(entry)
            there |= {step.name for step in change.chain.steps}
            change = change.without(without)
            across = not change.configuration.same_structure(checkpoint.configuration)
            if across and pending:
                continue  # its start ended before it held: what is pending goes through its own
            chain, configuration = change.chain, change.configuration
        elif entry.kind == BLOCK:
            if across:
                raise PipelineFailed(_ACROSS.format(checkpoint.block, entry.block))
            last_block = read_block(entry, chain).number
            pending += 1
            chains[chain.number] = chain
        elif entry.kind == GONE:
            lost.append(loss(entry))
            pending += len(gone_blocks(entry))
            last_block = max(last_block, *gone_blocks(entry), 0)
    _name_lost(lost)
    exclusions = replace(exclusions, found=exclusions.found | (without & there))
    needed = tuple(chains.values())
    return Recovered(checkpoint, chain, configuration, pending, last_block, exclusions, needed)


def _put_back(checkpoint: Checkpoint, journal: Journal, files: CheckpointFiles) -> Checkpoint:
    """Return the checkpoint with its true place in the journal, and save it there if it was not.

    Earlier versions moved it past confirmed blocks that were not emitted yet, when the chain's
    structure was changed. Its memory and the positions of its sinks are those of its block: with
    the place and the chain from the journal, a start goes on there. Raises JournalDamaged when the
    journal does not hold all of these blocks any more.
    """
    block = checkpoint.block
    following = next(journal.entries(checkpoint.sequence), None)
    last = journal.last_block if following is None else following.block - 1
    if last <= block:
        return checkpoint
    change = None
    for entry in journal.entries(journal.first - 1, checkpoint.sequence):
        if entry.kind == CHAIN:
            change = read_chain(entry)
        elif entry.kind == BLOCK and entry.block > block:
            break
    else:
        return checkpoint  # only what a repair found to be gone lies between
    if change is None or entry.block > block + 1:
        raise JournalDamaged(_PASSED_AND_GONE.format(block, block + 1, last, entry.block))
    log.warning(
        "the checkpoint at block %s was moved past %s confirmed blocks by an earlier version: "
        "blocks %s to %s are still in the journal, and are emitted now",
        block,
        last - block,
        block + 1,
        last,
    )
    checkpoint = msgspec.structs.replace(
        checkpoint,
        sequence=entry.sequence - 1,
        chain=change.chain,
        configuration=change.configuration,
    )
    files.save(checkpoint)
    return checkpoint


def adopt(
    recovered: Recovered, configured: Configuration
) -> tuple[Recovered, tuple[NewEntry, ...]]:
    """Let what was changed in the configuration file hold from the next block on, and say so.

    Returns what is to be in the journal for that, too.
    What was switched while it ran stays, but for steps whose table in the file was changed since;
    that is said at each start. Steps with the same name and middleware keep what they remember.
    """
    if recovered.checkpoint is None:
        return recovered, ()
    entries: tuple[NewEntry, ...] = ()
    before, chain = recovered.configuration, recovered.adopting(configured)
    if chain is not recovered.chain:
        since = f"{recovered.last_block + 1}.0"
        entries = (chain_entry(recovered.last_block + 1, ChainChange(chain, configured)),)
        log.warning("the configuration was changed: it holds from offset %s on", since)
        for told in told_changes(recovered.chain, before, configured):
            log.warning("%s", told)
        recovered = replace(recovered, chain=chain, configuration=configured)
    for told in told_switches(recovered.chain, configured):
        log.warning("%s", told)
    return recovered, entries


def check_forgotten(chain: ChainVersion, names: Collection[str]) -> None:
    """See that each name is that of a step with a memory; raises ConfigurationError."""
    for name in names:
        try:
            shared = chain.step(name).shared
        except KeyError:
            raise ConfigurationError(f"--forget: there is no middleware called {name!r}") from None
        if not shared:
            raise ConfigurationError(f"--forget: {name} remembers nothing: start without it")


def forget(recovered: Recovered, names: Collection[str]) -> tuple[Recovered, tuple[NewEntry, ...]]:
    """Empty the memory of some steps before anything is asked of them.

    Returns what is to be in the journal for that, too.

    For a memory that the present version of a middleware cannot restore. That is said, each time.
    Raises PipelineFailed while blocks wait that need the memory.
    """
    chain = recovered.chain
    if recovered.checkpoint is None or not names:
        return recovered, ()
    if recovered.pending:
        message = (
            f"{', '.join(names)}: {recovered.pending} blocks that were accepted before need what "
            "it remembers; start once without --forget, if need be with the class of before, stop "
            f"that with TERM, then forget; or let them pass it undecided: "
            f"{' and '.join(f'penstock run --without {name}' for name in names)}"
        )
        raise PipelineFailed(message)
    since = f"{recovered.last_block + 1}.0"
    for name in names:
        chain = chain.switched(
            name, reset=True, since=since, reason="forgotten at the start", when=time.time()
        )
    change = ChainChange(chain, recovered.configuration)
    entries = (chain_entry(recovered.last_block + 1, change),)
    for name in names:
        log.warning(
            "%s: its memory was emptied, since --forget says so: what it remembered up to offset "
            "%s is gone; each start with --forget %s empties it again",
            name,
            since,
            name,
        )
    memory = recovered.checkpoint.memory
    if memory is not None:
        left = (step for step in chain.steps if step.name not in names)
        memory = memoryview(Snapshot.decode(memory).of(left).encoded())
    checkpoint = msgspec.structs.replace(recovered.checkpoint, memory=memory)
    return replace(recovered, chain=chain, checkpoint=checkpoint), entries


def as_accepted(settings: Settings, recovered: Recovered) -> Settings:
    """Return the settings under which the blocks in the journal were accepted."""
    before = recovered.configuration
    return settings.model_copy(
        update={
            "event": EventSettings.model_validate(before.event),
            "middleware": tuple(
                MiddlewareSettings(
                    name=step.name, use=step.use, mode=step.mode.value, params=dict(step.params)
                )
                for step in before.steps
            ),
        }
    )


def _name_lost(lost: list[Loss]) -> None:
    """Log which offsets are gone, one line for blocks side by side."""
    for why, entries in groupby(lost, key=attrgetter("why")):
        gone = [each for each in entries if each.last >= each.first]
        if gone:
            first, last = gone[0].first, gone[-1].last
            blocks = f"block {first} is" if first == last else f"blocks {first} to {last} are"
            log.error("%s gone, offsets %s.0 to %s.*: %s", blocks, first, last, why)
