"""The border: each bad line has its own reason and stops nothing around it."""

from __future__ import annotations

import pytest

from middleware.errors import ConfigurationError
from service.block import Part
from service.border import Border, Lines
from service.scan import NESTING
from service.settings import EventSettings
from tests.core.examples import EVENTS, NOW, line, part_of

DAY = 86_400.0
GOOD = line(1, 5.0)


pytestmark = pytest.mark.usefixtures("blocks_of_either_size")


def read(payload: bytes, settings: EventSettings = EVENTS) -> Lines:
    return Border(settings).read(payload, (part_of(payload),))


def reasons(payload: bytes, settings: EventSettings = EVENTS) -> dict[int, str]:
    return {bad.row: bad.reason for bad in read(payload, settings).bad}


@pytest.mark.parametrize(
    ("factor", "unit"), [(1e3, "milliseconds"), (1e6, "microseconds"), (1e9, "nanoseconds")]
)
def test_a_time_in_another_unit_is_told_as_such(factor: float, unit: str) -> None:
    payload = line(1, 1.7e9 * factor)
    (bad,) = Border(EVENTS).read(payload, (Part("push", 1, 1, received=1.7e9),)).bad
    assert bad.reason.endswith(f"max_future allows: it looks like {unit}, and is read as seconds")


@pytest.mark.parametrize(
    ("bad", "reason"),
    [
        (b"hello", "not JSON"),
        (b'{"cid":1,"time":2', "not JSON"),
        (b'{"cid":1,"time":2,}', "not JSON"),
        (b'  "cid": 1,', "each event is one JSON object on a line of its own"),
        (b"[", "not JSON: Input data was truncated; each event is one JSON object on a line"),
        (b'{"cid":1,"time":1},', "each event is one JSON object on a line of its own"),
        (b"7", "not a JSON object; each event is one JSON object on a line of its own"),
        (b"null", "not a JSON object"),
        (b'"cid"', "not a JSON object"),
        (b'[{"cid":1,"time":2}]', "not a JSON object"),
        (b'{"cid":1,"time":2}{"cid":3,"time":4}', "not JSON: trailing characters"),
        (b'{"cid":1,"time":2} {"cid":3,"time":4}', "not JSON: trailing characters"),
        (b'\xef\xbb\xbf{"cid":1,"time":2}', "not JSON: it begins with a byte order mark"),
        (b"\x1f\x8b\x08\x00", "invalid UTF-8 at byte 1: it is compressed, unpack it first"),
        (
            '{"cid":1,"time":2}'.encode("utf-16-le"),
            "not JSON: it looks like UTF-16, save it as UTF-8",
        ),
        (
            '{"cid":1,"time":2}'.encode("utf-16"),
            "at byte 0: it looks like UTF-16, save it as UTF-8",
        ),
        (b"{}", 'no "cid"'),
        (b'{"id":1,"ts":2}', 'no "cid" (it has "id", "ts"; [event] cid names the field)'),
        (
            b'{"cid":1,"ts":2,"a":3,"b":4,"c":5,"d":6}',
            'no "time" (it has "cid", "ts", "a", "b", "c", ...; [event] time names the field)',
        ),
        (b'{"Cid":1,"time":2}', 'no "cid"'),
        (b'{"cid":1.0,"time":2}', '"cid" is not an integer'),
        (b'{"cid":1e3,"time":2}', '"cid" is not an integer'),
        (b'{"cid":true,"time":2}', '"cid" is not an integer'),
        (b'{"cid":null,"time":2}', '"cid" is not an integer'),
        (b'{"cid":"1","time":2}', '"cid" is not an integer'),
        (b'{"cid":9223372036854775808,"time":2}', '"cid" does not fit 64 bits'),
        (b'{"cid":-9223372036854775809,"time":2}', '"cid" does not fit 64 bits'),
        (b'{"cid":1}', 'no "time"'),
        (b'{"cid":1,"time":null}', '"time" is not a number'),
        (b'{"cid":1,"time":"2"}', '"time" is not a number'),
        (b'{"cid":1,"time":true}', '"time" is not a number'),
        (b'{"cid":1,"time":[2]}', '"time" is not a number'),
        (b'{"cid":1,"time":NaN}', "not JSON"),
        (b'{"cid":1,"time":Infinity}', "not JSON"),
        (b'{"cid":1,"time":-Infinity}', "not JSON"),
        (b'{"cid":1,"time":1e400}', '"time" is not finite'),
        (b'{"cid":1,"time":-1e400}', '"time" is not finite'),
        (b'{"cid":1,"time":9999999999}', "further ahead than max_future allows"),
        (b'{"cid":1,"time":2,"name":"\xff"}', "invalid UTF-8 at byte 26"),
        (b'{"cid":1,"time":2,"\xc3":0}', "invalid UTF-8"),
        (b'{"cid":1,"time":2,"name":"\xed\xa0\x80"}', "invalid UTF-8"),
        (b'{"cid":1,"time":2,"x":' + b"[" * 5000 + b"]" * 5000 + b"}", "nested too deeply"),
        (b'{"a":' * 5000 + b"1" + b"}" * 5000, "nested too deeply"),
    ],
)
def test_a_bad_line_has_its_reason_and_stops_nothing_around_it(bad: bytes, reason: str) -> None:
    lines = read(GOOD + bad + b"\n" + line(2, 6.0))
    assert [(each.row, reason in each.reason) for each in lines.bad] == [(1, True)], lines.bad
    assert lines.rows.tolist() == [0, 2]
    assert lines.cid.tolist() == [1, 2]
    assert lines.time.tolist() == [5.0, 6.0]
    assert lines.accepted == 3
    assert lines.line(1) == bad


