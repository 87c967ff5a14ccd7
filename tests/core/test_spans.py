"""How ``--from`` and ``--to`` are read: an offset as it was printed is never taken for a time."""

from __future__ import annotations

import click
import pytest
from hypothesis import given
from hypothesis import strategies as st

from service.block import Offset
from service.commands.spans import span_of

NUMBERS = st.integers(0, 2**62)


@given(NUMBERS, NUMBERS)
def test_an_offset_as_it_is_printed_is_that_offset(block: int, row: int) -> None:
    offset = Offset(block, row)
    span = span_of(str(offset), str(offset))
    assert (span.start, span.stop) == (offset, offset)


@given(st.integers(0, 999_999_999))
def test_digits_alone_are_a_whole_block(block: int) -> None:
    span = span_of(str(block), str(block))
    assert (span.start, span.stop) == (Offset(block, 0), Offset(block, 2**63))


@pytest.mark.parametrize(
    ("text", "time"),
    [
        ("2026-11-20T08:00:00Z", 1_795_161_600.0),
        ("1795161600", 1_795_161_600.0),
        ("@1795161600", 1_795_161_600.0),
        ("@1795161600.5", 1_795_161_600.5),
        ("@0", 0.0),
    ],
)
def test_a_time_is_read_as_it_may_be_written(text: str, time: float) -> None:
    assert span_of(text, text).start == time


@pytest.mark.parametrize(
    "text", ["yesterday", "12.", ".5", "@", "@nan", "1.2.3", "", "-5", "\u00b2"]
)
def test_what_is_neither_is_refused(text: str) -> None:
    with pytest.raises(click.UsageError, match="expected an offset"):
        span_of(text, None)
