"""check_contract passes what keeps the contract and says how the rest breaks it."""

from __future__ import annotations

import itertools
import math
import sys
from collections.abc import Mapping
from typing import Any

import numpy as np
import pytest
from pydantic import BaseModel

from middleware import Batch, ContractError, Event, Mask, Middleware, SharedMiddleware
from middleware.adjacent import AdjacentSuppressor
from middleware.testing import check_contract

EVENTS: list[dict[str, Any]] = [
    {"cid": step % 4, "time": float(step), "level": step % 3, "tags": ["a"]} for step in range(20)
]


def breach(
    middleware_class: type[Middleware],
    params: Mapping[str, Any] | None = None,
    events: list[dict[str, Any]] = EVENTS,
) -> str:
    """Return what check_contract says; the class's name comes first, advice last."""
    with pytest.raises(ContractError) as caught:
        check_contract(middleware_class, params or {}, events)
    message = str(caught.value)
    assert message.startswith(f"{middleware_class.__name__}: ")
    assert "\n  to do: " in message
    return message


class Odd(Middleware):
    """Drops odd points, in both forms; the broken ones below start from it."""

    def handle(self, event: Event) -> Event | None:
        return None if event["cid"] % 2 else event

    def handle_batch(self, batch: Batch) -> Mask:
        return np.asarray(batch.cid % 2 == 0)

    def explain(self, event: Event) -> str | None:
        return "odd" if event["cid"] % 2 else None


class Limit(SharedMiddleware):
    """Keeps the first three events of each point; the broken ones below start from it."""

    reads = ("cid",)

    def __init__(self, params: BaseModel) -> None:
        super().__init__(params)
        self.counts: dict[int, int] = {}

    def handle(self, event: Event) -> Event | None:
        cid = event["cid"]
        self.counts[cid] = self.counts.get(cid, 0) + 1
        return event if self.counts[cid] <= 3 else None

    def explain(self, event: Event) -> str | None:
        return "enough" if self.counts.get(event["cid"], 0) >= 3 else None

    def snapshot(self) -> Any:
        return dict(self.counts)

    def restore(self, state: Any) -> None:
        self.counts = state


class OnlyBatches(Middleware):
    """Has no handle."""

    def handle_batch(self, batch: Batch) -> Mask:
        return np.asarray(batch.cid % 2 == 0)


class Adds(Middleware):
    """Changes each event."""

    def handle(self, event: Event) -> Event | None:
        return {**event, "level": event.get("level", 0) + 1}


class Needs(Middleware):
    """Raises for an event that lacks a field it reads."""

    reads = ("level",)

    def handle(self, event: Event) -> Event | None:
        return event if event["level"] else None


@pytest.mark.parametrize("middleware_class", [Odd, Limit, OnlyBatches, Adds, Needs])
def test_what_keeps_the_contract_passes(middleware_class: type[Middleware]) -> None:
    check_contract(middleware_class, {}, EVENTS)
    check_contract(middleware_class, {}, [*EVENTS, {"cid": 1, "time": 99}])


@pytest.mark.parametrize("refresh", ["seen", "kept"])
@pytest.mark.parametrize("late", ["keep", "suppress"])
@pytest.mark.parametrize("by", [(), ("level",)])
def test_the_suppressor_keeps_the_contract(refresh: str, late: str, by: tuple[str, ...]) -> None:
    events = [
        {"cid": step * 7 % 30, "time": float(step * 13 % 50), "level": step % 2}
        for step in range(60)
    ]
    params = {"window": 8.0, "refresh": refresh, "late": late, "by": by}
    check_contract(AdjacentSuppressor, params, [*events, {"cid": 3, "time": 7}])


def test_the_events_are_left_as_they_were() -> None:
    events = [{"cid": 1, "time": 0, "tags": []}]
    check_contract(Adds, {}, events)
    assert events == [{"cid": 1, "time": 0, "tags": []}]


def test_parameters_that_do_not_parse() -> None:
    assert "windw: unknown parameter" in breach(AdjacentSuppressor, {"windw": 1})


def test_an_event_without_a_time() -> None:
    assert "event 0: {'cid': 1}" in breach(Odd, events=[{"cid": 1}])


def test_no_form_at_all() -> None:
    class Idle(Middleware):
        pass

    assert "neither handle nor handle_batch" in breach(Idle)


def test_a_coroutine_function() -> None:
    class Waits(Middleware):
        async def handle(self, event: Event) -> Event | None:  # type: ignore[override]
            return event

    assert "handle is async" in breach(Waits)


