"""A file that grows by whole writes: what fails half way is cut off again."""

from __future__ import annotations

import os
from collections.abc import Callable
from pathlib import Path

import pytest

from service.appended_file import AppendedFile

Write = Callable[[int, memoryview], int]


@pytest.fixture
def fill_disk(monkeypatch: pytest.MonkeyPatch) -> Callable[[int], None]:
    """Return a function after which so many bytes fit, then none until it is called again."""
    really_write = os.write

    def fill(room: int) -> None:
        left = [room]

        def write(descriptor: int, data: memoryview) -> int:
            if left[0] == 0:
                raise OSError(28, "No space left on device")
            wrote = really_write(descriptor, data[: left[0]])
            left[0] -= wrote
            return wrote

        monkeypatch.setattr(os, "write", write)

    return fill


def cut_fails_once(monkeypatch: pytest.MonkeyPatch) -> None:
    """Let the next attempt to cut a file fail, and those after it do what they do."""
    really_cut = os.ftruncate

    def fail(*_: int) -> None:
        monkeypatch.setattr(os, "ftruncate", really_cut)
        raise OSError(5, "Input/output error")

    monkeypatch.setattr(os, "ftruncate", fail)


def test_the_file_and_its_folder_are_made_when_first_needed(tmp_path: Path) -> None:
    file = AppendedFile(tmp_path / "new" / "file")
    assert not (tmp_path / "new").exists()
    file.write(b"one\n")
    file.write(b"two\n")
    file.close()
    assert (tmp_path / "new" / "file").read_bytes() == b"one\ntwo\n"


def test_what_is_there_is_appended_to_or_truncated(tmp_path: Path) -> None:
    path = tmp_path / "file"
    for truncate, expected in [(False, b"one\n"), (False, b"one\none\n"), (True, b"one\n")]:
        file = AppendedFile(path, truncate=truncate)
        file.write(b"one\n")
        file.close()
        assert path.read_bytes() == expected


@pytest.mark.parametrize("room", [0, 1, 3])
def test_a_write_that_fails_half_way_is_cut_off_and_can_be_tried_again(
    tmp_path: Path, fill_disk: Callable[[int], None], room: int
) -> None:
    path = tmp_path / "file"
    path.write_bytes(b"there\n")
    file = AppendedFile(path)
    file.write(b"one\n")
    fill_disk(room)
    for _ in range(2):
        with pytest.raises(OSError, match="No space"):
            file.write(b"two\n")
        assert path.read_bytes() == b"there\none\n"
    fill_disk(1000)
    file.write(b"two\n")
    assert path.read_bytes() == b"there\none\ntwo\n"
    file.close()


def test_a_write_in_small_bites_is_a_whole_write(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    really_write = os.write
    monkeypatch.setattr(os, "write", lambda descriptor, data: really_write(descriptor, data[:2]))
    file = AppendedFile(tmp_path / "file")
    file.write(b"a longer line\n")
    file.close()
    assert (tmp_path / "file").read_bytes() == b"a longer line\n"


def test_half_a_write_is_cut_off_also_when_the_first_attempt_to_cut_fails(
    tmp_path: Path, fill_disk: Callable[[int], None], monkeypatch: pytest.MonkeyPatch
) -> None:
    path = tmp_path / "file"
    file = AppendedFile(path)
    file.write(b"one\n")
    fill_disk(2)

    cut_fails_once(monkeypatch)
    with pytest.raises(OSError, match=r"error|space"):
        file.write(b"two\n")
    fill_disk(1000)
    file.write(b"two\n")
    file.close()
    assert path.read_bytes() == b"one\ntwo\n"


@pytest.mark.parametrize("left", [b"", b"on", b"one\nof others\n"])
def test_a_write_that_fails_leaves_a_file_that_others_cut_or_append_to_as_they_left_it(
    tmp_path: Path, fill_disk: Callable[[int], None], left: bytes
) -> None:
    path = tmp_path / "file"
    file = AppendedFile(path)
    file.write(b"one\n")
    path.write_bytes(left)  # as copytruncate of logrotate does
    fill_disk(2)
    for _ in range(2):
        with pytest.raises(OSError, match="No space"):
            file.write(b"two\n")
        assert path.read_bytes() == left
    fill_disk(1000)
    file.write(b"two\n")
    file.close()
    assert path.read_bytes() == left + b"two\n"


def test_a_file_that_others_empty_after_a_write_failed_gets_no_hole(
    tmp_path: Path, fill_disk: Callable[[int], None], monkeypatch: pytest.MonkeyPatch
) -> None:
    path = tmp_path / "file"
    file = AppendedFile(path)
    file.write(b"one\n")

    cut_fails_once(monkeypatch)
    fill_disk(2)
    with pytest.raises(OSError, match="Input/output error"):
        file.write(b"two\n")
    path.write_bytes(b"")
    fill_disk(1000)
    file.write(b"two\n")
    file.close()
    assert path.read_bytes() == b"two\n"


def test_half_a_write_is_cut_off_also_when_the_file_was_moved_away(
    tmp_path: Path, fill_disk: Callable[[int], None]
) -> None:
    file = AppendedFile(tmp_path / "file")
    file.write(b"one\n")
    (tmp_path / "file").rename(tmp_path / "moved")
    fill_disk(2)
    with pytest.raises(OSError, match="No space"):
        file.write(b"two\n")
    assert (tmp_path / "moved").read_bytes() == b"one\n"
    file.close()


def test_a_pipe_is_written_to_as_it_is(tmp_path: Path) -> None:
    pipe = tmp_path / "pipe"
    os.mkfifo(pipe)
    reader = os.open(pipe, os.O_RDONLY | os.O_NONBLOCK)
    file = AppendedFile(pipe)
    file.write(b"one\n")
    file.close()
    assert os.read(reader, 100) == b"one\n"
    os.close(reader)


def test_the_position_of_a_file_not_yet_made_is_its_beginning(tmp_path: Path) -> None:
    path = tmp_path / "new" / "file"
    position = AppendedFile(path).position()
    assert position == {"path": str(path), "length": 0}
    assert not path.parent.exists()
    file = AppendedFile(path)
    file.write(b"one\n")
    found = file.position()
    file.close()
    assert found == AppendedFile(path).position()
    assert found is not None
    assert found["length"] == 4
    file.open(position)
    file.write(b"two\n")
    file.close()
    assert path.read_bytes() == b"two\n"
