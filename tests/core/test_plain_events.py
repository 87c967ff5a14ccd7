"""Plain events are read as columns, and every block as if there were no such way to read it."""

from __future__ import annotations

import json
import random
import struct
from collections.abc import Iterator
from typing import Any

import numpy as np
import pytest
from hypothesis import example, given
from hypothesis import strategies as st

from service import scan
from service.block import Part
from service.border import Border, Lines
from service.plain_events import PlainEvents
from service.settings import EventSettings
from tests.core.examples import NOW, run, step

SETTINGS = EventSettings(max_event_bytes=60, max_future="off")
ANY_LENGTH = EventSettings(max_future="off")


@pytest.fixture(autouse=True, scope="module")
def _few_lines_are_enough() -> Iterator[None]:
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(PlainEvents, "FEW", 0)
        patch.setattr(scan, "LEAST_BYTES", 0)
        yield


def columns(payload: bytes, settings: EventSettings = SETTINGS) -> Any:
    """Return the points and times of a block of plain events, None when it is not read as one."""
    view = np.frombuffer(payload, np.uint8)
    stops = np.flatnonzero(view == ord("\n"))
    starts = np.concatenate([[0], stops[:-1] + 1])
    found = PlainEvents(settings).read(payload, view, starts, stops)
    return None if found is None else tuple(column.tolist() for column in found)


def read(payload: bytes, settings: EventSettings, *, decoded: bool) -> Lines:
    """Read a block, with an object for each event if ``decoded``."""
    with pytest.MonkeyPatch.context() as patch:
        if decoded:
            patch.setattr(PlainEvents, "read", lambda *_: None)
        return Border(settings).read(payload, (Part("a", payload.count(b"\n"), 1, NOW),))


def content(lines: Lines) -> tuple[Any, ...]:
    """Return all that a block's lines say, the numbers bit for bit and with their types."""
    arrays = (lines.starts, lines.stops, lines.rows, lines.cid, lines.time)
    return *((each.dtype, each.tobytes()) for each in arrays), lines.bad, lines.payload


def check_same(payload: bytes, settings: EventSettings = SETTINGS) -> None:
    fast = read(payload, settings, decoded=False)
    assert content(fast) == content(read(payload, settings, decoded=True))
    fast.cid[:], fast.time[:] = 0, 0  # a changed event is written there


def plain(time: str, cid: str = "7") -> bytes:
    return f'{{"cid":{cid},"time":{time}}}\n'.encode()


@pytest.mark.parametrize(
    "layout",
    [
        '{"cid":%s,"time":%s}',
        '{"cid": %s, "time": %s}',
        '{"time":%s,"cid":%s}',
        '{"time": %s, "cid": %s}',
    ],
)
def test_plain_events_are_read_without_an_object_each(layout: str) -> None:
    pairs = [(1, 2.5), (-131_000_000_201, 1_700_000_000.123), (0, 3.0), (2**63 - 1, 0.0)]
    swapped = layout.startswith('{"time"')
    texts = [layout % (pair[::-1] if swapped else pair) + "\n" for pair in pairs]
    payload = "".join(texts).encode()
    assert columns(payload) == tuple(map(list, zip(*pairs, strict=True)))
    lines = read(payload, SETTINGS, decoded=False)
    assert (len(lines.rows), len(lines.decoded)) == (4, 0)
    check_same(payload)


def test_the_names_are_those_of_the_configuration() -> None:
    for cid, time in (("id", "t"), ("c", "time,of"), ("größe", "{}."), ("timestamp_of_point", "a")):
        settings = EventSettings(cid=cid, time=time, max_future="off")
        fields = [{cid: 1, time: 2.5}, {cid: 123_456_789_012, time: 1_700_000_000.25}]
        for separators in ((",", ":"), (", ", ": ")):
            each = [json.dumps(e, ensure_ascii=False, separators=separators) for e in fields]
            payload = "".join(f"{text}\n" for text in each).encode()
            check_same(payload, settings)
            if "," not in time:
                assert columns(payload, settings) == ([1, 123_456_789_012], [2.5, 1_700_000_000.25])


def test_very_long_names_are_read_the_other_way() -> None:
    settings = EventSettings(cid="x" * 40)
    payload = b'{"%b":5,"time":6.0}\n' % (b"x" * 40)
    assert columns(payload, settings) is None
    assert read(payload, settings, decoded=False).cid.tolist() == [5]


