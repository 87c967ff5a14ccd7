"""The intake: gives what waits in the queue its place in the total order.

One lock guards the order. Under it a block gets its number and the chain version that holds for it,
and a switch makes the next version: so a switch takes effect between two blocks, at one offset, for
all workers. Block or switch, it is in the journal before anyone is told.
"""

from __future__ import annotations

import logging
from collections.abc import Callable, Iterator, Mapping
from dataclasses import replace
from threading import Event, Lock
from typing import Final, NamedTuple

from service.block import Block, FileRange, Offset, Part, Receipt, together
from service.chain import ChainVersion
from service.dispatcher import Dispatcher
from service.errors import QueueClosed, StorageFull
from service.event_queue import EventQueue, Waiting, give_back
from service.free_space import FreeSpace
from service.idempotency import first_receipt, keys_of, tell_apart
from service.journal.entry import (
    CHAIN,
    ChainChange,
    Configuration,
    block_entry,
    chain_entry,
    gone_blocks,
    read_block,
    read_chain,
)
from service.journal.journal import BLOCK, GONE, Entry, Journal, Key, NewEntry
from service.settings import BlockSettings
from service.statistics import Statistics

log = logging.getLogger(__name__)

SPACE_LOOK: Final = 0.2
"""Seconds between two looks whether a full disk has room again."""


class Start(NamedTuple):
    """Where the intake begins: right after ``block``, whose entry in the journal is ``sequence``.

    ``chain`` holds for the next block, ``references`` are how much each source had of its file.
    """

    block: int
    sequence: int
    chain: ChainVersion
    configuration: Configuration
    references: Mapping[str, FileRange]
    without: frozenset[str] = frozenset()
    """Steps that the blocks in the journal pass undecided."""


