"""Blame: after bounded attempts the one event that kills its process fails alone."""

from __future__ import annotations

import pytest

from service.progress import ASKING, BATCH, BORDER, NOTHING, RAISED, Place
from service.suspicion import CARELESS_DEATHS
from tests.core.dispatching import KILLED, Setup
from tests.core.examples import RETRIES


@pytest.fixture
def setup() -> Setup:
    return Setup()


def test_blame_falls_on_the_first_block_of_a_dead_worker_only() -> None:
    setup = Setup(workers=1)
    (a,) = setup.links
    setup.accept(1, 2)
    for _ in range(CARELESS_DEATHS):
        assert list(setup.numbers(a)) == [1, 2]
        setup.die(a, Place(1, 0, BATCH))
    first, second = setup.take(a), setup.take(a)
    assert (first.blame.careful, first.blame.failed) == (True, {})
    assert (second.blame.careful, second.blame.failed) == (False, {})


@pytest.mark.parametrize("step", [BORDER, 0, 1])
def test_an_event_that_kills_its_worker_again_and_again_fails_alone(
    setup: Setup, step: int
) -> None:
    a, _ = setup.links
    setup.accept(1)
    for attempt in range(1, RETRIES + 2):
        assert setup.take(a).blame.failed == {}, f"attempt {attempt}"
        setup.die(a, Place(1, step, 17))
    blame = setup.take(a).blame
    ((position, failure),) = blame.failed[step].items()
    assert (position, failure.reason, failure.attempts) == (17, KILLED, RETRIES + 1)
    assert blame.careful


def test_different_events_are_blamed_apart(setup: Setup) -> None:
    a, _ = setup.links
    setup.accept(1)
    for position in [3, 4] * RETRIES:
        setup.take(a)
        setup.die(a, Place(1, 0, position))
    assert setup.take(a).blame.failed == {}
    setup.die(a, Place(1, 0, 4))
    assert {step: list(at) for step, at in setup.take(a).blame.failed.items()} == {0: [4]}
    setup.die(a, Place(1, 0, 3))
    assert {step: sorted(at) for step, at in setup.take(a).blame.failed.items()} == {0: [3, 4]}


def test_nobody_is_blamed_for_a_death_while_no_event_was_handled(setup: Setup) -> None:
    a, _ = setup.links
    setup.accept(1)
    for position in [NOTHING, ASKING] * 5:
        setup.take(a)
        setup.die(a, Place(1, 0, position))
    assert setup.take(a).blame.failed == {}


def test_a_place_of_another_block_blames_nobody(setup: Setup) -> None:
    a, _ = setup.links
    setup.accept(1, 2)
    setup.done(a, setup.take(a).block.number)
    for _ in range(10):
        setup.take(a)
        setup.die(a, Place(1, 0, 5), Place(99, 0, 5))
    blame = setup.take(a).blame
    assert (blame.careful, blame.failed) == (False, {})


def test_a_death_of_the_state_host_is_blamed_on_the_event_that_each_step_handled(
    setup: Setup,
) -> None:
    a, b = setup.links
    setup.accept(1, 2)
    for generation in range(2, RETRIES + 3):
        setup.take(a)
        setup.take(b)
        setup.dispatcher.state_died([Place(2, 0, 3), Place(1, 1, NOTHING)], KILLED)
        setup.dispatcher.state_lost(a, 1)
        setup.dispatcher.state_lost(b, 2)
        setup.dispatcher.state_ready(generation, "next")
    blames = [setup.take(a).blame, setup.take(b).blame]
    assert blames[0].failed == {}
    assert {step: list(at) for step, at in blames[1].failed.items()} == {0: [3]}


def test_a_batch_form_that_raised_is_asked_one_by_one_at_once(setup: Setup) -> None:
    a, _ = setup.links
    setup.accept(1)
    setup.take(a)
    setup.dispatcher.state_died([Place(1, 0, RAISED)], KILLED)
    setup.dispatcher.state_lost(a, 1)
    setup.dispatcher.state_ready(2, "second")
    assert setup.take(a).blame.careful