def test_changing_the_event() -> None:
    class Marks(Middleware):
        def handle(self, event: Event) -> Event | None:
            event["seen"] = True  # type: ignore[index]
            return event

    assert "handle changes its event" in breach(Marks)


def test_changing_what_is_nested_in_the_event() -> None:
    class Appends(Middleware):
        def handle(self, event: Event) -> Event | None:
            event["tags"].append("b")
            return event

    class AppendsWhereItReads(Appends):
        reads = ("cid", "tags")

    for middleware_class in (Appends, AppendsWhereItReads):
        assert "handle changes its event, to {" in breach(middleware_class)


def test_returning_something_else() -> None:
    class SaysYes(Middleware):
        def handle(self, event: Event) -> Event | None:
            del event
            return True  # type: ignore[return-value]

    assert "handle returns bool" in breach(SaysYes)


@pytest.mark.parametrize(
    ("made", "problem"),
    [
        ({"cid": 1}, 'it has no "time"'),
        ({"cid": "1", "time": 0.0}, 'its "cid" is not an integer'),
        ({"cid": 1, "time": 0.0, "tags": {"a"}}, 'its "tags" is a set'),
        ({"cid": 1, "time": 0.0, "share": math.nan}, 'its "share" is nan'),
        ({"cid": 1, "time": 0.0, "at": object()}, "Encoding objects of type object is unsupported"),
    ],
)
def test_returning_what_is_no_event_any_more(made: dict[str, Any], problem: str) -> None:
    class Makes(Middleware):
        def handle(self, event: Event) -> Event | None:
            return made if event["cid"] else event

    assert f"handle returns what is no event: {problem}" in breach(Makes)


def test_raising_at_every_event_or_being_asked_about_none() -> None:
    class Broken(Middleware):
        def handle(self, event: Event) -> Event | None:
            raise KeyError(event["cid"])

    assert "Broken: raises KeyError at every event" in breach(Broken)
    assert "Odd: was given no events" in breach(Odd, events=[])


def test_counting_what_is_no_integer() -> None:
    class Counts(Odd):
        def handle(self, event: Event) -> Event | None:
            self.count("odd", event["cid"] / 2)
            return super().handle(event)

        def handle_batch(self, batch: Batch) -> Mask:
            self.count("odd", (batch.cid % 2).sum())  # fine
            return super().handle_batch(batch)

    class CountsInBatches(Odd):
        def handle_batch(self, batch: Batch) -> Mask:
            self.count("odd", batch.cid % 2)
            return super().handle_batch(batch)

    assert 'count("odd", 0.0) counts float, not an integer' in breach(Counts)
    assert "counts ndarray, not an integer" in breach(CountsInBatches, events=EVENTS * 2)


def test_two_instances_that_differ() -> None:
    third = itertools.cycle([False, False, True])

    class Chance(Middleware):
        def handle(self, event: Event) -> Event | None:
            return None if next(third) else event

    assert "asked in a fresh instance" in breach(Chance)


def test_remembering_without_a_shared_memory() -> None:
    class RemembersSeen(Middleware):
        def open(self) -> None:
            self.seen: set[int] = set()

        def handle(self, event: Event) -> Event | None:
            if event["cid"] in self.seen:
                return None
            self.seen.add(event["cid"])
            return event

    events = [{"cid": number % 3, "time": float(number)} for number in range(30)]
    said = breach(RemembersSeen, events=events)
    assert "asked in two instances by turns, it keeps" in said
    assert "derive from SharedMiddleware" in said


def test_what_derives_from_no_middleware() -> None:
    class Plain:
        def handle(self, event: Event) -> Event | None:
            return event

    assert "Plain: derives from no Middleware" in breach(Plain)  # type: ignore[arg-type]


def test_exiting_is_an_answer_as_any_other_error() -> None:
    class Exits(Middleware):
        def handle(self, event: Event) -> Event | None:
            if event["cid"]:
                sys.exit(7)
            return event

    check_contract(Exits, {}, [{"cid": 0, "time": 0.0}, {"cid": 1, "time": 0.0}])


def test_a_restore_that_cannot_take_what_comes_back() -> None:
    class Pairs(Limit):
        def snapshot(self) -> Any:
            return {(cid, 0): count for cid, count in self.counts.items()}

        def restore(self, state: Any) -> None:
            self.counts = {cid: count for (cid, _), count in state}

    assert "restore raises ValueError" in breach(Pairs) or "restore raises TypeError" in breach(
        Pairs
    )


def test_changing_events_beside_a_batch_form() -> None:
    class AddsInBatches(Adds):
        def handle_batch(self, batch: Batch) -> Mask:
            return np.ones(len(batch), np.bool_)

    assert "handle changes events, and there is a handle_batch" in breach(AddsInBatches)


