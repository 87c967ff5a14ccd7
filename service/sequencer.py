"""The sequencer: one memory, one order, one answer, however many workers ask and die.

Invariants, for each shared step:

1. Blocks are answered in the order of their numbers, each once: block n + 1 waits for block n.
   Every block asks every shared step, also a disabled one (without events): there are no gaps.
2. The answer to a block is remembered until the block has been emitted: who asks again, since its
   worker died, gets the same answer, and the memory does not change.
3. A snapshot at block n holds exactly the blocks up to n.

Plain code that threads run; the state host only places it in a process of its own.
"""

from __future__ import annotations

import pickle
from collections.abc import Sequence
from dataclasses import dataclass
from threading import Condition

import msgspec
import numpy as np

from middleware.contract import Batch, SharedMiddleware
from middleware.errors import FAULTS, ConfigurationError, in_words
from service.answer import Answer, Asker, Blame, Failure
from service.chain import WAYS_ON, Step
from service.errors import PipelineFailed
from service.progress import KEEPING, OPENING, RESTORING
from service.snapshot import Snapshot, StepMemory


@dataclass(frozen=True, slots=True)
class Question:
    """What a worker asks a shared step about one block.

    ``version`` is the number of the block's chain version, ``step`` the step as it is in there.
    ``settled``: every block up to it has been emitted and will not be asked again. ``batch`` is
    None when the step is disabled.
    """

    index: int
    version: int
    step: Step
    block: int
    batch: Batch | None
    blame: Blame
    settled: int
    barrier: bool


class StepSequence:
    """One shared step: its middleware, its turn, its remembered answers."""

    def __init__(
        self, index: int, step: Step, asker: Asker, memory: StepMemory | None, block: int
    ) -> None:
        """Go on after ``block``, with the memory it had there; ``index`` is its place."""
        self._index = index
        self._turn = Condition()
        self._asker = asker
        self._next = block + 1
        self._settled = block
        self._answers: dict[int, bytes] = {}
        self._snapshots: dict[int, StepMemory] = {}
        self._step = step
        if memory is not None:
            params, resets = memory.params, memory.resets
            self._step = Step(step.name, step.use, step.mode, params, step.shared, resets)
        self._middleware = self._opened()
        if memory is not None:
            self._restore(memory)
        else:
            self._restore_nothing()

    def answer(self, question: Question) -> Answer:
        """Return the one answer to the question's block; waits for its turn."""
        with self._turn:
            self._turn.wait_for(lambda: question.block <= self._next)
            self._forget(question.settled)
            if question.block == self._next:
                answer = self._first_answer(question)
                self._answers[question.block] = _packed(answer)
                if question.barrier:
                    self._snapshots[question.block] = self.memory()
                self._next += 1
                self._turn.notify_all()
                return answer
            remembered: Answer = pickle.loads(self._answers[question.block])  # noqa: S301 - our own
            return remembered

    def snapshot(self, block: int) -> StepMemory:
        """Hand over the snapshot taken at a barrier; raises KeyError if there is none."""
        with self._turn:
            taken = self._snapshots.pop(block)
            for older in [number for number in self._snapshots if number < block]:
                del self._snapshots[older]
            return taken

    def memory(self) -> StepMemory:
        """Return what the step remembers now, as plain data."""
        step = self._step
        self._asker.lane.enter(0, self._index, KEEPING)
        # Encoded at once: what a middleware hands out may be the memory itself, which goes on.
        try:
            state = msgspec.msgpack.encode(self._middleware.snapshot())
        except FAULTS as error:
            message = (
                f"{step.name}: its memory cannot be kept: {in_words(error)}; "
                f"{WAYS_ON.format(step.name)}"
            )
            raise PipelineFailed(message) from error
        self._asker.lane.leave()
        return StepMemory(step.name, step.use, dict(step.params), step.resets, state)

    def _restore(self, memory: StepMemory) -> None:
        self._asker.lane.enter(0, self._index, RESTORING)
        try:
            self._middleware.restore(msgspec.msgpack.decode(memory.state))
        except FAULTS as error:
            message = (
                f"{memory.name}: what it remembers cannot be restored: {in_words(error)}; start "
                "the version that wrote it, or let it begin empty: penstock run --forget "
                f"{memory.name}"
            )
            raise PipelineFailed(message) from error
        self._asker.lane.leave()

    def _restore_nothing(self) -> None:
        """See that the memory can be kept and restored while there is nothing in it yet."""
        state = self.memory().state
        self._asker.lane.enter(0, self._index, RESTORING)
        try:
            self._middleware.restore(msgspec.msgpack.decode(state))
        except FAULTS as error:
            name = self._step.name
            message = (
                f"{name}: restore() does not take what snapshot() returned: "
                f"{in_words(error)}; {WAYS_ON.format(name)}"
            )
            raise PipelineFailed(message) from error
        self._asker.lane.leave()

    def _first_answer(self, question: Question) -> Answer:
        self._switch(question.step)
        if question.batch is None:
            return _NOTHING
        return self._asker.ask(
            self._middleware,
            question.batch,
            block=question.block,
            step=question.index,
            blame=question.blame,
        )

    def _switch(self, step: Step) -> None:
        """Carry out what was switched between the last block and this one."""
        current = self._step
        reset = step.resets != current.resets
        if not reset and (step is current or step.params == current.params):
            self._step = step
            return
        # As at a restart: an open() may begin with an empty memory.
        memory = None if reset else self.memory()
        self._step = step
        step.close(self._middleware)
        self._middleware = self._opened()
        if memory is not None:
            self._restore(memory)

    def _opened(self) -> SharedMiddleware:
        self._asker.lane.enter(0, self._index, OPENING)
        try:
            middleware = self._step.opened()
        except ConfigurationError as error:
            raise PipelineFailed(f"{error}; {WAYS_ON.format(self._step.name)}") from error
        self._asker.lane.leave()
        assert isinstance(middleware, SharedMiddleware)  # noqa: S101 - only shared steps come here
        return middleware

    def _forget(self, settled: int) -> None:
        for block in range(self._settled + 1, settled + 1):
            self._answers.pop(block, None)
        self._settled = max(self._settled, settled)


