"""Runs blocks through the chain: reads the lines, asks step by step, gathers what became of them.

A local step is asked here. A shared one is asked through ``ask_shared``, given by whoever places
the runner: a worker passes the question to the state host, a test may answer it directly.
"""

from __future__ import annotations

from collections.abc import Callable

from middleware.contract import Batch, Middleware
from middleware.errors import ConfigurationError
from service.answer import Answer, Asker, Blame
from service.block import Block, FileRange
from service.border import Border, Lines
from service.chain import WAYS_ON, ChainVersion, Mode, Step
from service.errors import InputGone, PipelineFailed
from service.passage import DeadLetter, Passage, Result
from service.progress import ASKING, BORDER, NOTHING, OPENING, Lane
from service.sequencer import Question
from service.settings import EventSettings


class ChainRunner:
    """One worker's chain: its own instances of the local steps, open and ready."""

    def __init__(
        self,
        settings: EventSettings,
        lane: Lane,
        retries: int,
        ask_shared: Callable[[Question], Answer],
        *,
        lost_inputs_die: bool = False,
    ) -> None:
        """With ``lost_inputs_die`` a file that is gone is a dead letter, otherwise InputGone."""
        self._settings = settings
        self._lane = lane
        self._asker = Asker(lane, retries)
        self._ask_shared = ask_shared
        self._lost_inputs_die = lost_inputs_die
        self._version = 0
        self._middleware: dict[str, tuple[Step, Middleware]] = {}
        self._border = Border(settings)

    def run(self, block: Block, blame: Blame, settled: int) -> Result:
        """Return what became of the block's events."""
        if block.chain.number != self._version:
            self.switch(block.chain)
        self._lane.enter(block.number, BORDER, NOTHING)
        try:
            return self._through(block, blame, settled)
        except InputGone as error:
            if not self._lost_inputs_die:
                raise
            return self._lost(block, blame, settled, str(error))

    def _through(self, block: Block, blame: Blame, settled: int) -> Result:
        """Take the block's events through the chain, step by step."""
        passage = Passage(self._read(block, blame), self._border, self._settings)
        for index, step in enumerate(block.chain.steps):
            _, middleware = self._middleware[step.name]
            if step.shared:
                answer = self._ask_sequenced(index, block, blame, settled, passage)
            elif step.mode is Mode.DISABLED:
                continue
            else:
                answer = self._asker.ask(
                    middleware,
                    passage.batch(middleware.reads),
                    block=block.number,
                    step=index,
                    blame=blame,
                )
            if step.mode is not Mode.DISABLED:
                passage.apply(step, answer)
        self._lane.leave()
        return passage.result()

    def close(self) -> None:
        """Close the local steps."""
        for step, middleware in self._middleware.values():
            if not step.shared:
                step.close(middleware)
        self._middleware = {}

    def _ask_sequenced(
        self, index: int, block: Block, blame: Blame, settled: int, passage: Passage
    ) -> Answer:
        """Ask a shared step, also when it is disabled: the order of the blocks has no gap."""
        step = block.chain.steps[index]
        _, middleware = self._middleware[step.name]
        batch = None if step.mode is Mode.DISABLED else passage.batch(middleware.reads)
        answer = self._ask(index, block, blame, settled, batch)
        if batch is not None and len(answer.keep) != len(batch):
            raise InputGone(f"{_place(block)}: could not be read when it was first to be")
        return answer

    def _ask(
        self, index: int, block: Block, blame: Blame, settled: int, batch: Batch | None
    ) -> Answer:
        step, version = block.chain.steps[index], block.chain.number
        question = Question(
            index, version, step, block.number, batch, blame, settled, block.barrier
        )
        self._lane.enter(block.number, index, ASKING)
        answer = self._ask_shared(question)
        self._lane.leave()
        return answer

    def _lost(self, block: Block, blame: Blame, settled: int, problem: str) -> Result:
        """Return one dead letter for a block whose file is gone; shared steps see nothing of it.

        They are asked nevertheless: the order of the blocks has no gap.
        """
        for index, step in enumerate(block.chain.steps):
            if step.shared:
                self._ask(index, block, blame, settled, None)
        self._lane.leave()
        letter = DeadLetter(0, _place(block).encode(), problem)
        return Result(lines=1, accepted=1, emitted=0, kept=b"", dead=[letter])

    def _read(self, block: Block, blame: Blame) -> Lines:
        payload = block.read()
        failed = blame.failed.get(BORDER, {})

        def line_begins(row: int) -> str | None:
            self._lane.enter(block.number, BORDER, row)
            return failed[row].reason if row in failed else None

        # Told of each line read alone, the guard sees that millions of bad ones are no hang.
        lines = self._border.read(payload, block.parts, line_begins, together=not blame.careful)
        self._lane.leave()
        return lines

    def switch(self, chain: ChainVersion) -> None:
        """Get the steps of another chain version ready, keeping those that stay as they are."""
        before, self._middleware = self._middleware, {}
        for index, step in enumerate(chain.steps):
            known, middleware = before.pop(step.name, (None, None))
            if middleware is None or known is None or known.params != step.params:
                if middleware is not None and not step.shared:
                    step.close(middleware)
                self._lane.enter(0, index, OPENING)
                try:
                    middleware = step.load() if step.shared else step.opened()
                except ConfigurationError as error:
                    message = f"{error}; {WAYS_ON.format(step.name)}"
                    raise PipelineFailed(message) from error
            self._middleware[step.name] = (step, middleware)
        self._lane.leave()
        names = [name for _, middleware in self._middleware.values() for name in middleware.reads]
        fields = [name for name in dict.fromkeys(names) if name not in {"cid", "time"}]
        whole = any(not middleware.reads for _, middleware in self._middleware.values())
        self._border = Border(self._settings, fields, whole=whole)
        self._version = chain.number


def _place(block: Block) -> str:
    payload = block.payload
    if isinstance(payload, FileRange):
        return f"{payload.path}: bytes {payload.start} to {payload.stop}"
    return f"block {block.number}"
