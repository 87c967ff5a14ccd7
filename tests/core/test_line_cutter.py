"""Cutting a stream into lines: all of them, numbered, however the bytes come in."""

from __future__ import annotations

from hypothesis import given
from hypothesis import strategies as st

from service.sources.stdin import LineCutter

LONGEST = 8


def cut(chunks: list[bytes], longest: int = LONGEST) -> list[tuple[int, bytes]]:
    """Return the lines, numbered, that a cutter makes of chunks and of the end."""
    cutter = LineCutter(longest)
    numbered: list[tuple[int, bytes]] = []
    for chunk in [*(chunk for chunk in chunks if chunk), b""]:
        lines, first_line = cutter.cut(chunk)
        assert lines == b"" or lines.endswith(b"\n")
        numbered += enumerate(lines.split(b"\n")[:-1], start=first_line)
    return numbered


@st.composite
def streams(draw: st.DrawFn) -> tuple[bytes, list[bytes]]:
    """Return a stream of bytes, and the same in chunks."""
    stream = b"".join(draw(st.lists(st.sampled_from([b"\n", b"a", b"bcd", b"e" * 9, b"\r"]))))
    cuts = sorted(draw(st.sets(st.integers(0, len(stream)))))
    return stream, [stream[a:b] for a, b in zip([0, *cuts], [*cuts, len(stream)], strict=True)]


@given(streams())
def test_all_lines_come_once_in_order_and_numbered(case: tuple[bytes, list[bytes]]) -> None:
    stream, chunks = case
    lines = stream.removesuffix(b"\n").split(b"\n") if stream else []
    found = cut(chunks)
    assert [number for number, _ in found] == list(range(1, len(lines) + 1))
    for line, (_, came) in zip(lines, found, strict=True):
        if len(line) <= LONGEST:
            assert came == line
        else:
            assert len(came) > LONGEST, "enough to see that it is too long"
            assert line.startswith(came)


@given(streams())
def test_what_is_let_through_does_not_depend_on_the_chunks(
    case: tuple[bytes, list[bytes]],
) -> None:
    stream, chunks = case
    assert cut(chunks) == cut([stream])


def test_a_line_that_goes_on_for_ever_is_not_held() -> None:
    assert cut([b"x" * 5] * 1000 + [b"\nnext\n"]) == [(1, b"x" * 9), (2, b"next")]


def test_a_last_line_without_its_line_end_is_a_line() -> None:
    assert cut([b"one\ntw", b"o"]) == [(1, b"one"), (2, b"two")]


def test_nothing_is_no_line() -> None:
    assert cut([]) == []
