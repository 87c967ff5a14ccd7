"""What a start says about a changed configuration: a sentence for each step, true and complete."""

from __future__ import annotations

from dataclasses import replace
from datetime import date
from typing import Any

import msgspec
import pytest
from hypothesis import given
from hypothesis import strategies as st

from service.chain import ChainVersion, Mode, Step
from service.changes import (
    adopted,
    same_configuration,
    told_changes,
    told_positions,
    told_switches,
)
from service.journal.entry import CHAIN, ChainChange, Configuration, chain_entry, read_chain
from service.journal.row import Entry
from service.settings import PartSettings

WHEN = 1_700_000_000.0
TIME = "2023-11-14T22:13:20+00:00"
RENAMED = (
    "added: its memory begins empty, since memory goes by name: what near remembered is not taken "
    "over"
)
EMPTIED = "its memory is emptied: it is one of other params"


def configured(*steps: Step, **event: Any) -> Configuration:
    return Configuration(event, steps)


def near(name: str = "near", mode: str = "enabled", **params: Any) -> Step:
    return Step(name, "adjacent", Mode(mode), params, shared=True)


def blocked(name: str = "blocked", mode: str = "enabled") -> Step:
    return Step(name, "blocklist", Mode(mode), {"cids": [7]}, shared=False)


def chain(*steps: Step) -> ChainVersion:
    return ChainVersion(1, steps)


def entry(body: bytes) -> Entry:
    return Entry(1, CHAIN, 1, 0.0, body, b"", ())


def told(
    before: Configuration, after: Configuration, present: ChainVersion | None = None
) -> list[str]:
    present = present or chain(*before.steps)
    now = adopted(present, before, after, "9.0")
    return [*told_changes(present, before, after), *told_switches(now, after)]


def switched(step: Step, **change: Any) -> ChainVersion:
    return chain(step).switched(step.name, since="5.0", when=WHEN, **change)


@pytest.mark.parametrize(
    ("before", "after", "expected"),
    [
        ((), (near(),), ["near: added: its memory begins empty"]),
        ((), (blocked(),), ["blocked: added"]),
        (
            (near(),),
            (),
            ["near: removed: events do not pass it any more, and its memory is dropped"],
        ),
        (
            (near(),),
            (near("close"),),
            [
                "near: removed: events do not pass it any more, and its memory is dropped",
                f"close: {RENAMED}",
            ],
        ),
        (
            (near(),),
            (blocked("near"),),
            ["near: its class is blocklist now (was adjacent), so its memory begins empty"],
        ),
        (
            (near(),),
            (near(by=("rack",)),),
            [
                f'near: its table was changed: by: its default -> ["rack"]; {EMPTIED}',
            ],
        ),
        (
            (near(window=300),),
            (near(window=10),),
            ["near: its table was changed: window: 300 -> 10; its memory is kept"],
        ),
        (
            (near(), blocked()),
            (blocked(), near()),
            [
                "blocked: unchanged",
                "near: unchanged; its memory is kept",
                "the order of the steps is blocked -> near now (was near -> blocked)",
            ],
        ),
    ],
)
def test_each_step_is_told_what_becomes_of_it(
    before: tuple[Step, ...], after: tuple[Step, ...], expected: list[str]
) -> None:
    assert told(configured(*before), configured(*after)) == expected


def test_events_that_are_read_otherwise_are_told() -> None:
    assert told(configured(cid="cid"), configured(cid="point")) == [
        'events are read with cid = "point" (was "cid")'
    ]


def test_what_was_switched_and_is_set_back_is_told_with_when_and_why() -> None:
    present = switched(near(window=300), mode=Mode.SHADOW, reason="a look")
    (line,) = told(configured(near(window=300)), configured(near(window=10)), present)
    assert line == (
        f"near: its table was changed: mode: shadow (switched at offset 5.0, {TIME} (a look)) -> "
        "enabled, window: 300 -> 10; its memory is kept"
    )


def test_what_stays_switched_is_told_with_the_way_back() -> None:
    table = near(window=300)
    present = switched(table, mode=Mode.SHADOW, reason="a look")
    present = present.switched("near", params={"window": 600}, since="6.0", when=WHEN)
    added, stays = told(configured(table), configured(table, blocked()), present)
    assert added == "blocked: added"
    assert stays == (
        "near: stays as it was switched: "
        f"mode=shadow (the file says enabled), switched at offset 5.0, {TIME} (a look); "
        f"window=600 (the file says 300), switched at offset 6.0, {TIME} (no reason given); "
        "to go back to what the file says: penstock middleware enable near and "
        "penstock middleware set near window=300"
    )


