"""The dispatcher: blocks in order, nothing stuck, and one event alone to blame for a death."""

from __future__ import annotations

from threading import Thread

import pytest

from service.dispatcher import AHEAD, WINDOW
from tests.core.dispatching import LIMIT, SIZE, Setup


@pytest.fixture
def setup() -> Setup:
    return Setup()


def test_blocks_go_out_in_order_a_window_to_each_worker(setup: Setup) -> None:
    a, b = setup.links
    setup.accept(1, 2, 3, 4, 5)
    assert [setup.take(a).block.number, setup.take(b).block.number] == [1, 2]
    assert [*setup.numbers(a), *setup.numbers(b)] == [3, 4]
    assert all(len(link.in_flight) == WINDOW for link in setup.links)
    setup.done(a, 1)
    assert list(setup.numbers(a)) == [5]


def test_a_worker_with_room_is_woken_when_there_is_work(setup: Setup) -> None:
    a, b = setup.links
    setup.accept(1, 2)
    assert a.wakes > 0
    assert b.wakes > 0
    assert [setup.take(a).block.number, setup.take(b).block.number] == [1, 2]
    setup.accept(3)
    assert list(setup.numbers(a)) == [3]
    before = a.wakes
    setup.accept(4)
    assert a.wakes == before, "its window is full"


def test_a_second_block_waits_until_every_worker_has_one(setup: Setup) -> None:
    """Else one would have the first two, and the next one's blocks all wait for the second."""
    a, b = setup.links
    setup.accept(1, 2, 3)
    assert list(setup.numbers(a)) == [1]
    before = a.wakes
    assert setup.take(b).block.number == 2
    assert a.wakes > before
    assert list(setup.numbers(a)) == [3]


def test_finished_blocks_wait_only_so_far_ahead_of_an_unfinished_one(setup: Setup) -> None:
    a, b = setup.links
    setup.accept(*range(1, 40))
    setup.take(a)
    while (task := setup.dispatcher.take(b)) is not None:
        setup.done(b, task.block.number)
    assert max(setup.finished) == 2 * AHEAD
    assert setup.settled == 0
    setup.done(a, 1)
    assert setup.settled == 2 * AHEAD
    assert setup.take(b).block.number == 2 * AHEAD + 1


def test_the_blocks_of_a_dead_worker_come_back(setup: Setup) -> None:
    a, b = setup.links
    setup.accept(1, 2, 3, 4)
    assert [setup.take(each).block.number for each in (a, b, a)] == [1, 2, 3]
    setup.die(a)
    assert a.in_flight == {}
    assert list(setup.numbers(a)) == [1, 3]
    setup.done(a, 1, 3)
    assert list(setup.numbers(a)) == [4]


def test_a_worker_never_gets_a_lower_block_than_it_has(setup: Setup) -> None:
    """It would first work at the higher one, and wait for the lower one behind it for ever."""
    a, b = setup.links
    setup.accept(1, 2, 3)
    setup.take(a)
    setup.take(b)
    setup.die(a)
    assert list(setup.numbers(b)) == []
    setup.done(b, 2)
    assert list(setup.numbers(b)) == [1]


def test_without_memory_nothing_is_kept_once_it_is_emitted() -> None:
    setup = Setup(remembers=False, checkpoint=1)
    a, b = setup.links
    setup.accept(1, 2, 3)
    assert [setup.take(a).block.number, setup.take(b).block.number] == [1, 2]
    setup.done(b, 2)
    setup.die(a)
    setup.done(b, *setup.numbers(b))
    setup.done(b, *setup.numbers(b))
    assert setup.settled == 3
    assert setup.dispatcher.wait_until_settled(0)


def test_the_intake_waits_until_there_is_room() -> None:
    setup = Setup(room=15, workers=1)
    (a,) = setup.links
    setup.accept(1)
    setup.dispatcher.wait_for_room()  # there is some
    setup.accept(2)
    waiting = Thread(target=setup.dispatcher.wait_for_room, daemon=True)
    waiting.start()
    assert not setup.dispatcher.wait_until_settled(0)
    setup.done(a, *setup.numbers(a))
    waiting.join(LIMIT)
    assert not waiting.is_alive()
    assert setup.dispatcher.wait_until_settled(0)


@pytest.mark.parametrize("by_reference", [False, True])
def test_what_is_kept_for_a_replay_takes_memory_only_so_far(*, by_reference: bool) -> None:
    setup = Setup(room=2 * SIZE, by_reference=by_reference)
    a, _ = setup.links
    setup.accept(1, barrier=1)
    for number in range(2, 6):
        setup.accept(number)
        setup.done(a, *setup.numbers(a))
    waiting = Thread(target=setup.dispatcher.wait_for_room, daemon=True)
    waiting.start()
    if not by_reference:
        barrier = setup.dispatcher.next_barrier(LIMIT)
        assert barrier is not None
        assert waiting.is_alive()
        setup.dispatcher.adopt_snapshot(barrier, b"memory")
    waiting.join(LIMIT)
    assert not waiting.is_alive()


def test_a_block_that_takes_all_memory_alone_holds_nothing_up() -> None:
    setup = Setup(room=1)
    a, _ = setup.links
    setup.accept(1)
    setup.done(a, *setup.numbers(a))
    setup.dispatcher.wait_for_room()
    assert setup.dispatcher.wants_barrier()


def test_closing_lets_go_of_everyone() -> None:
    setup = Setup(room=1)
    setup.accept(1)
    for wait in (setup.dispatcher.wait_for_room, setup.dispatcher.next_barrier):
        thread = Thread(target=wait, daemon=True)
        thread.start()
        setup.dispatcher.close()
        thread.join(LIMIT)
        assert not thread.is_alive()
    assert not setup.dispatcher.wait_until_settled()


def test_the_oldest_block_is_the_one_to_watch(setup: Setup) -> None:
    a, b = setup.links
    assert setup.dispatcher.oldest() is None
    setup.accept(1, 2, 3)
    setup.take(a)
    setup.take(b)
    assert setup.dispatcher.oldest() == (a, 1)
    setup.done(a, 1)
    assert setup.dispatcher.oldest() == (b, 2)
