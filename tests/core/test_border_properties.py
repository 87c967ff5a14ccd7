"""The border agrees with a plain json.loads, whichever of its ways it takes."""

from __future__ import annotations

import json
import math
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from service.block import Part
from service.border import Border, Lines
from service.settings import EventSettings
from tests.core.examples import NOW

LONGEST = 200
SETTINGS = EventSettings(max_event_bytes=LONGEST, max_future=100.0)


pytestmark = pytest.mark.usefixtures("blocks_of_either_size")


def oracle(line: bytes, latest: float) -> tuple[int, float] | None:
    """Return a line's point and time, None when it is no good event."""

    def refuse(constant: str) -> Any:
        raise ValueError(constant)

    if len(line) > LONGEST:
        return None
    try:
        event = json.loads(line.decode(), parse_constant=refuse)
        cid, time = event["cid"], event["time"]
    except (ValueError, KeyError, TypeError):
        return None
    good = (
        type(cid) is int
        and -(2**63) <= cid < 2**63
        and type(time) in {int, float}
        and math.isfinite(float(time))
        and time <= latest
    )
    return (cid, float(time)) if good else None


texts = st.text(st.characters(codec="utf-8", exclude_categories=["Cs"]), max_size=8)
values = st.recursive(
    st.none() | st.booleans() | st.integers(-(2**70), 2**70) | texts | st.floats(-1e9, 1e9),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(texts, inner, max_size=3),
    max_leaves=5,
)
near_limits = st.sampled_from([-(2**63) - 1, -(2**63), 2**63 - 1, 2**63, 2**64])
cids = st.integers(-5, 5) | near_limits | st.sampled_from([1.0, True, "1", None])
times = (
    st.floats(-1e12, NOW + 200, allow_nan=False)
    | st.integers(0, int(NOW) + 200)
    | st.sampled_from([math.nan, math.inf, True, "1", None, 1e308, -1e308])
)


@st.composite
def objects(draw: st.DrawFn) -> bytes:
    """Return an object with most of what an event needs, in any order and layout."""
    fields = [("cid", draw(cids)), ("time", draw(times)), *draw(extras).items()]
    chosen = dict(draw(st.permutations(fields))[: len(fields) - draw(st.sampled_from([0, 0, 1]))])
    separators = draw(st.sampled_from([(",", ":"), (", ", ": "), (" ,\t", " : ")]))
    text = json.dumps(chosen, separators=separators, ensure_ascii=draw(st.booleans()))
    before, after = draw(st.sampled_from(["", " "])), draw(st.sampled_from(["", "\r", " ", "x"]))
    return (before + text + after).encode()


extras = st.dictionaries(texts.filter(lambda name: name not in {"cid", "time"}), values, max_size=3)
pieces = st.sampled_from([b'{"cid":1,"time":2}', b"{", b"}", b'"', b",", b" ", b"[", b"\xff", b""])
scraps = st.lists(pieces, max_size=4).map(b"".join)
plain = st.builds(lambda cid: b'{"cid":%d,"time":2}' % cid, st.integers(-9, 9))
bad_bytes = st.binary(max_size=12).map(lambda data: data.replace(b"\n", b""))
lines_of_a_block = st.lists(plain | plain | objects() | scraps | bad_bytes, max_size=8)


def found(lines: Lines) -> dict[int, tuple[int, float] | None]:
    """Return, by row, the point and time of each good event, and None for each bad one."""
    good = zip(lines.cid.tolist(), lines.time.tolist(), strict=True)
    outcome: dict[int, tuple[int, float] | None] = dict(zip(lines.rows.tolist(), good, strict=True))
    return outcome | {bad.row: None for bad in lines.bad}


@given(lines_of_a_block, st.integers(0, 8))
def test_both_ways_agree_with_a_plain_reading(block: list[bytes], cut: int) -> None:
    payload = b"".join(line + b"\n" for line in block)
    cut = min(cut, len(block))
    parts = (Part("a", cut, 1, NOW), Part("b", len(block) - cut, 1, NOW - 50))
    limits = [NOW + 100] * cut + [NOW + 50] * (len(block) - cut)
    expected = {
        row: oracle(line, limit)
        for row, (line, limit) in enumerate(zip(block, limits, strict=True))
        if line.strip()
    }
    reader = Border(SETTINGS)
    together = reader.read(payload, parts)
    assert found(together) == expected
    assert found(reader.read(payload, parts, together=False)) == expected
    assert [together.line(row) for row in range(len(block))] == block


@given(st.lists(plain | objects(), max_size=6))
def test_the_fields_read_are_the_fields_written(block: list[bytes]) -> None:
    payload = b"".join(line + b"\n" for line in block)
    reader = Border(SETTINGS, ["name"])
    lines = reader.read(payload, (Part("a", len(block), 1, NOW),))
    for row, decoded in zip(lines.rows.tolist(), lines.decoded, strict=True):
        written = json.loads(block[row])
        value = getattr(decoded, reader.attributes["name"])
        assert ("name" in written) == (value == written.get("name", object()))
