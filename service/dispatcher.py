"""The dispatcher: which block goes to which worker, and what is done again when a process dies.

Invariants:

1. A worker has its blocks in rising order, and the lowest unfinished block is first in line at
   its worker. So that worker never waits for another one in the sequencer: no deadlock is possible.
2. A block is kept until it has been emitted and lies at or before the snapshot: whatever child
   dies, all that is needed to do the work again is here.
3. Everything here happens under one lock, and nothing under it waits.
"""

from __future__ import annotations

import heapq
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field, replace
from threading import Condition
from typing import Final, NamedTuple, Protocol

from service.backlog import Backlog
from service.block import Block
from service.passage import Result
from service.progress import ASKING, NOTHING, Place
from service.snapshot import Encoded, Snapshot
from service.suspicion import Suspicion
from service.worker import Task

WINDOW: Final = 2
"""Blocks a worker has at once: one to work at, one in its pipe, once every other worker has one."""

AHEAD: Final = 8
"""Blocks per worker that may be finished while an earlier one is not: bounds the reordering."""


class Link(Protocol):
    """What the dispatcher knows of a worker: its blocks, by number, with their generation."""

    in_flight: dict[int, int]

    def wake(self) -> None:
        """Make the worker's thread ask for a task."""


@dataclass(slots=True)
class Kept:
    """A block that may have to be asked again, and what was learnt about it."""

    block: Block
    suspicion: Suspicion = field(default_factory=Suspicion)


class Barrier(NamedTuple):
    """A block after which one state host holds a snapshot of every step."""

    block: int
    generation: int
    state_address: str