class Intake:
    """Makes blocks of submissions, one after the other, in a thread of its own."""

    def __init__(
        self,
        queue: EventQueue,
        dispatcher: Dispatcher,
        statistics: Statistics,
        settings: BlockSettings,
        journal: Journal,
        space: FreeSpace,
    ) -> None:
        self._queue = queue
        self._dispatcher = dispatcher
        self._statistics = statistics
        self._settings = settings
        self._journal = journal
        self._space = space
        self._order = Lock()
        self._stopping = Event()
        self._chain = ChainVersion(0, ())
        self._configuration = Configuration({}, ())
        self._next = 1
        self._after = 0
        self._without: frozenset[str] = frozenset()
        self._floor = 0
        self._held_back = False
        self.recovered = Event()
        """Set once all that the journal holds has its place again."""
        self.last_recovered = 0
        """The last block that was already in the journal at the start."""
        self.references: dict[str, FileRange] = {}
        """By source: the last part of a file that was accepted; so was all before it."""

    def start_from(self, start: Start) -> None:
        """Begin right after a checkpoint."""
        self._next = start.block + 1
        self._after = start.sequence
        self._chain = start.chain
        self._configuration = start.configuration
        self.references = dict(start.references)
        self._without = start.without

    def skip_to(self, block: int) -> None:
        """Never give out again the numbers up to ``block``: something is kept under them."""
        self._floor = block

    def run(self) -> None:
        """Take up what the journal holds, then submissions until the queue is closed and empty."""
        try:
            going = self._recover()
            # Room first: what still waits in the queue can be withdrawn, what was taken cannot.
            while going and self._wait_for_room():
                taken = self._queue.take(self._settings.bytes, self._settings.linger)
                # Behind one that is given back, the next one would leave a hole.
                going = taken is not None and self._accept(taken)
        finally:
            self._queue.close()
            self._queue.reject_waiting(QueueClosed("the daemon is stopping; this was not accepted"))

    def stop(self) -> None:
        """Wait for nothing any more."""
        self._stopping.set()

    def switch(self, change: Callable[[ChainVersion, Offset], ChainVersion]) -> ChainVersion:
        """Make the next chain version; ``change`` is told the offset from which it will hold.

        Raises StorageFull when the disk has no room to remember it.
        """
        with self._order:
            chain = change(self._chain, Offset(self._next, 0))
            self._journal.append(self._stated(chain))
            self._chain = chain
            return chain

    def place_barrier(self, *, again: bool = False) -> int | None:
        """Accept an empty block that is a barrier, unless nothing was accepted since the last.

        ``again``: also then, for what was to happen there did not. Returns its number. Raises
        StorageFull.
        """
        with self._order:
            if not self._dispatcher.blocks_since_barrier and not again:
                return None
            return self._place(b"", (), (), barrier=True).number

    def cut_short(self) -> int:
        """Accept nothing more, and let a barrier come as early as can be; return its number.

        Raises StorageFull.
        """
        self._stopping.set()
        with self._order:
            last = self._dispatcher.cut_short()
            if self._dispatcher.blocks_since_barrier and self.recovered.is_set():
                last = self._place(b"", (), (), barrier=True).number
            return last

    @property
    def last_block(self) -> int:
        """The last block that was accepted."""
        return self._next - 1

    @property
    def chain(self) -> ChainVersion:
        """The chain version that the next block will have."""
        return self._chain

    # ---- from the journal

    def _recover(self) -> bool:
        """Take up what the journal holds; False when the daemon stops meanwhile."""
        for entry in self._journal.entries(self._after):
            if self._stopping.is_set():
                return False
            if entry.kind == CHAIN:
                change = read_chain(entry).without(self._without)
                # One of another structure never held: its start ended before a checkpoint said so.
                if change.configuration.same_structure(self._configuration):
                    with self._order:
                        self._chain, self._configuration = change.chain, change.configuration
            for block in self._blocks(entry):
                self._dispatcher.wait_for_room()
                if self._dispatcher.wants_barrier(again=True):
                    # Its chain is not stated again: the checkpoint after it holds it.
                    block = replace(block, barrier=True)  # noqa: PLW2901 - the same one
                with self._order:
                    self._pass_on(block)
                self.last_recovered = block.number
        if self._next <= self._floor:
            told = "blocks %s to %s are lost: only sinks or dead letters know these numbers"
            log.error(told, self._next, self._floor)
        if not self._patiently(self._fill_up):
            return False
        self.recovered.set()
        return True

    def _fill_up(self) -> None:
        """Give an empty block to each number that something is kept under already.

        A new journal gets its first entry. Raises StorageFull, and can be called again then.
        """
        while self._next <= self._floor and not self._stopping.is_set():
            self._dispatcher.wait_for_room()
            with self._order:
                self._place(b"", (), (), barrier=self._dispatcher.wants_barrier())
        with self._order:
            if not self._journal.last:
                self._journal.append(self._stated(self._chain))

    def _blocks(self, entry: Entry) -> Iterator[Block]:
        if entry.kind == BLOCK:
            yield read_block(entry, self._chain)
        elif entry.kind == GONE:
            # Which of the lost entries were blocks is not known: the one of a checkpoint may now
            # bear a later block's number than it had, and those between would never come.
            for number in range(self._next, gone_blocks(entry).stop):
                yield Block(number, b"", (), self._chain, barrier=False, sequence=entry.sequence)

    # ---- from the queue

    def _accept(self, taken: list[Waiting]) -> bool:
        """Accept submissions; on a full disk those that wait do so, the others get it back.

        False when the daemon stops meanwhile: then all get it back.
        """
        while taken:
            try:
                self._space.check()
                self._commit(taken)
            except StorageFull as error:
                self._hold_back(error)
                give_back((each for each in taken if not each.submission.patient), error)
                # What was told already is in the journal: it must not be committed once more.
                taken = [each for each in taken if not each.accepted.done()]
                if taken and self._stops_meanwhile():
                    give_back(taken, QueueClosed(str(error)))
                    return False
            except BaseException as error:
                give_back(taken, error)
                raise
            else:
                break
        return True

    def _commit(self, taken: list[Waiting]) -> None:
        # The order of these steps is the promise:
        # 1. the block gets its number and chain version; nothing can come between;
        # 2. it is in the journal, with its idempotency keys: from now on it survives;
        # 3. it goes on its way;
        # 4. only now the producers are told.
        with self._order:
            fresh, repeated = tell_apart(taken, self._journal)
            if fresh:
                submissions = [waiting.submission for waiting in fresh]
                payload = together(submissions)
                parts = tuple(
                    Part(each.source, each.lines, each.first_line, each.received)
                    for each in submissions
                )
                barrier = self._dispatcher.wants_barrier()
                block = self._place(payload, parts, keys_of(submissions), barrier=barrier)
        row = 0
        for waiting in fresh:
            submission = waiting.submission
            receipt = Receipt(Offset(block.number, row), submission.lines, submission.received)
            waiting.tell(receipt)
            row += submission.lines or 0
        for waiting in repeated:
            waiting.tell(first_receipt(waiting.submission, self._journal))

    def _place(
        self,
        payload: bytes | FileRange,
        parts: tuple[Part, ...],
        keys: tuple[Key, ...],
        *,
        barrier: bool,
    ) -> Block:
        """Give a block its place, in the journal and in the dispatcher; under the order's lock."""
        block = Block(self._next, payload, parts, self._chain, barrier)
        entries = [block_entry(block, keys)]
        if barrier:  # restated now and then: what is dropped of the journal may have told it last
            entries.insert(0, self._stated(self._chain))
        sequence = self._journal.append(*entries)
        block = Block(self._next, payload, parts, self._chain, barrier, sequence)
        self._pass_on(block)
        return block

    def _pass_on(self, block: Block) -> None:
        self._next = block.number + 1
        if isinstance(block.payload, FileRange):
            self.references[block.parts[0].source] = block.payload
        self._statistics.accept(block)
        self._dispatcher.accept(block)

    def _stated(self, chain: ChainVersion) -> NewEntry:
        return chain_entry(self._next, ChainChange(chain, self._configuration))

    # ---- a full or locked disk

    def _wait_for_room(self) -> bool:
        """Wait until a block can be kept; False when the daemon stops meanwhile.

        That is: the disk has more than the reserve, and nobody else holds a lock.
        """
        self._dispatcher.wait_for_room()
        if not self._patiently(self._check_space):
            return False
        if self._held_back:
            log.warning("new input is accepted again")
            self._held_back = False
        self._queue.refuse(None)
        return True

    def _check_space(self) -> None:
        self._space.check()
        if self._held_back:
            self._journal.check_lock()

    def _patiently(self, attempt: Callable[[], None]) -> bool:
        """Attempt it until nothing raises StorageFull; False when the daemon stops meanwhile."""
        while not (self._stopping.is_set() or (self._held_back and self._queue.closed)):
            try:
                attempt()
            except StorageFull as error:
                self._hold_back(error)
                if self._stops_meanwhile():
                    break
            else:
                return not self._stopping.is_set()
        return False

    def _stops_meanwhile(self) -> bool:
        """Wait a moment for room; say whether the daemon stops, and nobody is to wait any more."""
        return self._queue.closed or self._stopping.wait(SPACE_LOOK)

    def _hold_back(self, error: StorageFull) -> None:
        """Let nothing new in, and say why once."""
        self._queue.refuse(str(error))
        if not self._held_back:
            log.error("%s; what was accepted is still emitted", error)
            self._held_back = True
