"""Pieces of a file: whole lines, all of them, in order, and never more memory than a piece."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any
from unittest.mock import patch

import pytest
from hypothesis import given
from hypothesis import strategies as st

from service.block import FileRange
from service.errors import InputGone
from service.event_queue import EventQueue
from service.settings import Settings
from service.sources import ndjson
from service.sources.ndjson import NdjsonSource, pieces
from service.sources.source import Surroundings
from tests.daemon.running import eventually

texts = st.text("ab\u00e9", max_size=12).map(str.encode)


def cut(content: bytes, size: int, longest: int) -> Iterator[tuple[FileRange, bytes]]:
    with TemporaryDirectory() as folder:
        path = Path(folder) / "file"
        path.write_bytes(content)
        for piece in pieces(path, size, longest):
            yield piece, piece.read()


def shortened(content: bytes, size: int, longest: int) -> list[bytes]:
    """Return the file's lines; one longer than a piece by its first bytes only."""
    lines = content.split(b"\n")
    if not lines[-1]:
        lines.pop()
    last = len(lines) - 1
    complete = content.endswith(b"\n")
    return [
        each[: longest + 1] if len(each) + (complete or index < last) > size else each
        for index, each in enumerate(lines)
    ]


@given(st.lists(texts, max_size=12), st.booleans(), st.integers(1, 12), st.integers(0, 20))
def test_all_lines_come_once_in_order_and_whole(
    lines: list[bytes], ended: bool, longest: int, more: int
) -> None:
    content = b"\n".join(lines) + b"\n" * ended
    size = longest + more
    found = list(cut(content, size, longest))
    assert all(data.endswith(b"\n") for _, data in found)
    joined = b"".join(data for _, data in found)
    assert joined.split(b"\n")[:-1] == shortened(content, size, longest)
    if max(map(len, lines), default=0) < size:
        assert joined == content + b"\n" * (bool(content) and not content.endswith(b"\n"))
        assert all(piece.stop - piece.start <= size for piece, _ in found)


def test_an_empty_file_has_no_pieces() -> None:
    assert list(cut(b"", 10, 10)) == []


@pytest.mark.parametrize("ending", [b"", b"\n"])
def test_a_line_as_long_as_allowed_is_not_cut(ending: bytes) -> None:
    content = b"x" * 10 + b"\n" + b"y" * 10 + ending
    assert (
        b"".join(data for _, data in cut(content, 10, 10)) == b"x" * 10 + b"\n" + b"y" * 10 + b"\n"
    )


def test_a_very_long_line_is_a_piece_of_its_own_that_shows_only_that_it_is_too_long(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(ndjson, "_SCAN", 7)
    content = b"a\n" + b"x" * 1000 + b"\nb\n" + b"y" * 1000
    read = [data for _, data in cut(content, 20, 10)]
    assert read == [b"a\n", b"x" * 11 + b"\n", b"b\n", b"y" * 11 + b"\n"]


@given(st.integers(1, 9), st.integers(1, 5))
def test_line_ends_are_found_however_little_is_looked_at_at_once(scan: int, length: int) -> None:
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(ndjson, "_SCAN", scan)
        content = (b"x" * length + b"\n") * 10
        assert b"".join(data for _, data in cut(content, 2 * length + 3, length)) == content


def test_a_file_that_is_cut_replaced_or_removed_no_longer_holds_what_was_taken_in(
    tmp_path: Path,
) -> None:
    path = tmp_path / "file"
    path.write_bytes(b"one\ntwo\n")
    (piece,) = pieces(path, 100, 100)
    path.write_bytes(b"one\n")
    with pytest.raises(InputGone, match="bytes 0 to 8 are gone"):
        piece.read()
    path.write_bytes(b"six\nten\nand more\n")
    with pytest.raises(InputGone, match="bytes 0 to 8 are gone"):
        piece.read()
    path.write_bytes(b"one\ntwo\nand more\n")
    assert piece.read() == b"one\ntwo\n"
    path.unlink()
    with pytest.raises(InputGone, match="cannot be read any more"):
        piece.read()


@pytest.mark.parametrize(
    ("ending", "left_out"),
    [(b"", 0), (b'{"cid":2}', 0), (b'{"cid":2,"ti', 12), (b"x" * 101, 0)],
    ids=["none", "whole", "half", "too long"],
)
def test_half_a_line_at_the_end_of_a_growing_file_is_left_for_later(
    tmp_path: Path, ending: bytes, left_out: int
) -> None:
    path = tmp_path / "file"
    path.write_bytes(b'{"cid":1}\n' + ending)
    found = list(pieces(path, 100, 100, growing=True))
    assert found[-1].stop == 10 + len(ending) - left_out
    assert list(pieces(path, 100, 100))[-1].stop == 10 + len(ending)


def test_a_folder_is_named_when_it_is_given_for_a_file(tmp_path: Path) -> None:
    with pytest.raises(OSError, match="directory") as raised:
        list(pieces(tmp_path, 100, 100))
    assert raised.value.filename == str(tmp_path)


APPENDED = [b'{"n":2}\n', b'{"n":2}\n{"n":3}\n{"n"', b'{"n":2}']


@pytest.mark.parametrize("appended", APPENDED)
def test_what_is_added_as_a_file_is_read_to_its_end_is_no_half_line_unless_it_is(
    tmp_path: Path, appended: bytes
) -> None:
    path = tmp_path / "grows.ndjson"
    path.write_bytes(b'{"n":1}\n')
    rest = [appended]

    def growing(*how: Any, **which: Any) -> Iterator[FileRange]:
        yield from pieces(*how, **which)
        if rest:
            with path.open("ab") as file:
                file.write(rest.pop())

    settings = Settings.model_validate({"sink": [{"name": "out", "use": "stdout"}]})
    told: list[str] = []
    queue = EventQueue(events=100, size=10_000)
    surroundings = Surroundings(queue, settings, lambda _, problem: told.append(problem), {})
    source = NdjsonSource("grows", NdjsonSource.Params(paths=[path]), surroundings)
    whole = appended.endswith((b"\n", b"}"))
    with patch("service.sources.ndjson.pieces", growing):
        source.start()
        try:
            eventually(lambda: told or source.finished.is_set(), "it is at its end")
        finally:
            source.stop()
            assert source.finished.wait(10)
    queue.close()
    read = b""
    while taken := queue.take(10_000, 0.0):
        ranges = [each.submission.payload for each in taken]
        read += b"".join(each.read() for each in ranges if isinstance(each, FileRange))
    assert read == b'{"n":1}\n' + appended[: appended.rfind(b"}") + 1] + b"\n"
    assert [("is not whole" in each) for each in told] == ([] if whole else [True])


def test_a_pattern_that_names_no_file_is_told_at_once_as_what_it_is(tmp_path: Path) -> None:
    (tmp_path / "night.ndjson").write_bytes(b'{"n":1}\n')
    settings = Settings.model_validate({"sink": [{"name": "out", "use": "stdout"}]})
    told: list[str] = []
    queue = EventQueue(events=100, size=10_000)
    surroundings = Surroundings(queue, settings, lambda _, problem: told.append(problem), {})
    path = tmp_path / "*.ndjson"
    source = NdjsonSource("night", NdjsonSource.Params(paths=[path]), surroundings)
    source.start()
    try:
        eventually(lambda: told, "it is told")
    finally:
        source.stop()
        assert source.finished.wait(10)
    queue.close()
    (what,) = told
    assert what.startswith(f"{path}: cannot be read: No such file or directory")
    assert "a pattern is not expanded: name each file" in what
