"""Re-driving: an event is handed in again once, and its letter says so only after that."""

from __future__ import annotations

import pytest

from service import redrive as redrive_module
from service.dead_letter_store import DeadLetterStore, Status
from service.dead_letters import LetterId
from service.errors import OutcomeUnknown, QueueFull, StorageFull
from service.redrive import Outcome, Redriver
from tests.dead_letters.letters import LONGEST, FakeQueue, bad, failed, numbered, origin

WAITING, REDRIVEN, DISCARDED = Status
FIRST, SECOND = LetterId(1, 0), LetterId(1, 1)


@pytest.fixture
def queue() -> FakeQueue:
    return FakeQueue()


@pytest.fixture
def redriver(store: DeadLetterStore, queue: FakeQueue) -> Redriver:
    store.write(numbered(1), [failed(0), failed(1, event=b'{"cid": 2}')], origin)
    return Redriver(store, queue.submit)


def status(store: DeadLetterStore, letter_id: LetterId) -> Status:
    stored = store.get(letter_id)
    assert stored is not None
    return stored.status


def test_the_events_are_handed_in_as_they_came_and_get_new_offsets(
    redriver: Redriver, queue: FakeQueue
) -> None:
    assert redriver.redrive([SECOND, FIRST]) == [
        Outcome(SECOND, REDRIVEN, "1001.0"),
        Outcome(FIRST, REDRIVEN, "1002.0"),
    ]
    submissions = list(queue.accepted.values())
    assert [each.payload for each in submissions] == [b'{"cid": 2}\n', b'{"cid": 1}\n']
    assert {(each.source, each.lines, each.patient) for each in submissions} == {
        ("dead letters", 1, False)
    }
    assert list(queue.accepted) == ["redrive:1.1:", "redrive:1.0:"]


def test_a_letter_waits_until_its_event_was_accepted(
    redriver: Redriver, queue: FakeQueue, store: DeadLetterStore
) -> None:
    seen = []
    queue.before = lambda _: seen.append(status(store, FIRST))
    redriver.redrive([FIRST])
    assert seen == [WAITING]
    assert status(store, FIRST) is REDRIVEN


def test_a_letter_that_is_named_twice_or_was_redriven_is_not_handed_in_again(
    redriver: Redriver, queue: FakeQueue
) -> None:
    assert len(redriver.redrive([FIRST, FIRST])) == 1
    assert redriver.redrive([FIRST]) == [Outcome(FIRST, REDRIVEN, "1001.0")]
    assert len(queue.accepted) == 1


def test_a_crash_between_acceptance_and_mark_is_mended_by_asking_again(
    redriver: Redriver, queue: FakeQueue, store: DeadLetterStore, monkeypatch: pytest.MonkeyPatch
) -> None:
    def crash(_: object) -> None:
        raise OSError("the disk is full")

    with monkeypatch.context() as crashing:
        crashing.setattr(store, "mark_redriven", crash)
        with pytest.raises(OSError, match="full"):
            redriver.redrive([FIRST])
    assert status(store, FIRST) is WAITING
    assert redriver.redrive([FIRST]) == [Outcome(FIRST, REDRIVEN, "1001.0")]
    assert len(queue.accepted) == 1


def test_what_finds_no_room_still_waits_and_says_why(redriver: Redriver, queue: FakeQueue) -> None:
    queue.trouble = QueueFull("the queue is full")
    assert redriver.redrive([FIRST]) == [Outcome(FIRST, WAITING, None, "the queue is full")]
    queue.trouble = None
    assert redriver.redrive([FIRST])[0].status is REDRIVEN


@pytest.mark.parametrize("late", [StorageFull("the disk is full"), OutcomeUnknown("who knows")])
def test_what_is_not_accepted_after_all_still_waits_and_says_why(
    redriver: Redriver, queue: FakeQueue, late: Exception
) -> None:
    queue.late = late
    assert redriver.redrive([FIRST]) == [Outcome(FIRST, WAITING, None, str(late))]


def test_what_gets_no_receipt_in_time_is_withdrawn(
    redriver: Redriver, queue: FakeQueue, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(redrive_module, "PATIENCE", 0.0)
    queue.holds = True
    (outcome,) = redriver.redrive([FIRST])
    assert (outcome.status, outcome.detail) == (WAITING, "the stream is held back; ask again later")
    assert queue.held[0].cancelled()


def test_what_can_not_be_withdrawn_any_more_waits_and_can_be_asked_again(
    redriver: Redriver, queue: FakeQueue, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(redrive_module, "PATIENCE", 0.0)

    queue.holds = queue.takes = True
    (outcome,) = redriver.redrive([FIRST])
    assert outcome.status is WAITING
    assert "not known yet" in outcome.detail


def test_an_event_that_was_cut_is_not_redriven(
    redriver: Redriver, queue: FakeQueue, store: DeadLetterStore
) -> None:
    store.write(numbered(2), bad(0, event=b"x" * (LONGEST + 1)), origin)
    (outcome,) = redriver.redrive([LetterId(2, 0)])
    assert outcome.status is WAITING
    assert "its producer must send it again" in outcome.detail
    assert queue.accepted == {}


def test_what_was_discarded_is_not_redriven_and_the_other_way_round(
    redriver: Redriver, queue: FakeQueue
) -> None:
    redriver.discard([FIRST])
    redriver.redrive([SECOND])
    assert redriver.redrive([FIRST]) == [Outcome(FIRST, DISCARDED, None, "it was discarded before")]
    assert redriver.discard([SECOND]) == [
        Outcome(SECOND, REDRIVEN, "1001.0", "it was redriven before")
    ]
    assert list(queue.accepted) == ["redrive:1.1:"]


def test_a_letter_that_is_not_there_is_unknown(redriver: Redriver) -> None:
    nowhere = LetterId(9, 9)
    unknown = [Outcome(nowhere, None, None, "there is no such dead letter")]
    assert redriver.redrive([nowhere]) == unknown
    assert redriver.discard([nowhere]) == unknown


def test_only_one_call_at_a_time_hands_in(redriver: Redriver, queue: FakeQueue) -> None:
    refused = []

    def meanwhile(_: object) -> None:
        with pytest.raises(QueueFull, match="already") as error:
            redriver.redrive([SECOND])
        refused.append(error.value)

    queue.before = meanwhile
    redriver.redrive([FIRST])
    assert len(refused) == 1
    queue.before = lambda _: None
    assert redriver.redrive([SECOND])[0].status is REDRIVEN