def test_very_long_numbers_are_read_the_other_way() -> None:
    for digits in (20, 21, 100, 5_000):
        for odd in (plain("1" * digits), plain(f"0.{'1' * digits}"), plain("1", "1" * digits)):
            payload = plain("1") + odd + plain("2")
            assert columns(payload, ANY_LENGTH) is None
            check_same(payload, ANY_LENGTH)


def test_few_events_are_read_the_other_way() -> None:
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(PlainEvents, "FEW", 3)
        assert columns(plain("1") * 2) is None
        assert columns(plain("1") * 3) == ([7] * 3, [1.0] * 3)


@pytest.mark.parametrize(
    "odd",
    [
        plain("1.0", "007"),
        plain("1.0", "-"),
        plain("1.0", "-01"),
        plain("1.0", "00"),
        plain("1.0", "1-2"),
        plain("1.0", "9223372036854775808"),
        plain("1.0", "18446744073709551617"),
        plain("1.0", "1.0"),
        plain("1.0", "1e3"),
        plain("1.0", ""),
        plain("1."),
        plain(".5"),
        plain("."),
        plain(""),
        plain("00"),
        plain("01.5"),
        plain("-1"),
        plain("1.2.3"),
        plain("1e5"),
        plain("1.0e3"),
        plain("0.12345678"),
        plain("9007199254740993"),
        plain("12.123456789012345678"),
        plain("1/5"),
        plain("1:5"),
        plain("1\x005"),
        plain("\u0131"),
        plain("1 "),
        plain(" 1"),
        plain("1")[:-1] + b"\r\n",
        b" " + plain("1"),
        b"\n",
        plain("1").replace(b"cid", b"Cid"),
        plain("1").replace(b"time", b"t\xffme"),
        plain("1").replace(b"time", b"cid"),
        plain("1").replace(b"c", b"\\u0063"),
        plain("1")[:-2] + b"\n",
        plain("1")[:-2] + b"]\n",
        plain("1")[1:],
        plain("1").replace(b'"time":', b'"name":'),
        b'{"time":1,"cid":2}\n',
        b'{"cid":1}\n{"cid":1,"time":2,"x":3}\n',
        b'{"cid":1,\n"time":2}\n',
        b'{"cid":1,"time":2,"x":3}\n',
        plain("0" * 60),
    ],
)
def test_one_line_that_is_not_plain_sends_its_block_the_other_way(odd: bytes) -> None:
    good = plain("1700000000.123", "131000000201")
    assert columns(good * 9) is not None
    for payload in (odd + good * 9, good * 5 + odd + good * 4, good * 9 + odd):
        assert columns(payload) is None
        check_same(payload)


@pytest.mark.parametrize("place", range(len(plain("1700000000.123", "131000000201"))))
def test_no_byte_goes_unseen(place: int) -> None:
    good = plain("1700000000.123", "131000000201")
    for byte in range(256):
        odd = good[:place] + bytes([byte]) + good[place + 1 :]
        check_same(good + odd + good)


def test_a_time_has_as_many_bits_as_it_can() -> None:
    chance = random.Random(53)
    texts = [repr(chance.uniform(1e9, 2e9)) for _ in range(50_000)]
    texts = [text for text in texts if len(text.partition(".")[2]) <= 7]
    texts += [f"{number / 1000}" for number in range(10_000)]
    found = columns(b"".join(map(plain, texts)), ANY_LENGTH)
    assert found is not None
    assert found[1] == [float(text) for text in texts]
    assert sum(len(text) > 17 for text in texts) > 10_000  # more digits than 2**53 has


@st.composite
def halfway(draw: st.DrawFn) -> str:
    """Return a time exactly between two floats, or the nearest below or above it in writing."""
    whole = draw(st.integers(2**44, 2**53))
    decimals = draw(st.integers(1, 5))
    half = (2 * draw(st.integers(0, 2**53)) + 1) * 5**decimals  # a multiple of 2**-decimals
    return f"{whole}.{(half + draw(st.integers(-1, 1))) % 10**decimals:0{decimals}}"


