"""A block's passage through the chain: what is kept leaves as it came, all is accounted for."""

from __future__ import annotations

import pickle
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from middleware.contract import CID_RANGE
from service import passage
from service.answer import NO_BLAME
from service.passage import DeadLetter, Result
from service.progress import Lane
from service.runner import ChainRunner
from service.sinks.sink import Emission
from tests.core.examples import (
    EVENTS,
    RETRIES,
    block,
    kept_events,
    line,
    run,
    sequencer,
    step,
)

UGLY = b' {"time" : 1.50e0,\t"cid":4, "a":1, "a":2, "text":"\\u00e9\xc3\xa9", "big":1e2 }\r\n'


def test_an_empty_chain_lets_all_good_lines_through_byte_for_byte() -> None:
    result = run(UGLY + line(2))
    assert result.kept == UGLY + line(2)
    assert (result.lines, result.accepted, result.emitted) == (2, 2, 2)


def test_what_a_step_drops_and_the_border_refuses_is_left_out_and_nothing_else() -> None:
    result = run(UGLY + line(1) + b"bad\n\n" + line(2), step("Even"))
    assert result.kept == UGLY + line(2)
    assert result.dropped == {"Even": 1}
    assert [(letter.row, letter.event) for letter in result.dead] == [(2, b"bad")]
    assert (result.lines, result.accepted, result.emitted) == (5, 4, 2)


def test_a_block_without_any_event_passes_as_nothing() -> None:
    for payload in (b"", b"\n", b"\n \n"):
        result = run(payload, step("Even"), step("Tally"), step("Editor"))
        assert (result.kept, result.accepted) == (b"", 0)


def test_a_step_sees_only_what_the_steps_before_it_let_through() -> None:
    payload = b"".join(line(cid) for cid in (1, 2, 2, 3, 4))
    result = run(payload, step("Even"), step("Tally"))
    assert result.dropped == {"Even": 2, "Tally": 1}
    assert result.counts == {"Even": {"odd": 2}, "Tally": {"more": 1}}
    assert result.kept == line(2) + line(4)


def test_a_shadow_step_counts_what_it_would_drop_and_drops_nothing() -> None:
    payload = b"".join(line(cid) for cid in (1, 2, 3, 3))
    result = run(payload, step("Even", mode="shadow"), step("Tally", mode="shadow"))
    assert result.kept == payload
    assert result.dropped == {}
    assert result.shadow == {"Even": 3, "Tally": 1}
    assert result.counts["Even"] == {"odd": 3}


def test_a_shadow_step_changes_and_kills_nothing_but_counts() -> None:
    payload = line(1) + line(2)
    steps = (
        step("Editor", mode="shadow", add={"seen": True}),
        step("Raises", mode="shadow"),
        step("Garbage", mode="shadow"),
        step("Unencodable", mode="shadow"),
        step("Witness"),
    )
    result = run(payload, *steps)
    assert result.dead == []
    assert [event["saw"] for event in kept_events(result)] == [
        "{'cid': 1, 'time': 0.0}",
        "{'cid': 2, 'time': 0.0}",
    ]
    assert result.counts == {"Raises": {"failed": 1}, "Garbage": {"failed": 2}}


def test_a_disabled_step_is_not_asked_and_not_counted() -> None:
    steps = (
        step("Even", mode="disabled"),
        step("Raises", mode="disabled"),
        step("Tally", mode="disabled"),
    )
    payload = line(1) + line(1)
    result = run(payload, *steps)
    assert result.kept == payload
    assert (result.dropped, result.shadow, result.counts) == ({}, {}, {})


def test_steps_see_their_fields_and_no_others() -> None:
    payload = line(1, 2.0, colour="red", size=3) + line(4, 5.0)
    some = run(payload, step("Witness", reads=("colour", "time")))
    assert [event["saw"] for event in kept_events(some)] == [
        "{'colour': 'red', 'time': 2.0}",
        "{'time': 5.0}",
    ]
    whole = run(payload, step("Witness"))
    assert [event["saw"] for event in kept_events(whole)] == [
        "{'cid': 1, 'colour': 'red', 'size': 3, 'time': 2.0}",
        "{'cid': 4, 'time': 5.0}",
    ]


def test_null_is_not_the_same_as_missing() -> None:
    result = run(line(1, colour=None) + line(2), step("Witness", reads=("colour",)))
    assert [event["saw"] for event in kept_events(result)] == ["{'colour': None}", "{}"]


