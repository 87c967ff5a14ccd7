"""Whatever dies, and whenever: every block is finished, and nobody waits for ever."""

from __future__ import annotations

from hypothesis import settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, initialize, invariant, precondition, rule

from service.block import Block
from service.dispatcher import WINDOW, Barrier, Dispatcher
from service.passage import Result
from service.progress import Place
from tests.core.dispatching import FakeLink
from tests.core.examples import blank_result, block

links = st.integers(0, 2)


class Deaths(RuleBasedStateMachine):
    """Workers that answer, workers and state hosts that die, an emitter that settles in order.

    Of each state host, ``answered`` is the last block that its sequencer has answered.
    """

    @initialize(remembers=st.booleans())
    def begin(self, remembers: bool) -> None:
        self.remembers = remembers
        self.links = [FakeLink(name) for name in "abc"]
        self.finished: set[int] = set()
        self.blocks: dict[int, Block] = {}
        self.settled = 0
        self.generation = 0
        self.alive = True
        self.start = self.answered = 0
        self.dispatcher = Dispatcher(
            self._finish,
            workers=3,
            retries=1,
            room=10**9,
            checkpoint_size=30,
            remembers=remembers,
        )
        self.dispatcher.connect(self.links)
        if remembers:
            self._new_host()

    def _finish(self, each: Block, result: Result) -> None:
        del result
        self.finished.add(each.number)

    def _new_host(self) -> None:
        self.generation += 1
        self.alive = True
        self.start = self.answered = int(self.dispatcher.snapshot or b"0")
        self.dispatcher.state_ready(self.generation, "address")

    @rule(count=st.integers(1, 4))
    def accept(self, count: int) -> None:
        for _ in range(count):
            number = len(self.blocks) + 1
            barrier = self.dispatcher.wants_barrier()
            self.blocks[number] = block(number, b"x" * 10, barrier=barrier)
            self.dispatcher.accept(self.blocks[number])

    @rule(which=links)
    def take(self, which: int) -> None:
        link = self.links[which]
        had = set(link.in_flight)
        task = self.dispatcher.take(link)
        if task is not None:
            assert task.block.number > max(had, default=0)
            assert task.generation == self.generation
            assert self.alive

    @rule(which=links)
    def answer(self, which: int) -> None:
        """Let a worker finish its first block, if its turn in the sequencer has come."""
        link = self.links[which]
        if not link.in_flight:
            return
        number = min(link.in_flight)
        if not self.remembers:
            self.dispatcher.done(link, number, blank_result())
        elif link.in_flight[number] != self.generation or not self.alive:
            self.dispatcher.state_lost(link, number)
        elif number <= self.answered + 1:
            self.answered = max(self.answered, number)
            self.dispatcher.done(link, number, blank_result())

    @rule(which=links)
    def ask_and_die(self, which: int) -> None:
        """Let a worker die with its answers on the way."""
        link = self.links[which]
        first = min(link.in_flight, default=0)
        if self.alive and link.in_flight.get(first) == self.generation:
            self.answered += first == self.answered + 1
        self.dispatcher.worker_died(link, [Place(first, 0, 0)], "died")

    @rule(which=links)
    def answer_late(self, which: int) -> None:
        """Let a worker report what a host answered that has died since."""
        link = self.links[which]
        number = min(link.in_flight, default=0)
        if number and link.in_flight[number] < self.generation and number <= self.settled + 1:
            self.dispatcher.done(link, number, blank_result())

    @precondition(lambda self: self.remembers and self.alive)
    @rule()
    def state_dies(self) -> None:
        self.alive = False
        self.dispatcher.state_died([], "died")

    @precondition(lambda self: self.remembers and not self.alive)
    @rule()
    def state_starts(self) -> None:
        self._new_host()

    @rule()
    def settle(self) -> None:
        if self.settled + 1 in self.finished:
            self.settled += 1
            self.dispatcher.settled(self.blocks[self.settled])

    @precondition(lambda self: self.remembers)
    @rule(late=st.booleans())
    def checkpoint(self, late: bool) -> None:
        """Adopt the last barrier of this host that is settled; at times of one that is dead."""
        ready = [
            number
            for number in range(self.start + 1, min(self.answered, self.settled) + 1)
            if self.blocks[number].barrier
        ]
        if ready and self._is_done(ready[-1]):
            generation = self.generation - late
            before = self.dispatcher.snapshot
            barrier = Barrier(ready[-1], generation, "address")
            self.dispatcher.adopt_snapshot(barrier, b"%d" % ready[-1])
            if late or not self.alive:
                assert self.dispatcher.snapshot == before

    def _is_done(self, number: int) -> bool:
        return all(number not in link.in_flight for link in self.links)

    @invariant()
    def no_window_overflows(self) -> None:
        assert all(len(link.in_flight) <= WINDOW for link in getattr(self, "links", ()))

    def teardown(self) -> None:
        """Let everyone work on undisturbed: all blocks get finished and settled."""
        if not hasattr(self, "links"):
            return
        if not self.alive:
            self._new_host()
        for _ in range(20 * len(self.blocks) + 20):
            for which in range(3):
                self.answer(which)
                self.take(which)
            self.settle()
        assert self.settled == len(self.blocks)
        assert self.dispatcher.wait_until_settled(0)
        assert not any(link.in_flight for link in self.links)


TestDeaths = Deaths.TestCase
TestDeaths.settings = settings(max_examples=120, stateful_step_count=40)
