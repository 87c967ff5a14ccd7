"""The body of a post: an object, an array or NDJSON, as lines with the events' own bytes."""

from __future__ import annotations

import json

import pytest
from hypothesis import given
from hypothesis import strategies as st

from service.sources.posted_body import BodyError, as_lines

UGLY = (
    b'{ "cid" : 1,\t"time":1.50e0, "text":"\\u00e9\xc3\xa9 [{", '
    b'"big":123456789012345678901234567890 }'
)


def test_one_object_is_one_line() -> None:
    for body in (UGLY, UGLY + b"\n", b" \n" + UGLY + b"\r\n "):
        assert as_lines(body).split() == UGLY.split()
        assert [line for line in as_lines(body).splitlines() if line.strip()] == [
            each for each in body.splitlines() if each.strip()
        ]


def test_an_object_over_several_lines_is_put_on_one() -> None:
    pretty = b'{\n  "cid": 1,\r\n  "time": 1.50e0,\n  "text": "a, b: \\n c",\n "x": [\n1,\n2]}\n'
    assert as_lines(pretty) == b'{"cid":1,"time":1.50e0,"text":"a, b: \\n c","x":[1,2]}\n'


def test_ndjson_stays_as_it_is() -> None:
    body = UGLY + b"\r\n\n" + b'{"cid":2}\n' + b"bad\n" + b"[1]\n"
    assert as_lines(body) == body
    assert as_lines(body.rstrip()) == body


def test_a_first_line_that_is_bad_does_not_make_it_anything_else() -> None:
    body = b'bad\n{"cid":1,"time":2}\n{"cid":3,"time":4}\n'
    assert as_lines(body) == body


def test_an_array_is_a_line_for_each_element_with_its_own_bytes() -> None:
    assert as_lines(b"\n [" + UGLY + b" ,7, null," + UGLY + b"]\n") == (
        UGLY + b"\n7\nnull\n" + UGLY + b"\n"
    )


def test_the_elements_of_a_pretty_array_are_put_on_a_line_each() -> None:
    body = json.dumps([{"cid": 1, "x": {"y": [1, 2]}}, [3], "four"], indent=2).encode()
    assert as_lines(body) == b'{"cid":1,"x":{"y":[1,2]}}\n[3]\n"four"\n'


def test_an_empty_array_is_no_line() -> None:
    assert as_lines(b" [ ] ").strip() == b""


@pytest.mark.parametrize("body", [b"", b"  ", b"\r\n\n"])
def test_an_empty_body_is_refused(body: bytes) -> None:
    with pytest.raises(BodyError, match="empty"):
        as_lines(body)


@pytest.mark.parametrize(
    "body",
    [
        b"[",
        b"[1,",
        b"[1] [2]",
        b"[1]x",
        b"[[[" * 5000,
        b"{" * 5000,
        b"\xff",
        b"{\n",
        b"[\n1\n",
        b"]",
    ],
)
def test_what_cannot_be_read_is_passed_on_for_the_border_to_refuse(body: bytes) -> None:
    assert as_lines(body).rstrip(b"\n") == body.rstrip(b"\n")


def test_an_array_of_events_that_are_bad_by_themselves_spoils_none_of_the_others() -> None:
    hard = b'{"cid":1,"time":1e400}'
    body = b"[" + hard + b',{"text":"\xff"},\n{"cid":2,\n"time":"\xff"}]'
    assert as_lines(body).splitlines() == [hard, b'{"text":"\xff"}', b'{"cid":2,"time":"\xff"}']


values = st.recursive(
    st.none()
    | st.booleans()
    | st.integers()
    | st.floats(allow_nan=False, allow_infinity=False)
    | st.text(),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(), inner, max_size=3),
    max_leaves=8,
)
objects = st.dictionaries(st.text(max_size=5), values, min_size=1, max_size=4)
indents = st.none() | st.integers(0, 3)


@given(st.lists(objects, min_size=1, max_size=4), indents, st.booleans())
def test_whatever_the_layout_the_events_are_the_same(
    events: list[dict[str, object]], indent: int | None, ascii_only: bool
) -> None:
    array = json.dumps(events, indent=indent, ensure_ascii=ascii_only).encode(errors="replace")
    single = json.dumps(events[0], indent=indent, ensure_ascii=ascii_only).encode(errors="replace")
    if not ascii_only:  # what cannot be encoded was replaced
        events = json.loads(array)
    assert [json.loads(line) for line in as_lines(array).split(b"\n")[:-1]] == events
    assert [json.loads(line) for line in as_lines(single).split(b"\n")[:-1]] == events[:1]
