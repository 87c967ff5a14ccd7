"""The event queue: bounded by events and bytes, in order, and only acceptance is a promise."""

from __future__ import annotations

from collections.abc import Callable
from concurrent.futures import CancelledError, Future, ThreadPoolExecutor
from multiprocessing import AuthenticationError, get_context
from pathlib import Path
from threading import Event, Thread
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from service import event_queue
from service.block import FileRange, Offset, Receipt, Submission
from service.errors import QueueClosed, QueueFull
from service.event_queue import EventQueue, QueueServer, Waiting, connect
from tests.core.examples import NOW

LIMIT = 20.0
RECEIPT = Receipt(Offset(7, 3), 2, 0.0)


def lines(count: int, size: int = 10) -> Submission:
    """Return a submission of so many lines, ``size`` bytes each."""
    return Submission("test", (b"x" * (size - 1) + b"\n") * count, count, 1, NOW)


def reference(size: int) -> Submission:
    return Submission("file", FileRange("/nowhere", 0, size), None, None, NOW)


def payloads(taken: list[Waiting] | None) -> list[bytes | FileRange]:
    assert taken is not None
    return [waiting.submission.payload for waiting in taken]


def sizes_of(queue: EventQueue, size: int, linger: float = 0) -> list[int]:
    taken = queue.take(size, linger) or []
    return [waiting.submission.size for waiting in taken]


def test_it_holds_so_many_events_and_no_more() -> None:
    queue = EventQueue(events=3, size=1000)
    queue.submit(lines(2), limit=0)
    with pytest.raises(QueueFull):
        queue.submit(lines(2), limit=0)
    queue.submit(lines(1), limit=0)
    assert queue.level == (3, 30)


def test_it_holds_so_many_bytes_and_no_more() -> None:
    queue = EventQueue(events=100, size=30)
    queue.submit(lines(2), limit=0)
    with pytest.raises(QueueFull):
        queue.submit(lines(1, size=11), limit=0)
    queue.submit(reference(10), limit=0)
    assert queue.level == (3, 30)


def test_what_is_larger_than_the_bounds_is_let_in_alone() -> None:
    queue = EventQueue(events=1, size=1)
    queue.submit(lines(5), limit=0)
    with pytest.raises(QueueFull):
        queue.submit(lines(1, size=1), limit=0)
    assert len(payloads(queue.take(1, 0))) == 1
    queue.submit(lines(5), limit=0)


def test_a_producer_waits_until_there_is_room() -> None:
    queue = EventQueue(events=1, size=1000)
    queue.submit(lines(1))
    producer = Thread(target=queue.submit, args=(lines(1),), daemon=True)
    producer.start()
    queue.take(10, 0)
    producer.join(LIMIT)
    assert not producer.is_alive()
    assert queue.level == (1, 10)


WRONG: list[tuple[str, tuple[Any, ...], dict[str, Any]]] = [
    *[("source", (source, b"{}\n"), {}) for source in (None, 123, ["a"], b"push", "", "x" * 256)],
    *[("source", (source, b"{}\n"), {}) for source in ("\udcff", "a\nb", "\x1b[31m")],
    *[("lines", ("push", wrong), {}) for wrong in (None, "{}", 123, [b"{}"], 1.5)],
    *[("key", ("push", b"{}\n"), {"key": key}) for key in (1, b"k", "", "k" * 256, "\udc00")],
    *[("limit", ("push", b"{}\n"), {"limit": limit}) for limit in ("1", b"", [1], -1, 1e300)],
    ("limit", ("push", b"{}\n"), {"limit": float("nan")}),
]


@pytest.mark.parametrize(("what", "given", "named"), WRONG)
def test_what_can_never_be_accepted_is_told_to_its_producer_and_changes_nothing(
    what: str, given: tuple[Any, ...], named: dict[str, Any]
) -> None:
    queue = EventQueue(events=10, size=1000)
    with pytest.raises((TypeError, ValueError), match=f"^{what}: "):
        queue.put(*given, **named)
    assert queue.level == (0, 0)


