"""The emitter: brings results into offset order and hands the kept lines to the sinks."""

from __future__ import annotations

import logging
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from threading import Condition, Event
from typing import Any, Final

from service.block import Block, Offset
from service.dead_letters import DeadLetters
from service.errors import PipelineFailed, RecordRefused, SinkFailed
from service.origins import Origins
from service.passage import DeadLetter, Result
from service.sinks.sink import Emission, Sink
from service.statistics import Statistics

log = logging.getLogger(__name__)

LONGEST_PAUSE: Final = 5.0
"""Seconds between two attempts to write to a sink that fails."""


@dataclass(slots=True)
class Outlet:
    """A sink, and what to do with an event that it will never take."""

    sink: Sink
    refused_die: bool = False


@dataclass(frozen=True, slots=True)
class Mark:
    """How far everything behind the workers was right after a block, as plain data."""

    block: Block
    sinks: dict[str, Any]
    dead_letters: Any
    origins: dict[str, Any]
    statistics: dict[str, Any]


class Emitter:
    """Emits each block once, in order; holds the stream back while a sink fails."""

    def __init__(
        self,
        outlets: Mapping[str, Outlet],
        dead_letters: DeadLetters,
        origins: Origins,
        statistics: Statistics,
        settled: Callable[[Block], None],
        *,
        after: int = 0,
    ) -> None:
        """Go on after the block ``after``; report each emitted block to ``settled``."""
        self._outlets = outlets
        self._dead_letters = dead_letters
        self._origins = origins
        self._statistics = statistics
        self._settled = settled
        self._changed = Condition()
        self._waiting: dict[int, tuple[Block, Result]] = {}
        self._next = after + 1
        self._marks: dict[int, Mark] = {}
        self._stopping = Event()
        self.failing: dict[str, str] = {}
        """The sinks that cannot write at present, by name, with the reason."""

    def open(self, positions: Mapping[str, Any], letters: Any) -> int:
        """Open every sink at its position, by name, and the dead letters at theirs.

        Returns the last block that a sink holds for good. Raises PipelineFailed.
        """
        for name, outlet in self._outlets.items():
            try:
                outlet.sink.open(positions.get(name))
            except (OSError, SinkFailed) as error:
                raise PipelineFailed(f'sink "{name}": cannot be opened: {error}') from error
            except PipelineFailed as error:
                raise PipelineFailed(f'sink "{name}": {error}') from error
        try:
            self._dead_letters.open(letters)
        except OSError as error:
            raise PipelineFailed(f"the dead letters cannot be opened: {error}") from error
        return max((outlet.sink.settled for outlet in self._outlets.values()), default=0)

    def close(self) -> None:
        """Close the sinks and the dead letters; nobody may write to them any more."""
        for outlet in self._outlets.values():
            outlet.sink.close()
        self._dead_letters.close()

    def offer(self, block: Block, result: Result) -> None:
        """Take a result, in any order; one that is there already, or was emitted, is ignored."""
        with self._changed:
            if block.number >= self._next and block.number not in self._waiting:
                self._waiting[block.number] = (block, result)
                if block.number == self._next:
                    self._changed.notify()

    def run(self) -> None:
        """Emit until stopped."""
        while not self._stopping.is_set():
            with self._changed:
                self._changed.wait_for(self._can_go_on)
            self.emit_next()

    def emit_next(self) -> bool:
        """Emit the next block if its result is there; say whether it was emitted."""
        with self._changed:
            waiting = self._waiting.pop(self._next, None)
        return waiting is not None and self._emit(*waiting)

    def stop(self) -> None:
        """Stop after the block at hand; what comes later is not emitted."""
        self._stopping.set()
        with self._changed:
            self._changed.notify()

    def mark(self, block: int) -> Mark:
        """Return how far everything was right after a barrier; forget the marks before it."""
        with self._changed:
            mark = self._marks[block]
            self._marks = {number: each for number, each in self._marks.items() if number > block}
        return mark

    def mark_now(self, block: Block) -> Mark:
        """Return how far everything is; ``block`` is the last one that was emitted."""
        return Mark(
            block=block,
            sinks={name: outlet.sink.position() for name, outlet in self._outlets.items()},
            dead_letters=self._dead_letters.position(),
            origins=self._origins.position(),
            statistics=self._statistics.state(),
        )

    def flush(self) -> None:
        """Return when all that was written will survive a loss of power; raises OSError."""
        for outlet in self._outlets.values():
            outlet.sink.flush()
        self._dead_letters.flush()

    def _can_go_on(self) -> bool:
        return self._stopping.is_set() or self._next in self._waiting

    def _emit(self, block: Block, result: Result) -> bool:
        """Emit one block, in this order; say whether it was.

        1. Every sink writes its lines, and the dead letters theirs, however long it takes.
        2. The counts take it in, so they never show what is not written.
        3. At a barrier, the mark: all of this block is in it, and nothing of the next one.
        4. Only now it is settled: the daemon may forget it.
        """
        refused: set[int] = set()
        if result.kept:
            emission = Emission(block.number, result.kept, result.kept_rows)
            for name, outlet in self._outlets.items():
                if not self._write(name, outlet, block, emission, refused):
                    return False
        letters = result.dead
        if letters and not self._try(
            "dead letters", lambda: self._dead_letters.write(block, letters, self._origins.origin)
        ):
            return False
        self._origins.passed(block, result.lines)
        self._statistics.settle(block, result, len(refused))
        with self._changed:
            if block.barrier:
                self._marks[block.number] = self.mark_now(block)
            self._next = block.number + 1
            self._waiting.pop(block.number, None)  # a replay may have brought it again meanwhile
        self._settled(block)
        return True

    def _write(
        self, name: str, outlet: Outlet, block: Block, emission: Emission, refused: set[int]
    ) -> bool:
        """Write to one sink, without the events it refused; say whether it was done."""
        if outlet.refused_die:
            known: set[int] = set()
            if not self._try(
                "dead letters",
                lambda: known.update(self._dead_letters.refused(name, block.number)),
            ):
                return False
            refused |= known
            emission = emission.without(known) if known else emission
        if block.number <= outlet.sink.settled:
            return True
        while True:
            refusals: list[RecordRefused] = []
            if not self._try(name, lambda: self._hand_over(outlet, block, emission, refusals)):  # noqa: B023 - called at once
                return False
            if not refusals:
                return True
            refusal = refusals[0]
            line = {offset.row: line for offset, line in emission}[refusal.row]
            letter = DeadLetter(refusal.row, line, f"{name} refused it: {refusal.reason}")
            # First the dead letter, then the sink goes on without it: a crash between asks again.
            if not self._try(
                "dead letters",
                lambda: self._dead_letters.refuse(name, block, letter, self._origins.origin),  # noqa: B023 - called at once
            ):
                return False
            refused.add(refusal.row)
            emission = emission.without({refusal.row})

    def _hand_over(
        self, outlet: Outlet, block: Block, emission: Emission, refusals: list[RecordRefused]
    ) -> None:
        try:
            outlet.sink.write(emission)
        except RecordRefused as refusal:
            if not outlet.refused_die:
                offset = Offset(block.number, refusal.row)
                message = f'the event {offset} is refused: {refusal.reason} (set refused = "dead")'
                raise SinkFailed(message) from refusal
            refusals.append(refusal)

    def _try(self, name: str, write: Callable[[], None]) -> bool:
        """Write until it works, with growing pauses; False when the emitter is to stop."""
        pause = 0.0
        while not self._stopping.wait(pause):
            try:
                write()
            except (OSError, SinkFailed) as error:
                pause = min(LONGEST_PAUSE, 2 * pause + 0.1)
                if name not in self.failing:
                    log.warning(
                        "%s cannot be written: %s; the stream waits, nothing is lost", name, error
                    )
                self.failing[name] = str(error)
                continue
            if self.failing.pop(name, None) is not None:
                log.warning("%s can be written again; the stream goes on", name)
            return True
        return False
