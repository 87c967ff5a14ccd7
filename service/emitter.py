"""The emitter: brings results into offset order and hands the kept lines to the sinks."""

from __future__ import annotations

import logging
import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from threading import Condition, Event
from typing import Any, Final

from service.block import Block, Offset
from service.dead_letters import DeadLetters
from service.deaths import DeathNotices
from service.errors import PipelineFailed, RecordRefused, SinkFailed
from service.origins import Origins
from service.outlet import Outlet
from service.passage import DeadLetter, Result
from service.sinks.sink import Emission
from service.statistics import Statistics
from service.threads import Backoff

log = logging.getLogger(__name__)

SLOW: Final = 5.0
"""Seconds after which it is told that a sink has not returned; then after twice as long each."""

CLOSE_LIMIT: Final = 5.0
"""Seconds a sink may take to close; the daemon then ends without it."""

LETTERS: Final = "dead letters"

_WITHOUT: Final = "if it never returns, go on without this sink: penstock run --without {}"


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
        patient: bool = True,
    ) -> None:
        """Go on after the block ``after``; report each emitted block to ``settled``.

        Unless ``patient``, a sink that cannot be opened or flushed is waited for no moment.
        """
        self.outlets = outlets
        self.dead_letters = dead_letters
        self._origins = origins
        self._statistics = statistics
        self._settled = settled
        self._changed = Condition()
        self._waiting: dict[int, tuple[Block, Result]] = {}
        self._next = after + 1
        self._marks: dict[int, Mark] = {}
        self._stopping = Event()
        self._patient = patient
        self.failing: dict[tuple[str, str], tuple[str, float]] = {}
        """By sink, and what cannot be done with it at present: the reason, and since when."""
        self.elsewhere: dict[str, Any] = {}
        """The positions of sinks that are not there, which every mark holds as they are."""
        self.deaths = DeathNotices()
        """What went to the dead letters since the start, by place."""

    @property
    def stopped(self) -> bool:
        """Say whether nothing more is to be emitted."""
        return self._stopping.is_set()

    def troubles(self, slow: float = SLOW) -> dict[str, str]:
        """Return what holds the stream back: by sink why it fails, or what it is at for so long.

        ``slow`` is how many seconds are long.
        """
        now = time.monotonic()
        at_work = {
            name: f"{call[0]} has taken {now - call[1]:.0f} s; {_WITHOUT.format(name)}"
            for name, outlet in self.outlets.items()
            if (call := outlet.longest_call()) and now - call[1] >= slow
        }
        return at_work | {name: why for (name, _), (why, _) in self.failing.copy().items()}

    @property
    def waits_for(self) -> str:
        """What holds the stream back, in a few words; empty if nothing does."""
        return "; ".join(f"{name}: {why}" for name, why in self.troubles().items())

    def held_back(self) -> float:
        """Return for how many seconds the stream has stood still at a sink, 0 if it moves."""
        calls = [outlet.longest_call() for outlet in self.outlets.values()]
        began = [call[1] for call in calls if call]
        began += [since for _, since in self.failing.copy().values()]
        return time.monotonic() - min(began) if began else 0.0

    def watch(self) -> None:
        """Tell the log of every sink that does not return, and of what died, until stopped."""
        told: dict[tuple[str, float], float] = {}
        while not self._stopping.wait(SLOW / 5):
            if self._patient:
                self.deaths.tell()
            now = time.monotonic()
            calls = {
                (name, call[1]): call[0]
                for name, outlet in self.outlets.items()
                if (call := outlet.longest_call())
            }
            told = {each: told[each] for each in told.keys() & calls.keys()}
            for (name, since), method in calls.items():
                if now - since >= told.get((name, since), SLOW):
                    told[name, since] = 2 * (now - since)
                    log.warning(
                        'sink "%s": %s has taken %.0f s; the stream waits for it, nothing is lost; '
                        "%s",
                        name,
                        method,
                        now - since,
                        _WITHOUT.format(name),
                    )

    def close(self) -> None:
        """Close the sinks and the dead letters; nobody may write to them any more."""
        for outlet in self.outlets.values():
            outlet.close(CLOSE_LIMIT)
        self.dead_letters.close()

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

    def mark_now(self, block: Block) -> Mark | None:
        """Return how far everything is; ``block`` is the last one that was emitted.

        None when stopped while a sink could not tell.
        """
        positions = self._positions()
        return None if positions is None else self._mark(block, positions)

    def flush(self) -> bool:
        """Return when all that was written will survive a loss of power; False when stopped first.

        Raises OSError for the dead letters, OutcomeUnknown when a disk does not say what it kept.
        """
        for name, outlet in self.outlets.items():
            if not self.attempt(name, outlet.flush, "flushed"):
                return False
        self.dead_letters.flush()
        return True

    def attempt(self, name: str, attempt: Callable[[], object], what: str = "written") -> bool:
        """Attempt something until it works, with growing pauses; False when told to stop."""
        backoff = Backoff()
        since = time.monotonic()
        while not self._stopping.wait(backoff.pause):
            try:
                attempt()
            except (OSError, SinkFailed) as error:
                if not self._patient and what != "written":
                    raise PipelineFailed(f"{name}: cannot be {what}: {error}") from error
                backoff.grow()
                if (name, what) not in self.failing:
                    log.warning(
                        "%s cannot be %s: %s; the stream waits, nothing is lost", name, what, error
                    )
                self.failing[name, what] = (str(error) or type(error).__name__, since)
                continue
            if self.failing.pop((name, what), None):
                log.warning("%s can be %s again; the stream goes on", name, what)
            return True
        return False

    def _positions(self) -> dict[str, Any] | None:
        positions: dict[str, Any] = {}
        for name, outlet in self.outlets.items():
            if not self.attempt(
                name,
                lambda: positions.update({name: outlet.position()}),  # noqa: B023 - called at once
                "asked for its position",
            ):
                return None
        return positions

    def _mark(self, block: Block, positions: dict[str, Any]) -> Mark:
        return Mark(
            block=block,
            sinks=self.elsewhere | positions,
            dead_letters=self.dead_letters.position(),
            origins=self._origins.position(),
            statistics=self._statistics.state(),
        )

    def _can_go_on(self) -> bool:
        return self._stopping.is_set() or self._next in self._waiting

    def _emit(self, block: Block, result: Result) -> bool:
        """Emit one block, in this order; say whether it was.

        1. Every sink writes its lines, and the dead letters theirs, however long it takes; at a
           barrier the sinks tell how far they are.
        2. The counts take it in, so they never show what is not written.
        3. At a barrier, the mark: all of this block is in it, and nothing of the next one.
        4. Only now it is settled: the daemon may forget it.
        """
        refused: set[int] = set()
        if result.kept:
            emission = Emission(block.number, result.kept, result.kept_rows)
            for name, outlet in self.outlets.items():
                if not self._write(name, outlet, block, emission, refused):
                    return False
        letters = result.dead
        if letters and not self.attempt(
            LETTERS, lambda: self.dead_letters.write(block, letters, self._origins.origin)
        ):
            return False
        positions = self._positions() if block.barrier else {}
        if positions is None:
            return False
        self._origins.passed(block, result.lines)
        self._statistics.settle(block, result, len(refused))
        if letters:
            self.deaths.take(letters)
        with self._changed:
            if block.barrier:
                self._marks[block.number] = self._mark(block, positions)
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
            if not self.attempt(
                LETTERS,
                lambda: known.update(self.dead_letters.refused(name, block.number)),
            ):
                return False
            refused |= known
            emission = emission.without(known) if known else emission
        if block.number <= outlet.settled:
            return True
        while True:
            refusals: list[RecordRefused] = []
            if not self.attempt(name, lambda: self._hand_over(outlet, block, emission, refusals)):  # noqa: B023 - called at once
                return False
            if not refusals:
                return True
            refusal = refusals[0]
            line = {offset.row: line for offset, line in emission}[refusal.row]
            letter = DeadLetter(refusal.row, line, f"{name} refused it: {refusal.reason}")
            # First the dead letter, then the sink goes on without it: a crash between asks again.
            if not self.attempt(
                LETTERS,
                lambda: self.dead_letters.refuse(name, block, letter, self._origins.origin),  # noqa: B023 - called at once
            ):
                return False
            self.deaths.take([letter], name)
            refused.add(refusal.row)
            emission = emission.without({refusal.row})

    def _hand_over(
        self, outlet: Outlet, block: Block, emission: Emission, refusals: list[RecordRefused]
    ) -> None:
        try:
            outlet.write(emission)
        except RecordRefused as refusal:
            if not outlet.refused_die:
                offset = Offset(block.number, refusal.row)
                message = f'the event {offset} is refused: {refusal.reason} (set refused = "dead")'
                raise SinkFailed(message) from refusal
            refusals.append(refusal)
