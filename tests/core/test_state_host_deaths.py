"""When the state host dies: every block after the checkpoint is asked again, and no other."""

from __future__ import annotations

from threading import Thread

import pytest

from service.dispatcher import Barrier
from tests.core.dispatching import LIMIT, SIZE, Setup


@pytest.fixture
def setup() -> Setup:
    return Setup()


def test_after_the_state_host_died_all_blocks_after_the_checkpoint_are_asked_again(
    setup: Setup,
) -> None:
    a, b = setup.links
    setup.accept(1, 2, 3, 4)
    setup.done(a, setup.take(a).block.number)
    assert [setup.take(a).block.number, setup.take(b).block.number] == [2, 3]
    setup.dispatcher.state_died([], "died")
    assert not list(setup.numbers(a))
    assert not setup.dispatcher.state_lost(a, 2), "it is known already"
    setup.accept(5)
    setup.dispatcher.state_ready(2, "second")
    assert not setup.dispatcher.state_lost(b, 3)
    task = setup.take(a)
    assert (task.block.number, task.generation, task.state_address) == (1, 2, "second")
    assert [*setup.numbers(b), *setup.numbers(a)] == [2, 3, 4]
    setup.done(a, 1, 4)
    setup.done(b, 2, 3)
    assert list(setup.numbers(a)) == [5]


def test_a_worker_is_the_first_to_tell_that_the_state_host_is_lost(setup: Setup) -> None:
    a, b = setup.links
    setup.accept(1, 2)
    setup.take(a)
    setup.take(b)
    assert setup.dispatcher.state_lost(a, 1)


def test_a_result_of_an_earlier_generation_counts_but_the_block_is_asked_again(
    setup: Setup,
) -> None:
    a, b = setup.links
    setup.accept(1, 2)
    setup.take(a)
    setup.dispatcher.state_died([], "died")
    setup.dispatcher.state_ready(2, "second")
    setup.done(a, 1)
    assert setup.settled == 1
    assert [*setup.numbers(b), *setup.numbers(a)] == [1, 2]


def test_settled_is_never_said_of_a_block_that_may_still_be_asked(setup: Setup) -> None:
    """The state host forgets answers up to there; of a block at a worker it may be asked again."""
    a, b = setup.links
    setup.accept(1, 2, 3)
    setup.take(a)
    setup.dispatcher.state_died([], "died")
    setup.dispatcher.state_ready(2, "second")
    assert setup.take(b).block.number == 1
    setup.done(a, 1)
    assert setup.settled == 1
    assert setup.take(a).settled == 0


def through_a_barrier(setup: Setup) -> Barrier:
    """Pass blocks 1 to 3, the second with a barrier."""
    a, _ = setup.links
    setup.accept(1, 2, 3, barrier=2)
    for _ in range(3):
        setup.done(a, setup.take(a).block.number)
    barrier = setup.dispatcher.next_barrier()
    assert barrier is not None
    return barrier


def test_a_checkpoint_lets_the_blocks_before_it_go(setup: Setup) -> None:
    barrier = through_a_barrier(setup)
    assert barrier == Barrier(2, 1, "first")
    setup.dispatcher.adopt_snapshot(barrier, b"memory")
    assert setup.dispatcher.snapshot == b"memory"
    setup.dispatcher.state_died([], "died")
    setup.dispatcher.state_ready(2, "second")
    assert list(setup.numbers(setup.links[0])) == [3]


def test_a_checkpoint_that_comes_too_late_is_refused(setup: Setup) -> None:
    barrier = through_a_barrier(setup)
    setup.dispatcher.state_died([], "died")
    setup.dispatcher.adopt_snapshot(barrier, b"memory")
    assert setup.dispatcher.snapshot is None
    setup.dispatcher.state_ready(2, "second")
    setup.dispatcher.adopt_snapshot(barrier, b"memory")
    assert setup.dispatcher.snapshot is None
    assert [setup.take(link).block.number for link in setup.links] == [1, 2]


def test_a_block_at_a_worker_may_lie_before_the_checkpoint_when_it_dies(setup: Setup) -> None:
    a, b = setup.links
    setup.accept(1, 2, 3, barrier=2)
    setup.take(a)
    setup.take(b)
    setup.dispatcher.state_died([], "died")
    setup.done(a, 1)  # the answers of the first generation were in before it died
    setup.done(b, 2)
    setup.dispatcher.state_ready(2, "second")
    assert setup.take(a).block.number == 1  # the second one answers; the result is on its way
    assert setup.take(b).block.number == 2
    setup.done(b, 2)
    barrier = setup.dispatcher.next_barrier()
    assert barrier == Barrier(2, 2, "second")
    setup.dispatcher.adopt_snapshot(barrier, b"memory")
    setup.die(a)
    assert list(setup.numbers(b)) == [3], "the block before the checkpoint is of no use any more"


def test_a_barrier_counts_when_it_was_emitted(setup: Setup) -> None:
    a, _ = setup.links
    setup.accept(1, barrier=1)
    setup.take(a)
    found: list[Barrier | None] = []
    waiting = Thread(target=lambda: found.append(setup.dispatcher.next_barrier()), daemon=True)
    waiting.start()
    setup.done(a, 1, settle=False)
    assert found == []
    setup.dispatcher.settled(setup.blocks[1])
    waiting.join(LIMIT)
    assert found == [Barrier(1, 1, "first")]


def test_a_barrier_is_wanted_once_in_so_many_bytes(setup: Setup) -> None:
    wanted = []
    for number in range(1, 11):
        barrier = setup.dispatcher.wants_barrier()
        wanted.append(barrier)
        setup.accept(number, barrier=number if barrier else 0)
    assert wanted == [False] * 3 + [True] + [False] * 3 + [True, False, False]


@pytest.mark.parametrize(("by_reference", "first"), [(False, 3), (True, 6)])
def test_what_takes_memory_wants_a_barrier_sooner(*, by_reference: bool, first: int) -> None:
    setup = Setup(room=2 * SIZE, checkpoint=5 * SIZE, by_reference=by_reference)
    wanted = []
    for number in range(1, 7):
        wanted.append(setup.dispatcher.wants_barrier())
        setup.accept(number)
    assert wanted.index(True) + 1 == first


@pytest.mark.parametrize(("by_reference", "first"), [(False, 8), (True, 32)])
def test_a_large_memory_is_saved_more_seldom(*, by_reference: bool, first: int) -> None:
    setup = Setup(by_reference=by_reference)
    setup.dispatcher.adopt_snapshot(through_a_barrier(setup), b"m" * SIZE * 2)
    wanted = []
    for number in range(4, 40):
        wanted.append(setup.dispatcher.wants_barrier())
        setup.accept(number)
    assert wanted.index(True) + 1 == first  # with block 3: 4 or 16 times 20 bytes