def test_one_bad_line_costs_the_others_of_a_large_block_nothing() -> None:
    asked: list[int] = []
    good = [line(number, float(number)) for number in range(2_000)]
    payload = b"".join([*good[:1_234], b"bad\n", *good[1_234:]])
    lines = Border(EVENTS, ["text"]).read(payload, (), asked.append)
    assert [bad.row for bad in lines.bad] == [1_234]
    assert lines.cid.tolist() == [event.cid for event in lines.decoded] == list(range(2_000))
    assert lines.line(int(lines.rows[1_500])) == good[1_500][:-1]
    assert 1_234 in asked
    assert len(asked) <= 32, "the others were read together"


def test_reading_ends_soon_after_so_many_bad_lines() -> None:
    payload = GOOD + 5_000 * b"bad\n" + GOOD
    lines = Border(EVENTS).read(payload, (), most_bad=10)
    assert [bad.row for bad in lines.bad] == list(range(1, 12))


def test_one_object_over_two_lines_is_two_bad_lines() -> None:
    lines = read(GOOD + b'{"cid":1,\n"time":2}\n' + GOOD)
    assert [bad.row for bad in lines.bad] == [1, 2]
    assert lines.rows.tolist() == [0, 3]


def test_two_objects_on_one_line_never_stand_in_for_a_missing_line() -> None:
    assert list(reasons(b'{"cid":1,"time":2}{"cid":3,"time":4}\n{"cid":5,\n"time":6}\n')) == [
        0,
        1,
        2,
    ]


def test_braces_within_text_confuse_nobody() -> None:
    payload = line(1, 2.0, text="}\n{") + line(3, 4.0, text='{"cid":7}')
    assert read(payload).cid.tolist() == [1, 3]


def test_lines_may_end_in_carriage_returns_and_have_spaces_around() -> None:
    payload = b'{"cid":1,"time":2}\r\n  {"cid":3,"time":4}\t\n'
    lines = read(payload)
    assert lines.cid.tolist() == [1, 3]
    assert lines.line(0) == b'{"cid":1,"time":2}\r'


@pytest.mark.parametrize("blank", [b"", b"\r", b"   ", b"\t \r"])
def test_a_blank_line_is_no_event_at_all_but_keeps_its_row(blank: bytes) -> None:
    lines = read(GOOD + blank + b"\n" + GOOD)
    assert lines.rows.tolist() == [0, 2]
    assert lines.bad == []
    assert lines.accepted == 2


def test_nothing_but_blank_lines_is_no_event() -> None:
    assert read(b"\n\n\n").accepted == 0


def test_the_last_of_two_equal_keys_wins() -> None:
    lines = read(b'{"cid":1,"cid":2,"time":3,"time":4}\n')
    assert (lines.cid.tolist(), lines.time.tolist()) == ([2], [4.0])


def test_a_bad_first_of_two_equal_keys_is_not_blamed_on_another_field() -> None:
    lines = read(b'{"cid":"x","cid":2,"time":3}\n')
    assert all("cid" in bad.reason for bad in lines.bad), lines.bad


def test_escaped_names_of_fields_are_the_same_names() -> None:
    assert read(b'{"\\u0063id":1,"t\\u0069me":2}\n').cid.tolist() == [1]


def test_all_64_bits_of_a_point_are_kept() -> None:
    payload = line(-(2**63)) + line(2**63 - 1) + b'{"cid":-0,"time":0}\n'
    assert read(payload).cid.tolist() == [-(2**63), 2**63 - 1, 0]


def test_a_time_may_be_any_finite_number() -> None:
    payload = b"".join(
        b'{"cid":1,"time":%b}\n' % each
        for each in (b"0", b"-0.0", b"1E3", b"-1e308", b"5e-324", b"1e-400", b"-" + b"9" * 30)
    )
    assert read(payload).time.tolist() == [0, 0, 1000, -1e308, 5e-324, 0, -1e30]


def test_a_time_of_hundreds_of_digits_is_out_of_range() -> None:
    assert list(reasons(b'{"cid":1,"time":-%b}\n' % (b"9" * 400))) == [0]