sizes = st.integers(0, 20).flatmap(lambda digits: st.integers(0, 10**digits))
near_limits = st.sampled_from([2**53, 2**63, 2**64, 10**18, 10**19])
integers = (
    st.builds(lambda sign, number: sign * number, st.sampled_from([1, -1]), sizes)
    | st.builds(lambda number, more: number + more, near_limits, st.integers(-2, 2))
    | st.builds(lambda number, more: -number + more, near_limits, st.integers(-2, 2))
)
odd_numbers = st.sampled_from(["-0", "007", "1e5", "1.0e3", "1.", ".5", "-", "", "null", '"1"'])
fractions = st.text("0123456789", min_size=1, max_size=9)
times = (
    st.builds("{}.{}".format, sizes, fractions)
    | st.builds("{}.{}".format, st.integers(1_600_000_000, 1_900_000_000), fractions)
    | halfway()
    | sizes.map(str)
)


@st.composite
def plain_lines(draw: st.DrawFn) -> bytes:
    cid, time = draw(integers | sizes), draw(times)
    return plain(time, str(cid))


@st.composite
def nearly_plain_lines(draw: st.DrawFn) -> bytes:
    """Return a line that is plain but for one or two things, if at all."""
    cid, time = draw(integers.map(str) | odd_numbers), draw(times | integers.map(str) | odd_numbers)
    fields = draw(
        st.permutations([f'"cid":{cid}', f'"time":{time}'])
        | st.sampled_from([[f'"cid":{cid}'], [f'"cid":{cid}', f'"cid":{time}', '"time":1']])
    )
    text = "{" + draw(st.sampled_from([",", ", "])).join(fields) + "}"
    text = text.replace(":", draw(st.sampled_from([":", ":", ": ", " :"])))
    data = bytearray(text.encode())
    if draw(st.booleans()):
        place = draw(st.integers(0, len(data)))
        data[place : place + draw(st.integers(0, 2))] = draw(
            st.sampled_from([b"", b"\xff", b",", b".", b"0", b"}", b" ", b"\n", b"\\u0063", b"\0"])
        )
    return bytes(data) + draw(st.sampled_from([b"\n", b"\n", b"\r\n", b"\n\n", b" \n"]))


@given(st.lists(plain_lines(), min_size=1, max_size=8))
@example(
    [plain("9007199254740991"), plain("0"), plain("1700000000.1234567", "-9223372036854775807")]
)
@example([plain("4503599627370497.5"), plain("9007199254740992.5"), plain("9007199254740993.5")])
def test_numbers_are_read_as_always(block: list[bytes]) -> None:
    check_same(b"".join(block), ANY_LENGTH)


@given(st.lists(plain_lines() | nearly_plain_lines(), min_size=1, max_size=8))
def test_all_blocks_are_read_as_always(block: list[bytes]) -> None:
    check_same(b"".join(block))


@given(times, st.integers(0, 2**63 - 1))
def test_what_is_read_is_the_nearest_float(time: str, cid: int) -> None:
    found = columns(plain(time, str(cid)), ANY_LENGTH)
    if found is not None:
        (point,), (moment,) = found
        assert (point, struct.pack("d", moment)) == (cid, struct.pack("d", float(time)))


def test_an_event_too_far_ahead_or_too_long_is_turned_away() -> None:
    settings = EventSettings(max_future=100.0, max_event_bytes=25)
    payload = plain("1") + plain(f"{NOW + 101}") + plain("2" * 4) + plain("0" * 30) + plain("3")
    assert [bad.row for bad in read(payload, settings, decoded=False).bad] == [1, 3]
    check_same(payload, settings)
    check_same(plain("1") + plain(f"{NOW + 101}"), settings)
    check_same(plain("1") + plain("1.25", "131000000201"), settings)


def test_other_fields_are_read_where_a_step_wants_them() -> None:
    payload = plain("1") * 3
    for border in (Border(SETTINGS, ["name"]), Border(SETTINGS, whole=True)):
        assert len(border.read(payload, ()).decoded) == 3


def test_plain_events_can_be_dropped_and_changed() -> None:
    payload = b"".join(plain("5.0", str(cid)) for cid in range(6))
    editor = step("Editor", reads=("cid", "time"), add={"cid": 99, "time": 7.5}, cids=(2, 5))
    result = run(payload, editor, step("Even"))
    assert result.kept == plain("5.0", "0") + plain("5.0", "4")
    result = run(payload, step("Even"), editor)
    assert result.kept == plain("5.0", "0") + plain("7.5", "99") + plain("5.0", "4")
