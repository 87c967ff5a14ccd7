"""Changed events are encoded again, as their producer would have written them; others are not."""

from __future__ import annotations

import json
from typing import Any

import msgspec
import pytest
from hypothesis import given
from hypothesis import strategies as st

from service.passage import Result
from service.settings import EventSettings
from tests.core.examples import EVENTS, kept_events, line, only_letter, run, step

UGLY = b'{"time" : 1.50, "cid":4, "text":"\\u00e9"}\n'


def edited(payload: bytes, settings: EventSettings = EVENTS, **params: Any) -> Result:
    return run(payload, step("Editor", **params), settings=settings)


def test_fields_are_changed_added_and_removed_and_the_others_stay() -> None:
    payload = line(1, 2.5, colour="red", size=3)
    result = edited(payload, add={"colour": "blue", "new": [1, {"a": None}]}, remove=["size"])
    assert kept_events(result) == [
        {"cid": 1, "time": 2.5, "colour": "blue", "new": [1, {"a": None}]}
    ]


def test_lines_beside_a_changed_one_are_not_touched() -> None:
    result = edited(UGLY + line(1) + UGLY, add={"new": 1}, cids=[1])
    assert result.kept == UGLY + line(1, new=1) + UGLY


def test_a_step_that_reads_some_fields_cannot_lose_the_others() -> None:
    payload = line(1, 2.0, colour="red", size=3)
    result = edited(payload, reads=["colour"], add={"new": 1}, remove=["colour", "size"])
    assert kept_events(result) == [{"cid": 1, "time": 2.0, "size": 3, "new": 1}]


def test_a_changed_event_with_an_unread_field_that_no_reader_can_hold_dies_alone() -> None:
    payload = b'{"cid":1,"time":2,"huge":1e400}\n' + line(4)
    result = edited(payload, reads=["cid"], add={"new": 1})
    assert kept_events(result) == [json.loads(line(4)) | {"new": 1}]
    assert "out of range" in only_letter(result).reason


def test_a_later_step_sees_what_an_earlier_one_changed() -> None:
    steps = (
        step("first", use="tests.core.steps:Editor", add={"colour": "blue", "cid": 8, "time": 3.0}),
        step("second", use="tests.core.steps:Witness", reads=("cid", "time", "colour")),
        step("third", use="tests.core.steps:Editor", remove=["saw"], add={"last": True}),
    )
    result = run(line(1, 2.0, colour="red"), *steps[:2])
    assert kept_events(result)[0]["saw"] == "{'cid': 8, 'colour': 'blue', 'time': 3.0}"
    result = run(line(1, 2.0, colour="red"), *steps)
    assert kept_events(result) == [{"cid": 8, "time": 3.0, "colour": "blue", "last": True}]


def test_a_later_step_does_not_see_what_an_earlier_one_removed() -> None:
    steps = (step("Editor", remove=["colour"]), step("Witness", reads=("colour", "cid")))
    assert kept_events(run(line(1, colour="red"), *steps))[0]["saw"] == "{'cid': 1}"


def test_a_changed_event_can_still_be_dropped_or_die_with_its_own_bytes() -> None:
    payload = UGLY + line(7)
    dropped = run(payload, step("Editor", add={"cid": 1}), step("Even"))
    assert (dropped.kept, dropped.dropped["Even"]) == (b"", 2)
    dead = run(payload, step("Editor", add={"cid": 1}), step("Raises"))
    assert [letter.event + b"\n" for letter in dead.dead] == [UGLY, line(7)]


def test_other_names_of_the_two_fields_are_written_back() -> None:
    settings = EventSettings(cid="point", time="at")
    payload = b'{"point":1,"at":2,"cid":"mine","time":"yours"}\n'
    unchanged = edited(payload, settings, add={"new": 0})
    assert kept_events(unchanged) == [json.loads(payload) | {"new": 0}]
    changed = edited(payload, settings, add={"cid": 5, "time": 6.5})
    assert kept_events(changed) == [{"point": 5, "at": 6.5, "cid": "mine", "time": "yours"}]


def test_a_changed_event_cannot_smuggle_in_another_point() -> None:
    result = edited(b'{"point":1,"time":2}\n', EventSettings(cid="point"), add={"point": "nine"})
    assert all(isinstance(event["point"], int) for event in kept_events(result))