@pytest.mark.parametrize("bytes_per_run", [0, 10**9], ids=["run by run", "by a mask"])
@given(
    lengths=st.lists(st.tuples(st.integers(0, 3), st.integers(0, 300)), max_size=20),
    blank=st.booleans(),
)
def test_what_is_kept_is_copied_byte_for_byte(
    bytes_per_run: int, lengths: list[tuple[int, int]], *, blank: bool
) -> None:
    came = [line(cid, text="x" * length) for cid, length in lengths]
    payload = b"".join(came) + b"\n" * blank
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(passage, "BYTES_PER_RUN", bytes_per_run)
        result = run(payload, step("Even"))
    even = [cid % 2 == 0 for cid, _ in lengths]
    kept = b"".join(each for each, keep in zip(came, even, strict=True) if keep)
    assert result.kept == kept
    rows = Emission(1, result.kept, result.kept_rows).rows
    assert rows.tolist() == [row for row, keep in enumerate(even) if keep]


def test_the_guard_sees_which_of_many_bad_lines_is_read() -> None:
    cells = Cells()
    the_runner = ChainRunner(EVENTS, Lane(cells, 0), RETRIES, sequencer([]).ask)
    the_runner.run(block(1, line(1) + b"bad\n" * 3), NO_BLAME, 0)
    rows = [value for index, value in cells.written if index == 2 and value >= 0]
    assert rows == [0, 1, 2, 3]


class Cells(list[int]):
    """A lane's cells that know what was written to them."""

    def __init__(self) -> None:
        super().__init__([-1] * 3)
        self.written: list[tuple[Any, Any]] = []

    def __setitem__(self, index: Any, value: Any) -> None:
        self.written.append((index, value))
        super().__setitem__(index, value)


cids = st.integers(-3, 6) | st.sampled_from([*CID_RANGE])
good_lines = st.builds(line, cids, st.sampled_from([0.0, 1.5]), colour=st.sampled_from(["red", ""]))
bad_lines = st.sampled_from([b"bad\n", b"{}\n", b"\n", b" \r\n", b'{"cid":1,"time":1e400}\n'])
all_steps = st.sampled_from(
    [
        ("Even", {}),
        ("EvenBatch", {}),
        ("BrokenBatch", {}),
        ("BrokenBatch", {"returns": "too few"}),
        ("Editor", {"add": {"time": 7.0}, "remove": ("colour",)}),
        ("Editor", {"add": {"cid": 3}, "reads": ("colour",)}),
        ("Editor", {"remove": ("cid",)}),
        ("Raises", {}),
        ("RaisesOnce", {}),
        ("WantsColour", {}),
        ("Garbage", {}),
        ("Unencodable", {}),
        ("Tally", {}),
        ("Numbers", {}),
    ]
)
modes = st.sampled_from(["enabled", "enabled", "shadow", "disabled"])
chains = st.lists(st.tuples(all_steps, modes), max_size=4)


@given(st.lists(good_lines | bad_lines, max_size=10).map(b"".join), chains)
def test_every_event_is_accounted_for_whatever_the_steps_do(
    payload: bytes, chosen: list[tuple[tuple[str, dict[str, Any]], str]]
) -> None:
    steps = [
        step(f"{index}", use=f"tests.core.steps:{name}", mode=mode, **params)
        for index, ((name, params), mode) in enumerate(chosen)
    ]
    result = run(payload, *steps)  # which checks the sum
    enabled = {each.name for each in steps if each.mode == "enabled"}
    shadow = {each.name for each in steps if each.mode == "shadow"}
    assert (set(result.dropped), set(result.shadow)) == (enabled, shadow)
    assert {letter.middleware for letter in result.dead} <= enabled | {None}
    rows = [letter.row for letter in result.dead]
    assert rows == sorted(set(rows))
    if not any(name in {"Editor", "Numbers"} for (name, _), _ in chosen):
        came = payload.splitlines(keepends=True)
        assert all(left in came for left in result.kept.splitlines(keepends=True))


@given(
    st.lists(
        st.builds(
            DeadLetter,
            row=st.integers(0, 2**40),
            event=st.binary(),
            reason=st.text(),
            middleware=st.none() | st.text(),
            attempts=st.integers(0, 9),
            traceback=st.none() | st.just("\udc80 is no character"),
        )
    ),
    st.dictionaries(st.text(), st.integers(0, 9)),
)
def test_a_result_travels_between_processes_whole(
    dead: list[DeadLetter], counts: dict[str, int]
) -> None:
    result = Result(7, 6, 5, b"kept", dead, b"\x01", dict(counts), {"a": 1}, {"b": dict(counts)})
    assert pickle.loads(pickle.dumps(result)) == result  # noqa: S301 - our own