def test_max_future_is_measured_from_when_each_part_was_received() -> None:
    payload = line(1, NOW + DAY) + line(2, NOW + DAY + 0.5)
    assert list(reasons(payload)) == [1]
    early = Part("early", 1, 1, NOW)
    late = Part("late", 2, 1, NOW + 10 * DAY)
    three = line(1, NOW + 2 * DAY) + line(2, NOW + 2 * DAY) + line(3, NOW + 12 * DAY)
    bad = Border(EVENTS).read(three, (early, late)).bad
    assert [each.row for each in bad] == [0, 2]
    assert "86400 s further ahead" in bad[0].reason


def test_max_future_can_be_switched_off() -> None:
    assert not reasons(line(1, 1e300), EventSettings(max_future="off"))


def test_an_event_may_be_as_long_as_max_event_bytes_and_no_longer() -> None:
    settings = EventSettings(max_event_bytes=100)
    fits = line(1, 0.0, x="")
    fits = line(1, 0.0, x="x" * (101 - len(fits)))
    too_long = line(1, 0.0, x="x" * (102 - len(line(1, 0.0, x=""))))
    assert reasons(fits + too_long, settings) == {1: "longer than max_event_bytes (100 bytes)"}


def test_the_two_fields_may_have_other_names() -> None:
    settings = EventSettings(cid="point", time="at")
    payload = b'{"point":7,"at":8,"cid":"mine","time":null}\n{"cid":1,"time":2}\n'
    lines = read(payload, settings)
    assert (lines.cid.tolist(), lines.time.tolist()) == ([7], [8.0])
    assert [bad.reason for bad in lines.bad] == [
        'no "point" (it has "cid", "time"; [event] cid names the field)'
    ]


def test_a_middleware_knows_the_two_fields_by_one_name_only() -> None:
    with pytest.raises(ConfigurationError, match='knows this field as "cid"'):
        Border(EventSettings(cid="point"), ["point"])


def test_time_may_be_rfc_3339_text() -> None:
    settings = EventSettings(time_format="rfc3339")
    payload = b"".join(
        b'{"cid":1,"time":%b}\n' % each
        for each in (
            b'"1970-01-01T00:00:10Z"',
            b'"1970-01-01T01:00:10.5+01:00"',
            b'"0001-01-01T00:00:00+23:59"',
            b'"1970-01-01T00:00:10"',
            b"10",
            b'"yesterday"',
            b'"2200-01-01T00:00:00Z"',
        )
    )
    lines = read(payload, settings)
    assert lines.time.tolist() == [10.0, 10.5, -62_135_683_140.0]
    assert [bad.row for bad in lines.bad] == [3, 4, 5, 6]
    assert {bad.reason for bad in lines.bad[:3]} == {
        '"time" is not an RFC 3339 time with its offset from UTC'
    }
    assert "max_future" in lines.bad[3].reason


def test_a_field_that_no_reader_can_hold_is_bad_only_where_it_is_read() -> None:
    payload = b'{"cid":1,"time":0,"huge":1e400}\n'
    part = (part_of(payload),)
    assert Border(EVENTS).read(payload, part).rows.tolist() == [0]
    for reader in (Border(EVENTS, ["huge"]), Border(EVENTS, whole=True)):
        (bad,) = reader.read(payload, part).bad
        assert "out of range" in bad.reason


def test_a_nested_event_is_good_or_bad_whatever_lines_are_around_it() -> None:
    for depth in range(800, 1000):
        nested = b'{"cid":1,"time":2,"x":' + b"[" * depth + b"]" * depth + b"}\n"
        alone, beside = read(nested), read(nested + b"bad\n")
        assert alone.rows.tolist() == beside.rows.tolist(), depth


def test_a_line_too_deep_is_bad_among_many_that_are_not() -> None:
    def nested(depth: int) -> bytes:
        return b'{"cid":1,"time":2,"x":' + b"[" * depth + b"]" * depth + b"}\n"

    good = line(1, 2.0, tags=["a", [], {}]) * 20
    assert reasons(good + nested(NESTING) + good) == {
        20: f"nested too deeply (more than {NESTING} levels)"
    }
    assert not reasons(good + nested(NESTING - 1) + good)
    for others in (b"", line(1), line(1) * 5):
        assert list(reasons(nested(NESTING) + others)) == [0]
        assert not reasons(nested(NESTING - 1) + others)


def test_many_short_events_are_too_many_brackets_for_none_of_them() -> None:
    payload = line(1) * 200
    assert read(payload).cid.tolist() == [1] * 200
    assert read(line(1, x=[[]] * NESTING) + payload).accepted == 201


def test_a_time_that_is_too_large_is_refused_without_max_future_too() -> None:
    settings = EventSettings(max_future="off")
    bad = b'{"cid":1,"time":1e309}\n{"cid":1,"time":-1e309}\n'
    assert list(reasons(GOOD + bad + line(2, 1.7976931348623157e308), settings)) == [1, 2]
