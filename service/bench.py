"""``penstock bench``: where the time of a chain goes, stage by stage, in this process.

The chain runs as in a worker. Between every two of its steps stands a disabled shared one, and
whoever places a runner is asked for those: so it is told, without a hook of its own in the runner,
when the blocks' events were read, and when each step had its batch made, was asked, and its answer
was carried out.

What other processes add is not in the figures: the way of a block to the worker, of a shared step's
batch to the state host, and of the results back.
"""

from __future__ import annotations

import tempfile
import time
from collections import Counter
from collections.abc import Iterator, Sequence
from contextlib import closing
from dataclasses import asdict, dataclass, replace
from typing import IO, Any, Final, Literal

import numpy as np

from middleware.contract import Event, SharedMiddleware
from middleware.errors import PenstockError
from service.allocator import keep_freed_memory
from service.answer import NO_BLAME, Answer, Asker
from service.block import Block, Part
from service.chain import ChainVersion, Mode, Step
from service.configured import configured_chain
from service.passage import DeadLetter, Result
from service.progress import local_lane
from service.runner import ChainRunner
from service.sequencer import Question, Sequencer
from service.settings import Settings

READING: Final = "reading"
WRITING: Final = "writing out"
BORDER_NAME: Final = "border"
BOUNDARY: Final = "service.bench:Boundary"
NOTHING_ASKED: Final = Answer(np.ones(0, np.bool_))

WORTHWHILE: Final = 0.2
"""Share of the time from which on a step is worth work, rather than more workers."""

PASSES: Final = 3
"""Over the same events, each from empty memories; the fastest, the least disturbed one, counts."""

TRIAL_SECONDS: Final = 1.0
PASS_SECONDS: Final = 3.0
"""How long a pass may take, as far as the trial before it can tell: a slow chain gets less."""

FIRST_BLOCK: Final = 16
"""Lines in the first block of the trial; each further one has twice as many."""

Form = Literal["batch", "event", "disabled"]


@dataclass(frozen=True, slots=True)
class Stage:
    """One stage: how many events reached it, and how long it took over them in all.

    For a step, ``form`` says whether it is asked by batch or event by event, and ``reads`` which
    fields it names, none for the whole event.
    """

    name: str
    events: int
    seconds: float
    share: float
    form: Form | None = None
    reads: tuple[str, ...] | None = None
    shared: bool = False

    @property
    def rate(self) -> float | None:
        """Events/s; None where nothing came, or nothing was done."""
        return self.events / self.seconds if self.events and self.form != "disabled" else None


@dataclass(frozen=True, slots=True)
class Measurement:
    """The stages in the order of the path; ``failed`` is why the first dead letter is one."""

    events: int
    seconds: float
    stages: tuple[Stage, ...]
    emitted: int
    dead: int
    failed: str | None

    def document(self) -> dict[str, Any]:
        """Return all of it as plain data."""
        rated = [asdict(stage) | {"events_per_second": stage.rate} for stage in self.stages]
        rate = self.events / self.seconds
        return asdict(self) | {"stages": rated, "events_per_second": rate, "advice": advice(self)}


class Boundary(SharedMiddleware):
    """Stands between two steps, always disabled; nobody asks it anything but whether it is time."""

    reads = ("cid",)

    def handle(self, event: Event) -> Event | None:
        """Pass the event on."""
        return event

    def snapshot(self) -> None:
        """Remember nothing."""

    def restore(self, state: Any) -> None:
        """Remember nothing."""


def measure(settings: Settings, lines: Sequence[bytes]) -> Measurement:
    """Run the settings' chain over the lines, as many as time allows.

    Each line ends with a line end. Raises ConfigurationError, and PenstockError without a line.
    """
    if not lines:
        raise PenstockError("there is no event to measure with: give a file that holds some")
    keep_freed_memory()
    chain = configured_chain(settings)
    found = []
    with tempfile.TemporaryFile(buffering=0) as file:  # of a name that nobody sees
        chosen = lines[: _trial(settings, chain, lines, file)]
        for _ in range(PASSES):
            with closing(_Pass(settings, chain, file)) as each:
                for block in _blocks(chosen, settings.block.bytes):
                    each.run(block)
                found.append(each.measurement())
    return min(found, key=lambda measurement: measurement.seconds)


def advice(found: Measurement) -> str:
    """Say in one line which stage to speed up, and how."""
    reading, *steps = found.stages[:-1]
    asked = [step for step in steps if step.form in {"batch", "event"}]
    shares = {step: _saved(step, reading) for step in asked}
    best = max(asked, key=lambda step: shares[step], default=None)
    slowest = max(found.stages, key=lambda stage: stage.seconds)
    if best is not None and (shares[best] >= WORTHWHILE or slowest.form == "event"):
        how = "has no handle_batch: writing one is what pays most, unless it changes events"
        if not best.reads:
            how = "reads the whole event: naming the fields in `reads` is what pays most"
        return f"{best.name} {how} (it costs {shares[best]:.0%} of the time)"
    most = f"{slowest.name} takes most, {slowest.share:.0%} of the time"
    if slowest.form is None:
        return f"{most}: no step is worth work; more workers share it"
    if slowest.shared:
        return f"{most}: it has its batch form, and one process asks it for all workers"
    return f"{most}: it has its batch form; more workers share it"


