"""The intake: gives what waits in the queue its place in the total order.

One lock guards the order. Under it a block gets its number and the chain version that holds for it,
and a switch makes the next version: so a switch takes effect between two blocks, at one offset, for
all workers.
"""

from __future__ import annotations

from collections.abc import Callable
from threading import Lock

from service.block import Block, FileRange, Offset, Part, Receipt
from service.chain import ChainVersion
from service.dispatcher import Dispatcher
from service.event_queue import EventQueue, Waiting
from service.settings import BlockSettings
from service.statistics import Statistics


class Intake:
    """Makes blocks of submissions, one after the other, in a thread of its own."""

    def __init__(
        self,
        queue: EventQueue,
        dispatcher: Dispatcher,
        statistics: Statistics,
        settings: BlockSettings,
        chain: ChainVersion,
    ) -> None:
        self._queue = queue
        self._dispatcher = dispatcher
        self._statistics = statistics
        self._settings = settings
        self._order = Lock()
        self._chain = chain
        self._next = 1

    def run(self) -> None:
        """Take submissions until the queue is closed and empty."""
        while True:
            # Room first: what still waits in the queue can be withdrawn, what was taken cannot.
            self._dispatcher.wait_for_room()
            taken = self._queue.take(self._settings.bytes, self._settings.linger)
            if taken is None:
                return
            if taken:
                self._accept(taken)

    def switch(self, change: Callable[[ChainVersion], ChainVersion]) -> tuple[Offset, ChainVersion]:
        """Make the next chain version; return it and the offset from which it holds."""
        with self._order:
            self._chain = change(self._chain)
            return Offset(self._next, 0), self._chain

    @property
    def chain(self) -> ChainVersion:
        """The chain version that the next block will have."""
        return self._chain

    def _accept(self, taken: list[Waiting]) -> None:
        payload = _together(taken)
        parts = tuple(
            Part(each.source, each.lines, each.first_line, each.received)
            for each in (waiting.submission for waiting in taken)
        )
        # The order of these steps is the promise:
        # 1. the block gets its number and chain version; nothing can come between;
        # 2. it is kept until its events are emitted (here a journal goes, before anyone is told);
        # 3. only then are the producers told.
        with self._order:
            barrier = self._dispatcher.wants_barrier()
            block = Block(self._next, payload, parts, self._chain, barrier)
            self._next += 1
            self._statistics.accept(block)
            self._dispatcher.accept(block)
        row = 0
        for waiting in taken:
            lines = waiting.submission.lines
            waiting.accepted.set_result(Receipt(Offset(block.number, row), lines))
            row += lines or 0


def _together(taken: list[Waiting]) -> bytes | FileRange:
    if len(taken) == 1:
        return taken[0].submission.payload
    return b"".join(
        waiting.submission.payload
        for waiting in taken
        if isinstance(waiting.submission.payload, bytes)
    )
