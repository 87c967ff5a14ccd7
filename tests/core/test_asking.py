"""Broken middleware: the event at hand becomes a dead letter with its reason, all others go on."""

from __future__ import annotations

from typing import Any

import pytest

from service.answer import Blame, Failure
from service.passage import Result
from service.progress import BORDER
from service.settings import EventSettings
from tests.core.examples import RETRIES, line, only_letter, run, step

FOUR = b"".join(line(cid) for cid in (1, 2, 4, 6))


def letters(result: Result) -> dict[int, str]:
    return {letter.row: letter.reason for letter in result.dead}


def test_an_event_whose_handling_raises_each_time_is_a_dead_letter_with_all_there_is_to_know() -> (
    None
):
    result = run(FOUR, step("Raises"))
    letter = only_letter(result)
    assert (letter.row, letter.event) == (0, line(1)[:-1])
    assert letter.reason == "handle raised ValueError: 1 is odd"
    assert (letter.middleware, letter.attempts) == ("Raises", RETRIES + 1)
    assert letter.traceback is not None
    assert "in handle" in letter.traceback
    assert result.kept == FOUR.removeprefix(line(1))
    assert result.dropped == {"Raises": 0}


def test_an_error_that_cannot_be_told_is_a_dead_letter_all_the_same() -> None:
    result = run(line(1) + line(2), step("RaisesOdd"))
    assert letters(result) == {
        0: "handle raised Unspeakable: <exception str() failed>",
        1: r"handle raised ValueError: \ud800",
    }
    for letter in result.dead:
        assert letter.traceback is not None
        assert letter.traceback.encode(), "it can be written anywhere"


def test_a_mapping_that_cannot_be_read_is_a_dead_letter() -> None:
    result = run(line(1) + line(2), step("ReturnsUnreadable"))
    assert letters(result) == {
        0: "handle returned a Unreadable that cannot be read: RuntimeError: nothing here"
    }
    assert result.kept == line(2)


def test_an_event_whose_handling_raises_once_is_tried_again() -> None:
    result = run(FOUR, step("RaisesOnce"))
    assert result.dead == []
    assert result.dropped == {"RaisesOnce": 1}


def test_a_missing_field_is_named() -> None:
    result = run(line(1, colour="red") + line(2) + line(3, colour="blue"), step("WantsColour"))
    assert letters(result) == {
        1: 'the event has no field "colour", which the middleware reads',
    }
    assert result.kept == line(1, colour="red")


def test_a_change_of_the_event_itself_is_told_how_it_is_done() -> None:
    letter = only_letter(run(line(1), step("ChangesInPlace")))
    assert letter.reason.endswith(
        '; the event is read-only: return a new dict, such as {**event, "zone": 4}'
    )
    assert letter.traceback is not None
    assert 'event["zone"] = 4' in letter.traceback


def test_a_key_that_is_missing_elsewhere_is_not_called_a_field() -> None:
    reason = only_letter(run(line(1), step("LooksUp", key=1))).reason
    assert reason == "handle raised KeyError: 1"


def test_a_key_error_about_anything_at_all_kills_nothing() -> None:
    assert only_letter(run(line(1), step("LooksUp", key=["a", "b"]))).middleware == "LooksUp"


def test_garbage_in_place_of_an_event_is_a_dead_letter() -> None:
    result = run(b"".join(line(cid) for cid in range(1, 8)), step("Garbage"))
    assert letters(result) == {
        0: "handle returned str, not an event or None",
        1: "handle returned int, not an event or None",
        2: "handle returned list, not an event or None",
        3: "handle returned bool, not an event or None",
        4: "handle returned bool, not an event or None",
        5: "handle returned int, not an event or None",
    }
    assert result.kept == line(7)


def test_what_cannot_be_encoded_is_a_dead_letter() -> None:
    assert "changed event is not valid" in only_letter(run(line(1), step("Unencodable"))).reason


def test_what_cannot_leave_a_shared_step_is_a_dead_letter() -> None:
    assert only_letter(run(line(1), step("SharedUnpicklable"))).middleware == "SharedUnpicklable"


@pytest.mark.parametrize("returns", ["raises", "integers", "too few", "None"])
def test_a_broken_batch_form_is_asked_event_by_event(returns: str) -> None:
    broken = run(FOUR, step("BrokenBatch", returns=returns))
    sound = run(FOUR, step("Even"))
    assert (broken.kept, broken.dead) == (sound.kept, [])
    assert broken.counts == {"BrokenBatch": {"odd": 1}}, "what half a batch counted is forgotten"


def test_a_sound_batch_form_is_believed() -> None:
    assert run(FOUR, step("EvenBatch")).kept == run(FOUR, step("Even")).kept


def test_an_event_blamed_for_a_death_is_not_tried_again() -> None:
    blame = Blame(careful=True, failed={0: {1: Failure("ended its worker (signal 9)", 3)}})
    for name in ("Even", "EvenBatch", "Raises", "Tally"):
        result = run(line(0) + line(2) + line(4), step(name), blame=blame)
        letter = only_letter(result)
        assert (letter.row, letter.middleware, letter.attempts) == (1, name, 3)
        assert letter.reason == "ended its worker (signal 9)"
        assert result.kept == line(0) + line(4)


def test_a_line_blamed_for_a_death_is_not_read_again() -> None:
    blame = Blame(careful=True, failed={BORDER: {1: Failure("ended its worker", 3)}})
    result = run(line(0) + line(2) + line(4), blame=blame)
    assert letters(result) == {1: "ended its worker"}


WHOLE: list[dict[str, Any]] = [
    {"name": "Witness"},
    {"name": "SharedWitness"},
    {"name": "Editor", "add": {"new": 1}},
    {"name": "Editor", "add": {"new": 1}, "reads": ("colour",)},
]


@pytest.mark.parametrize("asked", WHOLE)
@pytest.mark.parametrize(
    "value",
    [
        pytest.param(b"1e400", id="beyond float64"),
        pytest.param(b"9" * 5000, id="thousands of digits"),
        pytest.param(b"[" * 600 + b"]" * 600, id="nested 600 deep"),
        pytest.param(b"[" * 940 + b"]" * 940, id="nested 940 deep"),
    ],
)
def test_an_event_the_border_let_in_stops_no_middleware_that_reads_it_whole(
    value: bytes, asked: dict[str, Any]
) -> None:
    hard = b'{"cid":2,"time":2,"x":' + value + b"}\n"
    result = run(line(1) + hard + line(3), step(**asked))
    assert result.accepted == 3
    assert {letter.row for letter in result.dead} <= {1}


def test_a_middleware_is_asked_alike_under_other_names() -> None:
    settings = EventSettings(cid="point", time="at")
    payload = b'{"point":1,"at":0}\n{"point":2,"at":0}\n'
    assert run(payload, step("Even"), settings=settings).kept == payload[-19:]