def _saved(step: Stage, reading: Stage) -> float:
    """Return the share of the time that has to do with how a step is asked."""
    share = step.share if step.form == "event" else 0.0
    return share if step.reads else step.share + reading.share


def _trial(settings: Settings, chain: ChainVersion, lines: Sequence[bytes], file: IO[bytes]) -> int:
    """Return how many of the lines a pass can take; this also warms up all that a pass uses."""
    done, size = 0, FIRST_BLOCK
    began = time.perf_counter()
    with closing(_Pass(settings, chain, file)) as trial:
        while done < len(lines) and time.perf_counter() < began + TRIAL_SECONDS:
            trial.run(lines[done : done + size])
            done, size = done + size, 2 * size
    rate = done / (time.perf_counter() - began)
    return max(FIRST_BLOCK, int(rate * PASS_SECONDS))


def _blocks(lines: Sequence[bytes], size: int) -> Iterator[Sequence[bytes]]:
    """Cut lines into blocks of about ``size`` bytes."""
    start = filled = 0
    for place, line in enumerate(lines):
        if filled and filled + len(line) > size:
            yield lines[start:place]
            start, filled = place, 0
        filled += len(line)
    yield lines[start:]


class _Pass:
    """One run over the events, from empty memories."""

    def __init__(self, settings: Settings, chain: ChainVersion, file: IO[bytes]) -> None:
        self._chain = chain
        self._file = file
        self._divided = _divided(chain)
        retries = settings.workers.retries
        askers = [Asker(local_lane(), retries) for _ in self._divided.steps]
        self._sequencer = Sequencer(self._divided.steps, askers, None)
        self._runner = ChainRunner(settings.event, local_lane(), retries, self._ask)
        self._runner.switch(self._divided)
        self._number = 0
        self._since = 0.0
        self._stage = 0
        self._seconds = [0.0] * (len(chain.steps) + 2)  # reading, each step, writing out
        self._accepted = self._emitted = 0
        self._left: Counter[str] = Counter()  # by step: the events that went no further
        self._dead: list[DeadLetter] = []
        self._died = 0

    def run(self, lines: Sequence[bytes]) -> None:
        """Run one block, and write what is kept to the file."""
        self._number += 1
        part = Part("bench", len(lines), 1, time.time())
        block = Block(self._number, b"".join(lines), (part,), self._divided, barrier=False)
        self._stage, self._since = 0, time.perf_counter()
        result = self._runner.run(block, NO_BLAME, self._number - 1)
        self._file.write(result.kept)
        self._stage_ends()
        self._count(result)

    def close(self) -> None:
        """Close the steps."""
        self._runner.close()

    def measurement(self) -> Measurement:
        """Return what was found so far."""
        total = sum(self._seconds)
        reached = self._accepted
        stages = [Stage(READING, reached, self._seconds[0], self._seconds[0] / total)]
        reached -= self._left[BORDER_NAME]
        for step, seconds in zip(self._chain.steps, self._seconds[1:-1], strict=True):
            middleware = step.load()
            form: Form = "batch" if middleware.has_batch_form() else "event"
            stage = Stage(step.name, reached, seconds, seconds / total, form, middleware.reads)
            if step.mode is Mode.DISABLED:
                stage = replace(stage, events=0, form="disabled")
            stages.append(replace(stage, shared=step.shared))
            reached -= self._left[step.name]
        seconds = self._seconds[-1]
        stages.append(Stage(WRITING, reached, seconds, seconds / total))
        first = self._dead[0] if self._dead else None
        failed = first and f"{first.middleware or BORDER_NAME}: {first.reason}"
        return Measurement(
            self._accepted, total, tuple(stages), self._emitted, self._died, failed or None
        )

    def _ask(self, question: Question) -> Answer:
        if question.step.use != BOUNDARY:
            return self._sequencer.ask(question)
        self._stage_ends()
        return NOTHING_ASKED

    def _stage_ends(self) -> None:
        now = time.perf_counter()
        self._seconds[self._stage] += now - self._since
        self._stage += 1
        self._since = time.perf_counter()

    def _count(self, result: Result) -> None:
        self._accepted += result.accepted
        self._emitted += result.emitted
        self._died += len(result.dead)
        self._left.update(result.dropped)
        self._left.update(letter.middleware or BORDER_NAME for letter in result.dead)
        self._dead += result.dead[:1]


def _divided(chain: ChainVersion) -> ChainVersion:
    """Return the chain with a boundary before, between and after its steps."""
    steps: list[Step] = []
    for place, step in enumerate(chain.steps):
        steps += [_boundary(place), step]
    return ChainVersion(chain.number, (*steps, _boundary(len(chain.steps))))


def _boundary(place: int) -> Step:
    # No step of a configuration can have this name: it has a space.
    return Step(f"boundary {place}", BOUNDARY, Mode.DISABLED, {}, shared=True)
