"""Where an event came from: lines are counted as their producer counts them."""

from __future__ import annotations

import json

from hypothesis import given
from hypothesis import strategies as st

from service.block import Block, FileRange, Part
from service.chain import ChainVersion
from service.origins import Origin, Origins


def block(number: int, payload: bytes | FileRange, *parts: Part) -> Block:
    return Block(number, payload, parts, ChainVersion(1, ()), False)


def of_file(number: int, source: str, path: str, start: int, stop: int) -> Block:
    return block(number, FileRange(path, start, stop), Part(source, None, None, 0.0))


def test_lines_are_counted_along_the_parts_of_a_block() -> None:
    parts = (Part("a", 2, 1, 0.0), Part("b", 3, 10, 1.0), Part("a", 1, 3, 2.0))
    posted = block(1, b"\n" * 6, *parts)
    assert [Origins().origin(posted, row) for row in (0, 1, 2, 4, 5)] == [
        Origin("a", 1, 0.0),
        Origin("a", 2, 0.0),
        Origin("b", 10, 1.0),
        Origin("b", 12, 1.0),
        Origin("a", 3, 2.0),
    ]


def test_lines_are_counted_anew_for_the_next_file_of_a_source() -> None:
    origins = Origins()
    found = []
    ranges = [("one", 0, 5), ("one", 5, 9), ("two", 0, 3), ("two", 3, 6)]
    for number, (path, start, stop) in enumerate(ranges, start=1):
        each = of_file(number, "files", path, start, stop)
        found.append(origins.origin(each, 1))
        origins.passed(each, 3)
    assert [(each.path, each.line) for each in found] == [
        ("one", 2),
        ("one", 5),
        ("two", 2),
        ("two", 5),
    ]


def test_sources_are_counted_apart() -> None:
    origins = Origins()
    lines = []
    for number, (source, start) in enumerate([("a", 0), ("b", 0), ("a", 9), ("b", 9)], start=1):
        each = of_file(number, source, source, start, start + 9)
        lines.append(origins.origin(each, 0).line)
        origins.passed(each, number)
    assert lines == [1, 1, 2, 3]


def test_what_is_not_a_file_is_not_counted() -> None:
    origins = Origins()
    origins.passed(block(1, b"\n" * 6, Part("push", 6, 1, 0.0)), 6)
    assert origins.position() == {}


def test_the_position_tells_the_file_and_how_far_it_was_read() -> None:
    origins = Origins()
    origins.passed(of_file(1, "files", "one", 0, 50), 7)
    origins.passed(of_file(2, "files", "one", 50, 80), 4)
    reached = {"path": "one", "stop": 80, "lines": 11, "identity": None}
    assert origins.position() == {"files": reached}


@given(st.lists(st.tuples(st.sampled_from("ab"), st.integers(0, 4), st.booleans())), st.data())
def test_counting_goes_on_from_any_position(
    steps: list[tuple[str, int, bool]], data: st.DataObject
) -> None:
    blocks = [
        (of_file(number, source, source, 0 if again else number, number + 1), lines)
        for number, (source, lines, again) in enumerate(steps, start=1)
    ]
    cut = data.draw(st.integers(0, len(blocks)))
    whole, first = Origins(), Origins()
    lines_of_all = [_count(whole, each, lines) for each, lines in blocks]
    lines_before = [_count(first, each, lines) for each, lines in blocks[:cut]]
    second = Origins(json.loads(json.dumps(first.position())))
    assert lines_before + [_count(second, each, lines) for each, lines in blocks[cut:]] == (
        lines_of_all
    )


def _count(origins: Origins, each: Block, lines: int) -> int:
    line = origins.origin(each, 0).line
    origins.passed(each, lines)
    return line