def test_rfc_3339_time_stays_as_spelt_until_it_is_changed() -> None:
    settings = EventSettings(time_format="rfc3339")
    payload = b'{"cid":1,"time":"1970-01-01T02:00:00.50+02:00"}\n'
    kept = kept_events(edited(payload, settings, add={"new": 0}))
    assert kept == [{"cid": 1, "time": "1970-01-01T02:00:00.50+02:00", "new": 0}]
    moved = kept_events(edited(payload, settings, add={"time": 90.25}))
    assert moved == [{"cid": 1, "time": "1970-01-01T00:01:30.250000Z"}]
    dead = only_letter(edited(payload, settings, add={"time": 1e18}))
    assert "changed event is not valid" in dead.reason


def test_epoch_time_stays_as_spelt_until_it_is_changed() -> None:
    payload = b'{"cid":1,"time":20}\n'
    assert edited(payload, add={"new": 0}).kept == b'{"cid":1,"time":20,"new":0}\n'
    assert edited(payload, add={"time": 20.0}).kept == payload


@pytest.mark.parametrize(
    ("params", "reason"),
    [
        ({"remove": ["cid"]}, 'it has no "cid"'),
        ({"remove": ["time"]}, 'it has no "time"'),
        ({"reads": ["time"], "remove": ["time"]}, 'it has no "time"'),
        ({"add": {"cid": 1.0}}, 'its "cid" is not an integer'),
        ({"add": {"cid": True}}, 'its "cid" is not an integer'),
        ({"add": {"cid": None}}, 'its "cid" is not an integer'),
        ({"add": {"cid": 2**63}}, 'its "cid" does not fit 64 bits'),
        ({"reads": ["colour"], "add": {"cid": 2**63}}, 'its "cid" does not fit 64 bits'),
        ({"add": {"time": float("nan")}}, 'its "time" is not a finite number'),
        ({"add": {"time": float("inf")}}, 'its "time" is not a finite number'),
        ({"add": {"time": "now"}}, 'its "time" is not a finite number'),
        ({"add": {"time": True}}, 'its "time" is not a finite number'),
        ({"add": {"time": 10**400}}, "too large"),
        ({"add": {"text": "\ud800"}}, "is not valid"),
        ({"add": {"bad": object()}}, "object"),
        ({"add": {"bad": float("nan")}}, 'its "bad" is nan, which JSON cannot hold'),
        ({"add": {"bad": [1.0, -float("inf")]}}, 'its "bad" holds what is -inf'),
        ({"add": {"bad": {"of": {"a", "b"}}}}, 'its "bad" holds what is a set, whose order is'),
    ],
)
def test_a_changed_event_that_is_none_any_more_is_a_dead_letter(
    params: dict[str, Any], reason: str
) -> None:
    result = (
        edited(UGLY + line(1), cids=[1], **({"reads": []} | params))
        if "reads" not in params
        else edited(line(1), **params)
    )
    letter = only_letter(result)
    assert reason in letter.reason
    assert (letter.middleware, letter.attempts, letter.event) == ("Editor", 1, line(1)[:-1])
    assert result.dropped == {"Editor": 0}


def test_a_bad_change_of_the_point_leaves_no_trace() -> None:
    steps = (
        step("spoils", use="tests.core.steps:Editor", add={"cid": 9, "bad": object()}, cids=[1]),
        step("Witness"),
    )
    result = run(line(1) + line(2), *steps)
    assert [event["cid"] for event in kept_events(result)] == [2]


def test_a_shared_step_may_change_events_too() -> None:
    payload = line(5) + line(-1) + line(6)
    result = run(payload, step("Numbers"))
    assert [event["number"] for event in kept_events(result)] == [1, 2]
    assert only_letter(result).reason == "handle raised ValueError: no number below 0"


fields = st.dictionaries(
    st.sampled_from(["a", "b", "c", "\u00e9"]),
    st.none()
    | st.integers(-9, 9)
    | st.text("x\u00e9\U0001f600", max_size=3)
    | st.lists(st.booleans()),
)


@given(st.lists(fields, min_size=1, max_size=4), fields, st.sets(st.sampled_from("abc")))
def test_an_edit_is_what_the_same_edit_of_a_dictionary_would_be(
    events: list[dict[str, Any]], add: dict[str, Any], remove: set[str]
) -> None:
    before = [{"cid": cid, "time": 0.5} | event for cid, event in enumerate(events)]
    payload = b"".join(msgspec.json.encode(event) + b"\n" for event in before)
    expected = [
        {name: value for name, value in event.items() if name not in remove} | add
        for event in before
    ]
    assert kept_events(edited(payload, add=add, remove=list(remove))) == expected
    limited = edited(payload, add=add, remove=list(remove), reads=["a", "b", "c"])
    assert kept_events(limited) == expected