def test_a_reset_is_told_and_needs_no_way_back() -> None:
    (line,) = told_switches(switched(near(), reset=True, reason="anew"), configured(near()))
    assert line == (
        f"near: its memory was emptied once by reset, last at offset 5.0, {TIME} (anew)"
    )


def test_a_parameter_that_the_file_does_not_name_goes_back_to_its_default() -> None:
    (line,) = told_switches(switched(near(), params={"radius": 3}), configured(near()))
    assert "radius=3 (the file says its default)" in line
    assert line.endswith("the file says: penstock middleware set near radius=1")


def test_the_reason_of_each_thing_outlives_later_switches_without_one() -> None:
    present = switched(near(window=300), mode=Mode.SHADOW, reason="a look")
    present = present.switched("near", params={"window": 600}, since="6.0")
    present = present.switched("near", mode=Mode.SHADOW, params={"window": 600}, since="7.0")
    step = present.step("near")
    assert step.switches["mode"].reason == "a look"
    assert step.switches["mode"].since == "5.0"
    assert step.switches["params.window"].since == "6.0"


def test_a_switch_of_an_earlier_version_is_told_with_what_is_known() -> None:
    old = replace(near(mode="shadow"), since="5.0", reason="a look")
    (line,) = told_switches(chain(old), configured(near()))
    assert "shadow (the file says enabled), switched at offset 5.0 or before (a look)" in line


def test_an_entry_of_an_earlier_version_can_be_read() -> None:
    change = ChainChange(chain(near()), configured(near()))
    plain = msgspec.to_builtins(change)
    for steps in (plain["chain"]["steps"], plain["configuration"]["steps"]):
        for step in steps:
            del step["switches"]
    assert read_chain(entry(msgspec.msgpack.encode(plain))) == change


def test_a_date_is_the_same_in_the_file_and_in_the_journal() -> None:
    """TOML has dates, and the journal holds their text."""
    written = PartSettings(name="near", use="adjacent", params={"since": date(2026, 1, 1)})
    file = configured(near(**written.params))
    new = chain_entry(1, ChainChange(chain(*file.steps), file))
    held = read_chain(entry(new.body))
    assert same_configuration(held.configuration, file)
    shadowed = held.chain.switched("near", mode=Mode.SHADOW)
    other = configured(*file.steps, blocked())
    now = adopted(shadowed, held.configuration, other, "9.0")
    assert now.step("near").mode == Mode.SHADOW
    assert now.step("near").params == {"since": "2026-01-01"}


def test_places_in_sinks_and_sources_are_told() -> None:
    origins = {"files": {"path": "in.ndjson", "stop": 12}}
    assert [*told_positions({"kept": None}, origins, ["kept"], ["files"])] == []
    gone, new, source = told_positions({"kept": None}, origins, ["late"], ["inputs"])
    assert gone.startswith('sink "kept": removed: how far it was is forgotten')
    assert new == 'sink "late": new: it holds only what is emitted from now on'
    assert source.startswith('source "files": removed: that it read 12 bytes of in.ndjson')


STEPS = st.builds(
    Step,
    st.sampled_from("abc"),
    st.sampled_from(["adjacent", "blocklist", "nowhere"]),
    st.sampled_from(Mode),
    st.dictionaries(st.sampled_from(["window", "by", "odd"]), st.integers(1, 3) | st.text()),
    st.booleans(),
)
CONFIGURATIONS = st.lists(STEPS, unique_by=lambda step: step.name).map(lambda x: configured(*x))


@given(CONFIGURATIONS, CONFIGURATIONS, st.data())
def test_no_step_goes_untold_whatever_was_changed(
    before: Configuration, after: Configuration, data: st.DataObject
) -> None:
    present = chain(*before.steps)
    for step in before.steps:
        mode = data.draw(st.sampled_from(Mode))
        present = present.switched(step.name, mode=mode, reset=data.draw(st.booleans()))
    lines = told(before, after, present)
    names = {step.name for step in (*before.steps, *after.steps)}
    own = [line for line in lines if "memory was emptied" not in line and line[1] == ":"]
    assert sorted(line[0] for line in own) == sorted(names)
