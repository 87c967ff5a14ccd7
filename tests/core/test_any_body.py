"""Any bytes at all, posted as events, are answered: taken in, or refused with what is wrong."""

from __future__ import annotations

import json
import random
import tracemalloc

import msgspec
import pytest
from hypothesis import example, given
from hypothesis import strategies as st
from pydantic import ValidationError

from service.block import Offset, Receipt
from service.event_queue import EventQueue
from service.settings import Settings
from service.sources import posted_body
from service.sources.http import HttpSource
from service.sources.mount import Answer, Later, Request
from service.sources.posted_body import MOST_BAD, BodyError, as_lines
from service.sources.source import Surroundings

pytestmark = pytest.mark.timeout(60)


def answer_to(body: bytes, key: str | None = None, **event: object) -> Answer:
    """Return the answer to a post, with what is taken in accepted at once."""
    settings = Settings.model_validate({"event": event, "sink": [{"name": "out", "use": "stdout"}]})
    surroundings = Surroundings(
        EventQueue(events=10**9, size=10**9), settings, lambda _, why: pytest.fail(why), {}
    )
    HttpSource("push", HttpSource.Params(), surroundings)
    reply = surroundings.mounts["/api/v1/events"](Request("POST", body, key))
    if isinstance(reply, Later):
        reply.awaited.set_result(Receipt(Offset(1, 0), None, 0.0, repeated=key is not None))
        return reply.answer()
    return reply


pieces = st.sampled_from(
    [
        *(
            b'{"cid":1,"time":2}',
            b'{"cid":1,"time":2,"x":[{},"a"]}',
            b'"',
            b"\\",
            b"\\ud800",
            b"\n",
        ),
        *(b"[", b"]", b"{", b"}", b",", b":", b" ", b"1", b"1e999", b"\xff", b"\xed\xa0\x80"),
        *(b"\n", b"\r\n", b"null", b'"cid"', b'"time"', b"[" * 2000, b'{"":' * 2000, b"9" * 400),
    ]
)


@given(st.lists(pieces | st.binary(max_size=4), max_size=20).map(b"".join), st.booleans())
@example(b'{"cid":1,"time":2,"x":"\xff"}\n{"cid":1,"time":2}', False)
@example(b'{\n"cid":1,"time":2,"x":"\xff"}', False)
@example(b'{"\xff":1}\n{"cid":1,"time":2}', True)
def test_any_bytes_are_accepted_or_refused(body: bytes, again: bool) -> None:
    for event in ({}, {"time_format": "rfc3339", "max_future": "off"}):
        answer = answer_to(body, "key" if again else None, **event)
        assert answer.status[:3] in {"202", "400"}
        assert isinstance(json.loads(answer.body), dict)


@pytest.mark.parametrize("where", [0, 1, 2])
def test_invalid_utf8_in_any_line_spoils_that_line_alone(where: int) -> None:
    lines = [b'{"cid":1,"time":2,"x":"a"}'] * 3
    lines[where] = lines[where].replace(b"a", b"\xff")
    answer = json.loads(answer_to(b"\n".join(lines)).body)
    assert (answer["accepted"], answer["dead"]) == (2, 1)
    (error,) = answer["errors"]
    assert error["line"] == where + 1
    assert error["reason"].startswith("invalid UTF-8")


elements = st.recursive(
    st.sampled_from(['"},{"', '"\\\\"', '"\\"],["', "1", "null", '"', "", " ", "{}", "\n{}", "]"]),
    lambda inner: (
        st.lists(inner, max_size=4).map(lambda each: f"[{','.join(each)}]")
        | inner.map(lambda each: f'{{"x":{each},"y": {{}}, "z":[{{}} , {{}}]}}')
    ),
    max_leaves=12,
)


@pytest.mark.parametrize("piece", [1, 7, 40])
@given(st.lists(elements, max_size=12).map(", ".join))
def test_an_array_taken_apart_in_pieces_has_the_same_elements(piece: int, inside: str) -> None:
    text = f"[{inside}]".encode()
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(posted_body, "PIECE", piece)
        found = as_lines(text)
    try:
        whole = msgspec.json.decode(text, type=list[msgspec.Raw])
    except msgspec.DecodeError:
        assert found == text + b"\n"
    else:
        expected = [
            msgspec.json.format(bytes(each), indent=-1) if b"\n" in bytes(each) else bytes(each)
            for each in whole
        ]
        assert found == (b"\n".join(expected) or b"") + b"\n"


def test_an_array_larger_than_a_piece_has_the_same_elements() -> None:
    random.seed(1)
    events = [
        {"cid": number, "time": 2.5, "x": [{"y": number}, {"y": "},{"}] * random.randrange(4)}
        for number in range(4_000)
    ]
    for indent in (None, 1):
        body = json.dumps(events, indent=indent).encode()
        with pytest.MonkeyPatch.context() as patch:
            patch.setattr(posted_body, "PIECE", len(body) // 9)
            assert [json.loads(line) for line in as_lines(body).splitlines()] == events


@pytest.mark.parametrize(
    "body",
    [
        b"x\n" * 2**18,
        b"x" + b"\n" * 2**19,
        b"[" + b"1," * 2**18 + b"1]",
        b"[" + b'"},{",' * 2**17 + b"1]",
        b'{"cid":1,"time":2}\n' + b"nonsense\n" * 2**16,
        b"[" + b'{"x":{}},' * 2**16 + b"{}]",
        b'{"x":[\n' + b"{}," * 2**17 + b"{}]}",
        b'"' + b'\\"' * 2**18 + b"\n1",
        b'["' + b'\\"' * 2**18,
    ],
    ids=[
        *("short lines", "blank lines", "an array of numbers", "an array of texts", "bad lines"),
        *("an array of objects", "an object of objects", "an endless text", "in an array"),
    ],
)  # fmt: skip
def test_a_body_full_of_bad_events_is_refused_without_taking_much_memory(body: bytes) -> None:
    tracemalloc.start()
    try:
        answer = answer_to(body)
        most = tracemalloc.get_traced_memory()[1]
    finally:
        tracemalloc.stop()
    assert answer.status.startswith("400")
    assert most < 2 * len(body) + 16 * 2**20


def test_no_more_is_read_once_too_many_lines_are_bad() -> None:
    good = b'{"cid":1,"time":2}\n'
    answer = answer_to(good + b"nonsense\n" * MOST_BAD + good)
    assert json.loads(answer.body)["dead"] == MOST_BAD
    refused = answer_to(good + b"nonsense\n" * (MOST_BAD + 1) + good)
    assert refused.status.startswith("400")
    assert f"more than {MOST_BAD} lines" in json.loads(refused.body)["detail"]
    with pytest.raises(BodyError, match=f"more than {MOST_BAD} lines"):
        as_lines(b"[" + b"1," * MOST_BAD + b"1]")


@pytest.mark.parametrize(
    "path", ["/livez", "/readyz", "/api/v1/stats", "/api/x", "in", "/in?x", "/ä"]
)
def test_no_source_takes_a_path_that_operators_need_or_nobody_can_ask_for(path: str) -> None:
    with pytest.raises(ValidationError):
        HttpSource.Params(path=path)


@pytest.mark.parametrize("path", ["/api/v1/events", "/api/v1/events/more", "/in", "/"])
def test_a_source_may_take_any_other_path(path: str) -> None:
    assert HttpSource.Params(path=path).path == path