class Dispatcher:
    """Hands blocks to workers in order, and takes back what a dead process leaves."""

    def __init__(
        self,
        finished: Callable[[Block, Result], None],
        *,
        workers: int,
        retries: int,
        room: int,
        checkpoint_size: int,
        remembers: bool,
    ) -> None:
        """Report each result to ``finished``, possibly twice and in any order.

        ``room`` and ``checkpoint_size`` are those of the ``Backlog``, in bytes; ``remembers``:
        there is a state host.
        """
        self._finished = finished
        self._retries = retries
        self._remembers = remembers
        self._ahead = AHEAD * workers
        self._backlog = Backlog(room=room, references=self._ahead, checkpoint_size=checkpoint_size)
        self._changed = Condition()
        self._links: Sequence[Link] = ()
        self._kept: dict[int, Kept] = {}
        self._accepted = 0
        self._pending: list[int] = []
        self._settled = 0
        self._last_given = 0
        self._generation = 0
        self._state_address = ""
        self._state_ready = not remembers
        self._barriers: set[int] = set()
        self._closed = False
        self.snapshot: Encoded | None = None
        """What the next state host starts from; None where none is needed."""

    def start_from(self, block: int, snapshot: Encoded | None) -> None:
        """Begin right after a block, with what the shared steps remember there, if there were any.

        Those that come now begin empty, but there: they are not asked about the blocks before.
        """
        self._settled = self._accepted = block
        self.snapshot = Snapshot(block, []).encoded() if snapshot is None else snapshot
        self._backlog.snapshot_size = len(self.snapshot)

    # ---- the intake's side

    def wait_for_room(self) -> None:
        """Wait until another block may be accepted."""
        with self._changed:
            self._changed.wait_for(lambda: self._closed or self._backlog.has_room())

    def cut_short(self) -> int:
        """Let the first block that no worker had be a barrier, the last one; return the last."""
        with self._changed:
            begun = max(self._settled, self._last_given)
            if begun >= self._accepted:
                return self._accepted
            kept = self._kept[begun + 1]
            kept.block = replace(kept.block, barrier=True)
            self._pending = sorted(each for each in self._pending if each <= begun + 1)
            self._backlog.blocks_since_barrier = 0
            return begun + 1

    def wants_barrier(self, *, again: bool = False) -> bool:
        """Say whether the next block should be a barrier; ``again``: it was accepted before."""
        return self._backlog.wants_barrier(again=again)

    @property
    def blocks_since_barrier(self) -> int:
        """The blocks accepted since the last barrier."""
        return self._backlog.blocks_since_barrier

    def accept(self, block: Block) -> None:
        """Keep a block and hand it to a worker as soon as one is free."""
        with self._changed:
            self._kept[block.number] = Kept(block)
            self._accepted = block.number
            self._backlog.accept(block)
            heapq.heappush(self._pending, block.number)
            self._wake()

    # ---- the workers' side

    def connect(self, links: Sequence[Link]) -> None:
        """Take the workers that tasks go to."""
        with self._changed:
            self._links = links

    def take(self, link: Link) -> Task | None:
        """Return the next task for a worker, None when there is none for it now."""
        with self._changed:
            if not self._state_ready or not self._pending or len(link.in_flight) >= WINDOW:
                return None
            number = self._pending[0]
            if number > self._settled + self._ahead or number <= max(link.in_flight, default=0):
                return None
            if link.in_flight and not all(other.in_flight for other in self._links):
                return None
            heapq.heappop(self._pending)
            link.in_flight[number] = self._generation
            self._last_given = max(self._last_given, number)
            if len(link.in_flight) == 1:
                self._wake()  # the others may have their second one now
            kept = self._kept[number]
            return Task(
                kept.block,
                kept.suspicion.blame(),
                self._over(number),
                self._generation,
                self._state_address,
            )

    def done(self, link: Link, number: int, result: Result) -> None:
        """Take a worker's result.

        A result of an earlier generation counts too: its answers were the first and only ones. The
        block is asked again nevertheless, to rebuild the memory of the present generation.
        """
        with self._changed:
            generation = link.in_flight.pop(number)
            kept = self._kept.get(number)
            if kept is not None:
                self._finished(kept.block, result)
                if kept.block.barrier and generation == self._generation and self._state_ready:
                    self._barriers.add(number)
                    self._changed.notify_all()
            self._wake()

    def state_lost(self, link: Link, number: int) -> bool:
        """Take back a block whose state host died; say whether that is news.

        It is news when the present generation is meant. The block itself comes again with all
        others when the next generation is ready.
        """
        with self._changed:
            generation = link.in_flight.pop(number)
            self._wake()
            return generation == self._generation and self._state_ready

    def worker_died(self, link: Link, places: Sequence[Place], how: str) -> None:
        """Take back a dead worker's blocks and remember what it was doing to the first of them."""
        with self._changed:
            for number, generation in link.in_flight.items():
                # Blocks before the snapshot were emitted with an earlier generation's results.
                if number in self._kept and generation == self._generation and self._state_ready:
                    heapq.heappush(self._pending, number)
            if link.in_flight:
                first = min(link.in_flight)
                for place in places:
                    if place.block == first:
                        self._suspect(place, how)
            link.in_flight.clear()
            self._wake()

    # ---- the state host's side

    def state_died(self, places: Sequence[Place], how: str) -> None:
        """Stop handing out blocks and remember what the state host was doing."""
        with self._changed:
            self._state_ready = False
            self._barriers.clear()
            for place in places:
                if place.position not in {NOTHING, ASKING}:
                    self._suspect(place, how)

    def state_ready(self, generation: int, address: str) -> None:
        """Hand out again, in order, every block after the snapshot that the state host has."""
        with self._changed:
            self._generation = generation
            self._state_address = address
            self._state_ready = True
            self._pending = sorted(self._kept)
            self._wake()

    def next_barrier(self, limit: float | None = None) -> Barrier | None:
        """Wait for a barrier that all steps have passed, all before it being emitted.

        Returns None when there was none within ``limit`` seconds, or the dispatcher was closed.
        """
        with self._changed:
            self._changed.wait_for(lambda: self._closed or self._passed_barriers(), limit)
            passed = self._passed_barriers()
            if self._closed or not passed:
                return None
            block = max(passed)
            self._barriers = {later for later in self._barriers if later > block}
            return Barrier(block, self._generation, self._state_address)

    def pass_again(self, barrier: Barrier) -> None:
        """Let ``next_barrier`` return a barrier once more, unless its state host is dead."""
        with self._changed:
            if barrier.generation == self._generation and self._state_ready:
                self._barriers.add(barrier.block)

    def adopt_snapshot(self, barrier: Barrier, snapshot: Encoded | None) -> None:
        """From now on start state hosts from here; forget the blocks up to it.

        Comes too late when the state host has died since: the next one may be starting from the
        earlier snapshot, and the blocks after that one are needed.
        """
        with self._changed:
            if barrier.generation != self._generation or not self._state_ready:
                return
            self.snapshot = snapshot
            self._backlog.snapshot_size = len(snapshot or b"")
            for number in [number for number in self._kept if number <= barrier.block]:
                self._drop(number)
            # In a replay one may wait for a second worker: it was answered and emitted before.
            self._pending = sorted(number for number in self._pending if number > barrier.block)
            self._changed.notify_all()

    # ---- the emitter's side

    def settled(self, block: Block) -> None:
        """Take note that a block was emitted; the next one is the block after it."""
        with self._changed:
            self._settled = block.number
            self._backlog.settle(block)
            if not self._remembers:
                self._drop(block.number)
            self._changed.notify_all()
            self._wake()

    def wait_until_settled(self, limit: float | None = None) -> bool:
        """Wait until every accepted block was emitted; False if ``limit`` seconds were too few."""
        with self._changed:
            self._changed.wait_for(lambda: self._closed or self._settled >= self._accepted, limit)
            return self._settled >= self._accepted

    @property
    def last_settled(self) -> int:
        """The last block that was emitted."""
        return self._settled

    # ---- everybody's side

    def wait_for_progress(self, limit: float) -> None:
        """Wait until anything changes here, ``limit`` seconds at most."""
        with self._changed:
            self._changed.wait(limit)

    def close(self) -> None:
        """Let go of everyone who waits here: the pipeline is stopping."""
        with self._changed:
            self._closed = True
            self._changed.notify_all()

    def oldest(self) -> tuple[Link, int] | None:
        """Return the lowest unfinished block and its worker, None while no worker has it."""
        with self._changed:
            busy = [(min(link.in_flight), link) for link in self._links if link.in_flight]
            if not busy:
                return None
            number, link = min(busy, key=lambda each: each[0])
            if self._pending and self._pending[0] < number:
                return None  # the others may well be waiting for a block that waits for a worker
            return link, number

    def _passed_barriers(self) -> list[int]:
        return [block for block in self._barriers if block <= self._settled]

    def _over(self, lowest: int) -> int:
        """Return the last settled block before ``lowest`` and all that workers have."""
        busy = [number for link in self._links for number in link.in_flight]
        return min(self._settled, min([lowest, *busy]) - 1)

    def _suspect(self, place: Place, how: str) -> None:
        if place.block in self._kept:
            self._kept[place.block].suspicion.learn(place, how, self._retries)

    def _drop(self, number: int) -> None:
        self._backlog.drop(self._kept.pop(number).block)

    def _wake(self) -> None:
        for link in self._links:
            if len(link.in_flight) < WINDOW and self._pending:
                link.wake()