def test_a_batch_form_with_other_answers() -> None:
    class Even(Odd):
        def handle_batch(self, batch: Batch) -> Mask:
            return np.asarray(batch.cid % 2 == 1)

    assert "asked by handle_batch on batches that start at" in breach(Even)


def test_a_batch_form_that_depends_on_the_cut() -> None:
    class FirstOfBatch(Odd):
        def handle_batch(self, batch: Batch) -> Mask:
            mask = super().handle_batch(batch)
            mask[4:] = True
            return mask

    assert "asked by handle_batch" in breach(FirstOfBatch)


@pytest.mark.parametrize(
    ("mask", "found"),
    [([True], "list"), (np.ones(3, np.bool_), "bool[3]"), (np.ones(1, np.int8), "int8[")],
    ids=["no array", "wrong length", "wrong dtype"],
)
def test_a_mask_that_is_none(mask: Any, found: str) -> None:
    class Masks(Odd):
        def handle_batch(self, batch: Batch) -> Mask:
            del batch
            return mask  # type: ignore[no-any-return]

    assert f"handle_batch returns {found}" in breach(Masks)


def test_a_batch_form_that_raises_where_handle_does_not() -> None:
    class WritesColumns(Odd):
        def handle_batch(self, batch: Batch) -> Mask:
            batch.cid[:] = 0
            return super().handle_batch(batch)

    assert "handle takes each event" in breach(WritesColumns)


def test_a_batch_form_that_answers_where_handle_raises() -> None:
    class NeedsNot(Needs):
        def handle_batch(self, batch: Batch) -> Mask:
            return np.array([bool(level) for level in batch["level"]], np.bool_)

    message = breach(NeedsNot, events=[*EVENTS, {"cid": 1, "time": 99.0}])
    assert "asked first, it raises KeyError" in message
    assert "event 20: {'cid': 1, 'time': 99.0}" in message


def test_a_snapshot_that_is_not_plain() -> None:
    class Sets(Limit):
        def snapshot(self) -> Any:
            return {"points": [set(self.counts)]}

    class Huge(Limit):
        def snapshot(self) -> Any:
            return [2**64]

    assert "snapshot()['points'][0] is a set" in breach(Sets)
    assert "more than 64 bits" in breach(Huge)


def test_a_restore_that_loses_memory() -> None:
    class Loses(Limit):
        def restore(self, state: Any) -> None:
            del state

    assert "after restore, it keeps" in breach(Loses)


def test_an_open_that_begins_with_an_empty_memory_keeps_the_contract() -> None:
    class Opens(Limit):
        def open(self) -> None:
            self.counts = {}

    check_contract(Opens, {}, EVENTS)


def test_a_restore_that_adds_to_the_memory_there_is() -> None:
    class Adds(Limit):
        def restore(self, state: Any) -> None:
            for cid, count in state.items():
                self.counts[cid] = self.counts.get(cid, 0) + count

    assert "after its parameters were set, it drops" in breach(Adds)


def test_a_batch_form_that_loses_memory() -> None:
    class LosesInBatches(Limit):
        def __init__(self, params: BaseModel) -> None:
            super().__init__(params)
            self.counts_of_batches: dict[int, int] = {}

        def handle_batch(self, batch: Batch) -> Mask:
            self.counts, counts = self.counts_of_batches, self.counts
            mask = np.array([self.handle(event) is not None for event in batch], np.bool_)
            self.counts = counts
            return mask

    assert "with snapshot and restore between" in breach(LosesInBatches)


def test_explaining_that_changes_the_memory() -> None:
    class Counts(Limit):
        def explain(self, event: Event) -> str | None:
            return None if self.handle(event) else "enough"

    assert "explain changes the memory" in breach(Counts)


def test_explaining_what_is_not_dropped_or_not_explaining_what_is() -> None:
    class Silent(Odd):
        def explain(self, event: Event) -> str | None:
            del event
            return None

    class Chatty(Odd):
        def explain(self, event: Event) -> str | None:
            return f"point {event['cid']}"

    assert "drops the event, and explain finds no reason" in breach(Silent)
    assert "keeps the event, and explain says 'point 0'" in breach(Chatty)


def test_remembering_before_raising() -> None:
    class TooSoon(Limit):
        def handle(self, event: Event) -> Event | None:
            answer = super().handle(event)
            if event["cid"] == 3:
                raise ValueError
            return answer

    assert "raises ValueError, yet remembers the event" in breach(TooSoon)
