"""The sequencer: one memory, one order, one answer, whoever asks and however often."""

from __future__ import annotations

from collections.abc import Callable
from functools import partial
from threading import Thread
from typing import Any

import pytest

from service.answer import NO_BLAME, Blame
from service.block import Block
from service.chain import Mode
from service.passage import Result
from service.sequencer import Sequencer
from tests.core.examples import block, chain, line, runner, sequencer, step

LIMIT = 20.0
TALLY = chain(step("Tally"))
ONE = line(1)


def results(
    the_sequencer: Sequencer, *blocks: Block, blame: Blame = NO_BLAME
) -> list[tuple[bytes, int]]:
    """Run blocks one after the other; return of each what was kept, and the number dead."""
    asked = [runner(the_sequencer.ask).run(each, blame, 0) for each in blocks]
    return [(result.kept, len(result.dead)) for result in asked]


def start(work: Callable[[], object]) -> Thread:
    thread = Thread(target=work, daemon=True)
    thread.start()
    return thread


def test_a_block_waits_for_the_blocks_before_it() -> None:
    shared = sequencer(TALLY.steps)
    answers: list[tuple[int, bytes]] = []

    def ask(number: int) -> None:
        answers.append(
            (number, runner(shared.ask).run(block(number, ONE, TALLY), NO_BLAME, 0).kept)
        )

    waiting = [start(partial(ask, number)) for number in (3, 2)]
    assert answers == []
    ask(1)
    for thread in waiting:
        thread.join(LIMIT)
    assert sorted(answers) == [(1, ONE), (2, b""), (3, b"")]


def test_a_block_asked_again_has_the_same_answer_and_changes_nothing() -> None:
    shared = sequencer(TALLY.steps)
    first, second = block(1, ONE + line(2), TALLY), block(2, line(2) + line(3), TALLY)
    assert results(shared, first, first, second, first, second) == [
        (ONE + line(2), 0),
        (ONE + line(2), 0),
        (line(3), 0),
        (ONE + line(2), 0),
        (line(3), 0),
    ]
    assert results(shared, block(3, line(3) + line(4), TALLY)) == [(line(4), 0)]


def test_a_failed_event_stays_failed_when_it_is_asked_again() -> None:
    version = chain(step("Numbers"))
    shared = sequencer(version.steps)
    asked = [block(1, line(-1) + ONE, version)] * 2
    kept = line(1, number=1)
    assert results(shared, *asked) == [(kept, 1), (kept, 1)]


def test_a_switch_takes_effect_at_its_block_and_not_before() -> None:
    two = TALLY.switched("Tally", params={"keep": 2})
    shadow = two.switched("Tally", mode=Mode.SHADOW)
    disabled = shadow.switched("Tally", mode=Mode.DISABLED)
    enabled = disabled.switched("Tally", mode=Mode.ENABLED, params={"keep": 5})
    reset = enabled.switched("Tally", reset=True, params={"keep": 1})
    versions = [TALLY, TALLY, two, two, shadow, disabled, disabled, enabled, enabled, reset, reset]
    blocks = [block(number, ONE, version) for number, version in enumerate(versions, start=1)]
    kept = [bool(kept) for kept, _ in results(sequencer(TALLY.steps), *blocks)]
    # seen so far: 1, 2 (keep 1), 3, 4 (keep 2), 5 in shadow, none while disabled, 6, 7, then anew
    assert kept == [True, False, False, False, True, True, True, False, False, True, False]


def test_a_reset_of_a_disabled_step_is_not_forgotten() -> None:
    off = TALLY.switched("Tally", mode=Mode.DISABLED)
    on = off.switched("Tally", reset=True).switched("Tally", mode=Mode.ENABLED)
    asked = [block(1, ONE, TALLY), block(2, ONE, off), block(3, ONE, on), block(4, ONE, on)]
    assert [bool(kept) for kept, _ in results(sequencer(TALLY.steps), *asked)] == [
        True,
        True,
        True,
        False,
    ]


@pytest.mark.parametrize("name", ["Tally", "LiveTally"])
def test_a_checkpoint_holds_exactly_the_blocks_up_to_its_barrier(name: str) -> None:
    version = chain(step(name))
    shared = sequencer(version.steps)
    before, barrier = block(1, ONE, version), block(2, line(2), version, barrier=True)
    after = [block(3, ONE + line(3), version), block(4, line(3) + line(4), version)]
    first = results(shared, before, barrier, *after)
    restored = sequencer(version.steps, shared.snapshot(2))
    assert results(restored, *after) == first[2:]


def test_a_checkpoint_remembers_the_switches_its_memory_has_seen() -> None:
    reset = TALLY.switched("Tally", reset=True)
    for newest in (TALLY, reset):  # whichever version the next host is started with
        shared = sequencer(TALLY.steps)
        results(shared, block(1, ONE, TALLY), block(2, ONE, reset, barrier=True))
        restored = sequencer(newest.steps, shared.snapshot(2))
        assert results(restored, block(3, ONE + line(2), reset)) == [(line(2), 0)]


def test_there_is_no_checkpoint_but_at_a_barrier() -> None:
    shared = sequencer(TALLY.steps)
    results(shared, block(1, ONE, TALLY))
    with pytest.raises(KeyError):
        shared.snapshot(1)


def test_a_disabled_step_keeps_its_memory_across_a_checkpoint() -> None:
    off = TALLY.switched("Tally", mode=Mode.DISABLED)
    on = off.switched("Tally", mode=Mode.ENABLED)
    shared = sequencer(TALLY.steps)
    results(shared, block(1, ONE, TALLY), block(2, ONE, off, barrier=True))
    restored = sequencer(TALLY.steps, shared.snapshot(2))
    assert results(restored, block(3, ONE + line(2), on)) == [(line(2), 0)]


def test_a_shared_batch_form_that_raises_is_asked_event_by_event_by_the_next_host() -> None:
    version = chain(step("SharedBrokenBatch"))
    asked = block(1, ONE + ONE + line(2), version)
    broken = sequencer(version.steps)
    with pytest.raises(RuntimeError):
        results(broken, asked)
    assert results(sequencer(version.steps), asked, blame=Blame(careful=True)) == [
        (ONE + line(2), 0)
    ]


def test_each_shared_step_has_a_sequence_of_its_own() -> None:
    version = chain(
        step("once", use="tests.core.steps:Tally"),
        step("Even"),
        step("twice", use="tests.core.steps:Tally", keep=2),
    )
    shared = sequencer(version.steps)
    payload = line(1) + line(2) + line(2) + line(4)
    blocks = [block(1, payload, version, barrier=True), block(2, payload + line(6), version)]
    expected: list[Any] = [(line(2) + line(4), 0), (line(6), 0)]
    assert results(shared, *blocks) == expected
    assert results(sequencer(version.steps, shared.snapshot(1)), blocks[1]) == expected[1:]


def test_a_result_is_equal_however_often_it_is_asked_for() -> None:
    version = chain(step("Tally"), step("Numbers"), step("Raises"))
    shared = sequencer(version.steps)
    payload = line(1) + line(2) + line(-2) + line(2) + b"bad\n"

    def once() -> Result:
        return runner(shared.ask).run(block(1, payload, version), NO_BLAME, 0)

    first, second = once(), once()
    assert first.kept == second.kept
    assert [(each.row, each.reason) for each in first.dead] == [
        (each.row, each.reason) for each in second.dead
    ]
    assert (first.dropped, first.counts) == (second.dropped, second.counts)
