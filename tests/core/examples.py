"""What the tests of the core are made of: lines, blocks, chains, and a runner in one process."""

from __future__ import annotations

import pickle
from collections.abc import Callable, Iterable, Sequence
from typing import Any

import msgspec

from middleware.loading import load_middleware
from service.answer import NO_BLAME, Answer, Asker, Blame
from service.block import Block, FileRange, Part
from service.chain import ChainVersion, Mode, Step
from service.passage import DeadLetter, Result
from service.progress import local_lane
from service.runner import ChainRunner
from service.sequencer import Question, Sequencer
from service.settings import EventSettings
from service.snapshot import Snapshot

NOW = 1_000_000.0
"""When the examples were received; max_future is measured from here."""

RETRIES = 2
EVENTS = EventSettings()


def line(cid: int, time: float = 0.0, **fields: Any) -> bytes:
    """Return an event as a line, with its line end."""
    return msgspec.json.encode({"cid": cid, "time": time, **fields}) + b"\n"


def part_of(payload: bytes | FileRange, first_line: int | None = 1) -> Part:
    counted = isinstance(payload, bytes)
    lines = payload.count(b"\n") if isinstance(payload, bytes) else None
    return Part("example", lines, first_line if counted else None, NOW)


def step(
    name: str,
    *,
    use: str = "",
    mode: str = "enabled",
    resets: int = 0,
    **params: Any,
) -> Step:
    """Return a step; without ``use`` it is the class called ``name`` of tests.core.steps."""
    use = use or f"tests.core.steps:{name}"
    return Step(name, use, Mode(mode), params, load_middleware(use).shared, resets)


def chain(*steps: Step, number: int = 1) -> ChainVersion:
    return ChainVersion(number, steps)


EMPTY_CHAIN = chain()


def block(
    number: int,
    payload: bytes | FileRange = b"",
    version: ChainVersion = EMPTY_CHAIN,
    *,
    barrier: bool = False,
    parts: tuple[Part, ...] = (),
) -> Block:
    return Block(number, payload, parts or (part_of(payload),), version, barrier)


def sequencer(steps: Iterable[Step], snapshot: Snapshot | None = None) -> Sequencer:
    steps = tuple(steps)
    askers = [Asker(local_lane(), RETRIES) for _ in steps]
    return Sequencer(steps, askers, snapshot)


def over_the_border(ask: Callable[[Question], Answer]) -> Callable[[Question], Answer]:
    """Ask as a worker asks the state host: all that crosses is pickled."""

    def answer(question: Question) -> Answer:
        arrived = pickle.loads(pickle.dumps(question))  # noqa: S301 - made right here
        crossed: Answer = pickle.loads(pickle.dumps(ask(arrived)))  # noqa: S301 - as above
        return crossed

    return answer


def runner(ask: Callable[[Question], Answer], settings: EventSettings = EVENTS) -> ChainRunner:
    return ChainRunner(settings, local_lane(), RETRIES, over_the_border(ask))


def run(
    payload: bytes,
    *steps: Step,
    settings: EventSettings = EVENTS,
    blame: Blame = NO_BLAME,
) -> Result:
    """Run one block through a chain, all in this process, and check that all is accounted for."""
    the_runner = runner(sequencer(steps).ask, settings)
    result = the_runner.run(block(1, payload, chain(*steps)), blame, 0)
    the_runner.close()
    account_for(result)
    return result


def account_for(result: Result) -> None:
    assert result.accepted == result.emitted + sum(result.dropped.values()) + len(result.dead)
    assert result.emitted == result.kept.count(b"\n")


def kept_events(result: Result) -> list[dict[str, Any]]:
    return [msgspec.json.decode(each) for each in result.kept.splitlines()]


def only_letter(result: Result) -> DeadLetter:
    (letter,) = result.dead
    return letter


def blank_result(lines: int = 0, kept: bytes = b"", dead: Sequence[DeadLetter] = ()) -> Result:
    """Return the result of a block that kept some lines and lost others."""
    emitted = kept.count(b"\n")
    return Result(
        lines=lines or emitted + len(dead),
        accepted=emitted + len(dead),
        emitted=emitted,
        kept=kept,
        dead=list(dead),
    )