@pytest.mark.parametrize("kind", [bytes, bytearray, memoryview])
def test_lines_may_be_any_kind_of_bytes(kind: Callable[[bytes], Any]) -> None:
    submission = Submission.of_lines("push", kind(b"{}\n{}"))
    assert (submission.payload, submission.lines) == (b"{}\n{}\n", 2)
    assert type(submission.payload) is bytes


RIGHT: dict[str, Any] = {
    "source": "push",
    "payload": b"{}\n{}\n",
    "lines": 2,
    "first_line": 1,
    "received": NOW,
}


@pytest.mark.parametrize(
    "wrong",
    [
        {"payload": b"{}\n{}"},
        {"payload": bytearray(b"{}\n{}\n")},
        {"payload": "{}\n{}\n"},
        {"payload": b"", "lines": 0},
        {"lines": 1},
        {"lines": 3},
        {"lines": 2.0},
        {"lines": None},
        {"first_line": "1"},
        {"first_line": -1},
        {"first_line": 2**64},
        {"received": "now"},
        {"received": float("nan")},
        {"received": 1e300},
        {"payload": FileRange("/nowhere", 0, 7)},
        {"payload": FileRange("/nowhere", 7, 7), "lines": None},
        {"payload": FileRange("/\udcff", 0, 7), "lines": None},
        {"payload": FileRange("/nowhere", 0, "7"), "lines": None},  # type: ignore[arg-type]
        {"payload": ("/nowhere", 0, 7), "lines": None},
    ],
)
def test_a_submission_that_could_not_be_read_again_cannot_be_made(wrong: dict[str, Any]) -> None:
    assert Submission(**RIGHT)
    with pytest.raises((TypeError, ValueError)):
        Submission(**RIGHT | wrong)


def test_nothing_but_a_submission_is_let_in() -> None:
    queue = EventQueue(events=10, size=1000)
    with pytest.raises(TypeError, match="expected a Submission"):
        queue.submit({"source": "push"})  # type: ignore[arg-type]
    assert queue.level == (0, 0)


def test_a_closed_queue_takes_nothing_in_and_gives_out_the_rest() -> None:
    queue = EventQueue(events=1, size=1000)
    queue.submit(lines(1))
    refused: list[type[Exception]] = []

    def submit() -> None:
        try:
            queue.submit(lines(1))
        except QueueClosed as error:
            refused.append(type(error))

    producer = Thread(target=submit, daemon=True)
    producer.start()
    queue.close()
    producer.join(LIMIT)
    assert refused == [QueueClosed]
    with pytest.raises(QueueClosed):
        queue.submit(lines(1), limit=0)
    assert len(payloads(queue.take(10, LIMIT))) == 1
    assert queue.take(10, LIMIT) is None


def test_the_receipt_comes_with_acceptance_and_not_before() -> None:
    queue = EventQueue(events=10, size=1000)
    future = queue.submit(lines(1))
    ((_, accepted),) = queue.take(10, 0) or []
    assert not future.done()
    accepted.set_result(RECEIPT)
    assert future.result(LIMIT) == RECEIPT


