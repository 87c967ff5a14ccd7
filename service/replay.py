"""Replay: what another configuration would have made of events that are still in the journal.

Both chains run here, in one process and from the same events: the one that was live, with every
switch where it was, and the candidate. Nothing is changed; the daemon may go on beside it.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Iterator
from dataclasses import dataclass, field, replace
from typing import NamedTuple

from middleware.errors import ConfigurationError
from service.answer import NO_BLAME, Asker
from service.block import Block, Offset
from service.chain import ChainVersion
from service.errors import PipelineFailed
from service.journal.entry import CHAIN, Configuration, read_block, read_chain
from service.journal.journal import BLOCK, Entry
from service.passage import Result
from service.progress import local_lane
from service.runner import ChainRunner
from service.sequencer import Sequencer
from service.settings import EventSettings
from service.sinks.sink import Emission
from service.snapshot import Snapshot
from service.span import Piece, Span


class Difference(NamedTuple):
    """An event that the two chains decide differently: its line as emitted, None for dropped."""

    offset: Offset
    then: bytes | None
    now: bytes | None


@dataclass(slots=True)
class Comparison:
    """How many events were compared, and what became of them then and now."""

    events: int = 0
    warmed_up: int = 0
    """Events before the range, which only filled the memories."""
    first: Offset | None = None
    """The oldest event that was replayed: what was remembered before it is not known."""
    then: Counter[str] = field(default_factory=Counter)
    now: Counter[str] = field(default_factory=Counter)


class Replay:
    """Runs the journal's entries through the live chain and a candidate."""

    def __init__(self, event: EventSettings, candidate: ChainVersion, retries: int) -> None:
        """Read events as ``event`` says for the candidate."""
        self._candidate = _ReplayedChain(event, candidate, retries)
        self._retries = retries
        self._live: _ReplayedChain | None = None
        self.comparison = Comparison()

    def differences(self, entries: Iterable[Entry], span: Span) -> Iterator[Difference]:
        """Yield the differences within a span, in offset order.

        Entries before the first statement of the live chain are left out. Raises PipelineFailed
        when a file that was taken in by reference is no longer there.
        """
        for entry in entries:
            if span.ends_before(entry):
                return
            if entry.kind == CHAIN:
                change = read_chain(entry)
                self._switch(entry, change.chain, change.configuration)
            elif entry.kind == BLOCK and self._live is not None:
                block = read_block(entry, self._live.chain)
                for piece in span.pieces(entry, block):
                    then = self._live.run(piece.block)
                    now = self._candidate.run(piece.block)
                    yield from self._compare(piece, then, now)

    def _switch(self, entry: Entry, chain: ChainVersion, configuration: Configuration) -> None:
        event = EventSettings.model_validate(configuration.event)
        try:
            if self._live is None:
                self._live = _ReplayedChain(event, chain, self._retries)
            else:
                self._live = self._live.switched(event, chain)
        except ConfigurationError as error:
            message = (
                f"from block {entry.block} on, events were decided by a chain that cannot be run "
                f"any more: {error}; put that back to compare with it, or use `penstock journal "
                "export` and `penstock process` to see what this configuration makes of the events"
            )
            raise PipelineFailed(message) from error

    def _compare(self, piece: Piece, then: Result, now: Result) -> Iterator[Difference]:
        comparison, block = self.comparison, piece.block
        if comparison.first is None:
            comparison.first = Offset(block.number, piece.row)
        if not piece.within:
            comparison.warmed_up += then.accepted
            return
        comparison.events += then.accepted
        _count(comparison.then, then)
        _count(comparison.now, now)
        if then.kept == now.kept and then.kept_rows == now.kept_rows:
            return
        kept_then, kept_now = _lines(block, then), _lines(block, now)
        for row in sorted(kept_then.keys() | kept_now.keys()):
            before, after = kept_then.get(row), kept_now.get(row)
            if before != after:
                yield Difference(Offset(block.number, piece.row + row), before, after)


class _ReplayedChain:
    """One chain with its memory, asked directly."""

    def __init__(
        self,
        event: EventSettings,
        chain: ChainVersion,
        retries: int,
        memory: Snapshot | None = None,
    ) -> None:
        for step in chain.steps:
            step.load()  # here, where it can be told which chain lacks a class
        self.chain = chain
        self._event = event
        self._retries = retries
        self._number = 0
        askers = [Asker(local_lane(), retries) for _ in chain.steps]
        self._sequencer = Sequencer(chain.steps, askers, memory)
        # Numbered anew: the first block in the journal need not be number 1.
        self._number = self._sequencer.block
        self._runner = ChainRunner(event, local_lane(), retries, self._sequencer.ask)

    def switched(self, event: EventSettings, chain: ChainVersion) -> _ReplayedChain:
        """Return the chain to go on with."""
        if event == self._event and _structure(chain) == _structure(self.chain):
            self.chain = chain
            return self
        memory = self._sequencer.snapshot_now(self._number)
        self._runner.close()
        return _ReplayedChain(event, chain, self._retries, memory)

    def run(self, block: Block) -> Result:
        """Return what becomes of the next block."""
        self._number += 1
        renumbered = replace(block, number=self._number, chain=self.chain, barrier=False)
        return self._runner.run(renumbered, NO_BLAME, self._number - 1)


def _structure(chain: ChainVersion) -> list[tuple[str, str]]:
    return [(step.name, step.use) for step in chain.steps]


def _count(counts: Counter[str], result: Result) -> None:
    counts["emitted"] += result.emitted
    counts["dead"] += len(result.dead)
    for name, number in result.dropped.items():
        counts[f"dropped by {name}"] += number


def _lines(block: Block, result: Result) -> dict[int, bytes]:
    emission = Emission(block.number, result.kept, result.kept_rows)
    return {offset.row: line for offset, line in emission}