class Sequencer:
    """All shared steps of the chain, each with its own sequence."""

    def __init__(
        self, steps: Sequence[Step], askers: Sequence[Asker], snapshot: Snapshot | None
    ) -> None:
        """Start empty, or from a snapshot; ``askers`` has one for each step.

        A step that the snapshot does not know, or knows as another middleware, starts empty.
        """
        start = snapshot or Snapshot(0, [])
        self.block = start.block
        self._sequences = {
            index: StepSequence(index, step, asker, start.memory(step), start.block)
            for index, (step, asker) in enumerate(zip(steps, askers, strict=True))
            if step.shared
        }

    def ask(self, question: Question) -> Answer:
        """Return the answer of one step to one block; waits until all earlier blocks were asked."""
        return self._sequences[question.index].answer(question)

    def snapshot(self, block: int) -> Snapshot:
        """Hand over the snapshot taken at a barrier that every step has passed."""
        return Snapshot(block, [each.snapshot(block) for each in self._sequences.values()])

    def snapshot_now(self, block: int) -> Snapshot:
        """Return what is remembered now, ``block`` being the last one asked about."""
        return Snapshot(block, [each.memory() for each in self._sequences.values()])


def _packed(answer: Answer) -> bytes:
    """Return the answer as bytes; a changed event that cannot leave this process fails alone."""
    try:
        return pickle.dumps(answer)
    except Exception:  # noqa: BLE001 - pickle raises what the object's own code raises
        for position, event in list(answer.changed.items()):
            try:
                pickle.dumps(event)
            except Exception as error:  # noqa: BLE001 - as above
                reason = f"the changed event is not valid JSON data: {in_words(error)}"
                answer.failed[position] = Failure(reason, attempts=1)
                del answer.changed[position]
        return pickle.dumps(answer)


_NOTHING = Answer(np.ones(0, np.bool_))