def test_a_producer_with_a_limit_gets_back_what_is_not_accepted_in_time(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """There is room, and nobody takes: a sink holds the stream back."""
    monkeypatch.setattr(event_queue, "MOMENT", 0.01)
    queue = EventQueue(events=10, size=1000)
    with ThreadPoolExecutor(1) as producer:
        told = producer.submit(queue.put, "push", b"{}\n", 0.02)
        with pytest.raises(QueueFull, match="held back"):
            told.result(LIMIT)
    assert queue.take(10, 0) == [], "it was withdrawn"
    assert queue.level == (0, 0)


def test_a_producer_whose_limit_ends_while_it_is_being_accepted_gets_its_receipt(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(event_queue, "MOMENT", 0.0)
    too_late = Event()

    class Accepted(Future[Receipt]):
        def cancel(self) -> bool:
            too_late.set()
            return super().cancel()

    monkeypatch.setattr(event_queue, "Future", Accepted)
    queue = EventQueue(events=10, size=1000)
    submit = queue.submit
    taken: list[Waiting] = []

    def submitted(submission: Submission, limit: float | None) -> Future[Receipt]:
        accepted = submit(submission, limit)
        taken.extend(queue.take(10, 0) or [])
        return accepted

    monkeypatch.setattr(queue, "submit", submitted)
    with ThreadPoolExecutor(1) as producer:
        told = producer.submit(queue.put, "push", b"{}\n", 0.0)
        assert too_late.wait(LIMIT)
        taken[0].tell(RECEIPT)
        assert told.result(LIMIT) == RECEIPT


def test_what_was_cancelled_is_never_taken_and_makes_room() -> None:
    queue = EventQueue(events=10, size=1000)
    futures = [queue.submit(lines(1, size)) for size in (10, 11, 12)]
    assert futures[1].cancel()
    assert sizes_of(queue, 1000) == [10, 12]
    assert queue.level == (0, 0)
    with pytest.raises(CancelledError):
        futures[1].result(0)
    assert not futures[0].cancel(), "what was taken cannot be withdrawn any more"


def test_a_cancelled_submission_alone_makes_an_empty_block() -> None:
    queue = EventQueue(events=10, size=1000)
    for submission in (lines(1), reference(5)):
        assert queue.submit(submission).cancel()
    assert queue.take(10, 0) == []
    assert queue.level == (0, 0)


def test_a_block_is_full_at_its_size_but_one_submission_may_be_larger() -> None:
    queue = EventQueue(events=100, size=10_000)
    for size in (40, 60, 1, 500, 10):
        queue.submit(lines(1, size))
    sizes = []
    while queue.level.events:
        sizes.append(sizes_of(queue, 100))
    assert sizes == [[40, 60], [1], [500], [10]]


def test_a_reference_to_a_file_is_a_block_of_its_own() -> None:
    queue = EventQueue(events=100, size=10_000)
    for submission in (lines(1), reference(5), reference(6), lines(1), lines(1)):
        queue.submit(submission)
    blocks = [len(payloads(queue.take(1000, 0))) for _ in range(4)]
    assert blocks == [1, 1, 1, 2]


def test_a_block_waits_for_more_only_until_it_is_full() -> None:
    queue = EventQueue(events=100, size=10_000)
    queue.submit(lines(10))
    assert len(payloads(queue.take(100, linger=1e6))) == 1


def test_whoever_lingers_is_told_when_the_block_is_full() -> None:
    queue = EventQueue(events=100, size=10_000)
    blocks: list[list[int]] = []
    taker = Thread(target=lambda: blocks.append(sizes_of(queue, 30, linger=1e6)), daemon=True)
    taker.start()
    for _ in range(3):
        queue.submit(lines(1))
    taker.join(LIMIT)
    assert blocks == [[10, 10, 10]]


def test_whoever_lingers_is_told_when_the_queue_is_closed() -> None:
    queue = EventQueue(events=100, size=10_000)
    blocks: list[list[int]] = []
    taker = Thread(target=lambda: blocks.append(sizes_of(queue, 30, linger=1e6)), daemon=True)
    taker.start()
    queue.submit(lines(1))
    queue.close()
    taker.join(LIMIT)
    assert blocks == [[10]]


sizes = st.integers(1, 30)
submissions = st.lists(sizes.map(lambda size: lines(1, size)) | sizes.map(reference), max_size=20)


@given(submissions, st.integers(1, 60), st.sets(st.integers(0, 19)))
def test_all_that_is_not_withdrawn_comes_out_once_in_order(
    offered: list[Submission], size: int, withdrawn: set[int]
) -> None:
    queue = EventQueue(events=100, size=10_000)
    futures = [queue.submit(each, limit=0) for each in offered]
    for index in withdrawn & set(range(len(offered))):
        futures[index].cancel()
    queue.close()
    out: list[Submission] = []
    while (taken := queue.take(size, LIMIT)) is not None:
        block = [waiting.submission for waiting in taken]
        assert len(block) <= 1 or sum(each.size for each in block) <= size
        assert len(block) <= 1 or all(isinstance(each.payload, bytes) for each in block)
        out += block
    expected = [each for index, each in enumerate(offered) if index not in withdrawn]
    assert [id(each) for each in out] == [id(each) for each in expected]
    assert queue.level == (0, 0)


def offer(access: Path) -> None:
    """Hand lines in from another process, and see both a receipt and a full queue."""
    proxy = connect(access)
    assert proxy.put("elsewhere", b'{"cid":1}\n{"cid":2}') == RECEIPT
    try:
        proxy.put("elsewhere", b"{}\n{}\n{}\n", 0.0)
    except QueueFull:
        return
    raise AssertionError("the queue has no room")


def test_another_process_hands_in_through_the_manager(tmp_path: Path) -> None:
    queue = EventQueue(events=4, size=1000)
    access = tmp_path / "queue.json"
    server = QueueServer(queue, tmp_path, access)
    server.start()
    assert access.stat().st_mode & 0o777 == 0o600
    producer = get_context("spawn").Process(target=offer, args=(access,), daemon=True)
    producer.start()
    try:
        ((submission, accepted),) = queue.take(1000, 0) or []
        assert submission.payload == b'{"cid":1}\n{"cid":2}\n'
        assert (submission.source, submission.lines) == ("elsewhere", 2)
        queue.submit(lines(3))
        accepted.set_result(RECEIPT)
        producer.join(LIMIT)
        assert producer.exitcode == 0
    finally:
        producer.kill()
        producer.join(LIMIT)
        producer.close()
    assert queue.level == (3, 30)


def test_nobody_gets_in_with_another_key(tmp_path: Path) -> None:
    access = tmp_path / "queue.json"
    QueueServer(EventQueue(events=1, size=1), tmp_path, access).start()
    key = access.read_text().split('"key": "')[1][:64]
    access.write_text(access.read_text().replace(key, "00" * 32))
    with pytest.raises(AuthenticationError):
        connect(access)


def test_a_socket_that_cannot_be_made_is_told_and_stops_nothing(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    server = QueueServer(EventQueue(events=1, size=1), tmp_path / "missing", tmp_path / "file")
    server.start()
    assert "its socket cannot be made" in caplog.text
    server.close()
    assert not (tmp_path / "file").exists()


def test_two_queues_in_one_process_are_two(tmp_path: Path) -> None:
    queues = [EventQueue(events=10, size=100) for _ in range(2)]
    for name, queue in zip("ab", queues, strict=True):
        (tmp_path / name).mkdir()
        QueueServer(queue, tmp_path / name, tmp_path / f"{name}.json").start()
    proxy = connect(tmp_path / "a.json")
    producer = Thread(target=proxy.put, args=("test", b"{}\n"), daemon=True)
    producer.start()
    queues[1].close()
    ((_, accepted),) = queues[0].take(1, 0) or []
    accepted.set_result(RECEIPT)
    producer.join(LIMIT)
    assert not producer.is_alive()


def test_whoever_is_told_of_a_rejection_may_use_the_queue() -> None:
    queue = EventQueue(events=10, size=1000)
    first = queue.submit(lines(1))
    told = Event()

    def hand_in_again(_: Future[Receipt]) -> None:
        queue.submit(lines(1), limit=0)
        told.set()

    first.add_done_callback(hand_in_again)
    Thread(target=queue.reject_waiting, args=(QueueClosed("no"),), daemon=True).start()
    assert told.wait(LIMIT)
    assert queue.level == (1, 10)
