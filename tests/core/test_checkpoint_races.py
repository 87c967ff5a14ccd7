"""What a checkpoint that is adopted in the middle of a replay must not break."""

from __future__ import annotations

from service.block import Block, Part
from service.chain import ChainVersion
from service.dispatcher import Dispatcher
from service.passage import Result


class Link:
    """A worker without a process."""

    def __init__(self) -> None:
        self.in_flight: dict[int, int] = {}

    def wake(self) -> None:
        """Ask for nothing by itself."""


def block(number: int, *, barrier: bool = False) -> Block:
    part = Part("source", 1, 1, 0.0)
    return Block(number, b'{"cid":1,"time":0}\n', (part,), ChainVersion(1, ()), barrier)


def test_a_block_that_waits_for_a_second_worker_in_a_replay_goes_with_the_checkpoint() -> None:
    finished: list[int] = []

    def take_note(done: Block, result: Result) -> None:
        del result
        finished.append(done.number)

    dispatcher = Dispatcher(
        take_note, workers=2, retries=2, room=1 << 20, checkpoint_size=1, remembers=True
    )
    one, other = Link(), Link()
    dispatcher.connect([one, other])
    dispatcher.state_ready(1, "first")
    blocks = [block(1), block(2, barrier=True)]
    result = Result(lines=1, accepted=1, emitted=1, kept=b"", dead=[])
    for each in blocks:
        dispatcher.accept(each)
        assert dispatcher.take(one) is not None
        dispatcher.done(one, each.number, result)
        dispatcher.settled(each)
    dispatcher.state_died([], "died")
    dispatcher.state_ready(2, "second")
    assert dispatcher.take(one) is not None
    assert dispatcher.take(other) is not None
    dispatcher.worker_died(one, [], "killed")
    dispatcher.done(other, 2, result)
    barrier = dispatcher.next_barrier(limit=0)
    assert barrier is not None
    dispatcher.adopt_snapshot(barrier, b"checkpoint")
    assert dispatcher.take(one) is None
    dispatcher.accept(block(3))
    task = dispatcher.take(one)
    assert task is not None
    assert task.block.number == 3
