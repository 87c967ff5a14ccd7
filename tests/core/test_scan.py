"""The scan of a block's bytes: the same places as byte by byte, the same depth as a JSON reader."""

from __future__ import annotations

import json
from collections.abc import Iterator
from typing import Any

import numpy as np
import pytest
from hypothesis import example, given
from hypothesis import strategies as st

from service import scan
from service.scan import NESTING, depth, is_flat, places

LINE_END = ord("\n")


@pytest.fixture(autouse=True, scope="module", params=[0, scan.LEAST_BYTES], ids=["large", "small"])
def _read_as_blocks_of_either_size(request: pytest.FixtureRequest) -> Iterator[None]:
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(scan, "LEAST_BYTES", request.param)
        yield


def found(payload: bytes) -> list[int]:
    ends = places(np.frombuffer(payload, np.uint8), LINE_END)
    assert ends.dtype == np.int64
    return list(map(int, ends))


@given(st.lists(st.integers(0, 40), max_size=40), st.integers(0, 20))
@example([], 0)
@example([7, 0, 7], 0)
def test_all_places_of_a_byte_are_found(lengths: list[int], rest: int) -> None:
    payload = b"".join(b"x" * length + b"\n" for length in lengths) + b"\x0b" * rest
    assert found(payload) == [i for i, byte in enumerate(payload) if byte == LINE_END]


@given(st.binary(max_size=64) | st.lists(st.sampled_from([b"\n", b"\x0b", b"\x8a"])).map(b"".join))
def test_a_byte_is_not_mistaken_for_another(payload: bytes) -> None:
    assert found(payload) == [i for i, byte in enumerate(payload) if byte == LINE_END]


def flat(*lines: bytes) -> bool:
    view = np.frombuffer(b"".join(line + b"\n" for line in lines), np.uint8)
    stops = np.flatnonzero(view == LINE_END)
    starts = np.concatenate([[0], stops[:-1] + 1]) if len(stops) else stops
    return is_flat(view, starts, stops)


def levels(value: Any) -> int:
    """Return how many levels of objects and lists a value has."""
    if isinstance(value, dict):
        return 1 + max(map(levels, value.values()), default=0)
    return 1 + max(map(levels, value), default=0) if isinstance(value, list) else 0


def event(depth: int, *, key: bool = False, around: str = "", width: int = 0) -> bytes:
    """Return an event of this many levels, with text before them and lists beside them."""
    opened, closed = ('{"a":', "}") if key else ("[", "]")
    inner = opened * (depth - 1) + "1" + closed * (depth - 1)
    beside = ",".join(["[]"] * width)
    return f'{{"text":{json.dumps(around)},"beside":[{beside}],"x":{inner}}}'.encode()


depths = st.integers(2, 5) | st.integers(NESTING - 1, NESTING + 2)
texts = st.sampled_from(["", "x" * 300, "x" * 3_000, "[" * 150, "]" * 150, '"[' * 60, "\\"])
events = st.builds(
    lambda depth, key, around, width: event(depth, key=key, around=around, width=width),
    depths,
    st.booleans(),
    texts,
    st.sampled_from([0, 2, 90, 110]),
)


def wrapped(inner: Any, layers: list[str]) -> Any:
    """Return the value within so many lists and objects more, each with a text beside it."""
    for text in layers:
        inner = {text: inner, "": [text]} if len(text) % 2 else [text, inner, {}]
    return inner


ugly_texts = st.text('[]{}"\\\n:,x\u00e9', max_size=6)


@given(st.lists(ugly_texts, max_size=12), st.booleans(), st.integers(0, 3))
def test_the_depth_of_a_line_is_that_of_its_value(
    layers: list[str],
    ensure_ascii: bool,
    spaces: int,
) -> None:
    value = wrapped([[]] * NESTING, layers)
    line = json.dumps(value, ensure_ascii=ensure_ascii, indent=spaces or None)
    assert depth(line.encode()) == levels(value)


@given(st.lists(events, max_size=6))
def test_a_block_is_flat_when_each_of_its_lines_is(lines: list[bytes]) -> None:
    assert flat(*lines) == all(levels(json.loads(line)) <= NESTING for line in lines)


@pytest.mark.parametrize("before", [0, 1, 900, 1_000, 1_023, 1_024, 2_047, 5_000])
def test_a_deep_line_is_found_wherever_it_lies(before: int) -> None:
    padding = b'{"a":"%b"}' % (b"x" * before)
    for deep in (event(NESTING + 1), event(NESTING + 1, around="x" * 2_000)):
        assert not flat(padding, deep, padding)
        assert not flat(deep)
    assert flat(padding, event(NESTING), padding)


@pytest.mark.parametrize("gap", [1, 9, 10, 11, 50, 200])
def test_a_deep_line_is_found_however_long_it_is(gap: int) -> None:
    opened = (b'{"%b":' % (b"k" * gap)) * (NESTING + 1)
    assert not flat(b'{"a":1}', opened + b"1" + b"}" * (NESTING + 1), b'{"a":1}')


def test_a_deep_line_may_be_as_short_as_its_brackets() -> None:
    def shortest(depth: int) -> bytes:
        return b'{"":' + b"[" * (depth - 1) + b"]" * (depth - 1) + b"}"

    assert not flat(shortest(NESTING + 1))
    assert flat(shortest(NESTING))


def test_many_lists_in_each_of_many_lines_are_flat() -> None:
    assert flat(*[event(2, width=40)] * 1_000)
    assert flat(*[event(3, width=NESTING + 10)] * 100)
    assert not flat(*[event(2, width=40)] * 1_000, event(NESTING + 1), *[event(2, width=40)] * 9)
