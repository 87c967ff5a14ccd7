"""The intake: gives what waits in the queue its place in the total order.

One lock guards the order. Under it a block gets its number and the chain version that holds for it,
and a switch makes the next version: so a switch takes effect between two blocks, at one offset, for
all workers. Block or switch, it is in the journal before anyone is told.
"""

from __future__ import annotations

import logging
from collections.abc import Callable, Iterator, Mapping
from concurrent.futures import Future
from dataclasses import replace
from threading import Event, Lock
from typing import Final, NamedTuple

from service.block import Block, FileRange, Offset, Part, Receipt, Submission
from service.chain import ChainVersion
from service.dispatcher import Dispatcher
from service.errors import NotAccepted, QueueClosed, StorageFull
from service.event_queue import EventQueue, Waiting
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
from service.journal.journal import BLOCK, GONE, Entry, Journal, Key
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
            self._recover()
            while not self._stopping.is_set():  # behind one given back, the next leaves a hole
                # Room first: what still waits in the queue can be withdrawn, what was taken cannot.
                self._dispatcher.wait_for_room()
                if not self._wait_for_space():
                    break
                taken = self._queue.take(self._settings.bytes, self._settings.linger)
                if taken is None:
                    break
                if taken:
                    self._accept(taken)
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
            self._journal.append(chain_entry(self._next, ChainChange(chain, self._configuration)))
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

    def _recover(self) -> None:
        for entry in self._journal.entries(self._after):
            if self._stopping.is_set():
                return
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
        self._fill_up()
        with self._order:
            if not self._journal.last:
                change = ChainChange(self._chain, self._configuration)
                self._journal.append(chain_entry(self._next, change))
        self.recovered.set()

    def _fill_up(self) -> None:
        """Give an empty block to each number that something is kept under already."""
        if self._next <= self._floor:
            told = "blocks %s to %s are lost: only sinks or dead letters know these numbers"
            log.error(told, self._next, self._floor)
        while self._next <= self._floor and not self._stopping.is_set():
            self._dispatcher.wait_for_room()
            with self._order:
                self._place(b"", (), (), barrier=self._dispatcher.wants_barrier())

    def _blocks(self, entry: Entry) -> Iterator[Block]:
        if entry.kind == BLOCK:
            yield read_block(entry, self._chain)
        elif entry.kind == GONE:
            # Which of the lost entries were blocks is not known: the one of a checkpoint may now
            # bear a later block's number than it had, and those between would never come.
            for number in range(self._next, gone_blocks(entry).stop):
                yield Block(number, b"", (), self._chain, barrier=False, sequence=entry.sequence)

    # ---- from the queue

    def _accept(self, taken: list[Waiting]) -> None:
        """Accept submissions; on a full disk those that wait do so, the others get it back."""
        while taken:
            try:
                self._space.check()
                self._commit(taken)
            except StorageFull as error:
                self._hold_back(error)
                # What was told already is in the journal: it must not be committed once more.
                left = [waiting for waiting in taken if not waiting.accepted.done()]
                taken = [waiting for waiting in left if not _give_back(waiting, error)]
                if taken and self._stopping.wait(SPACE_LOOK):
                    for waiting in taken:
                        waiting.accepted.set_exception(QueueClosed(str(error)))
                    return
            except BaseException as error:
                for waiting in taken:
                    if not waiting.accepted.done():
                        waiting.accepted.set_exception(error)
                raise
            else:
                return

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
                payload = _together(submissions)
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
            _tell(waiting.accepted, receipt)
            row += submission.lines or 0
        for waiting in repeated:
            _tell(waiting.accepted, first_receipt(waiting.submission, self._journal))

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
            change = ChainChange(self._chain, self._configuration)
            entries.insert(0, chain_entry(self._next, change))
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

    def _wait_for_space(self) -> bool:
        """Wait until the journal can be written; False when the daemon stops meanwhile.

        That is: the disk has more than the reserve, and nobody else holds a lock.
        """
        while True:
            try:
                self._space.check()
                if self._held_back:
                    self._journal.check_lock()
            except StorageFull as error:
                self._hold_back(error)
                if self._queue.closed or self._stopping.wait(SPACE_LOOK):
                    return False
                continue
            if self._held_back:
                log.warning("new input is accepted again")
                self._held_back = False
            self._queue.refuse(None)
            return True

    def _hold_back(self, error: StorageFull) -> None:
        """Let nothing new in, and say why once."""
        self._queue.refuse(str(error))
        if not self._held_back:
            log.error("%s; what was accepted is still emitted", error)
            self._held_back = True


def _together(submissions: list[Submission]) -> bytes | FileRange:
    if len(submissions) == 1:
        return submissions[0].payload
    return b"".join(each.payload for each in submissions if isinstance(each.payload, bytes))


def _give_back(waiting: Waiting, error: StorageFull) -> bool:
    if not waiting.submission.patient:
        waiting.accepted.set_exception(error)
    return not waiting.submission.patient


def _tell(accepted: Future[Receipt], receipt: Receipt | NotAccepted) -> None:
    if isinstance(receipt, NotAccepted):
        accepted.set_exception(receipt)
    else:
        accepted.set_result(receipt)
