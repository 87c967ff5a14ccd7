"""The sinks are opened where the last checkpoint saw them; what stands in the way is waited for."""

from __future__ import annotations

import errno
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from service import file_position, threads
from service.appended_file import AppendedFile
from service.dead_letter_file import DeadLetterFile
from service.emitter import Emitter
from service.errors import SinkFailed
from service.opening import Before, open_outlets
from service.origins import Origins
from service.outlet import Outlet
from service.sinks.ndjson import NdjsonSink
from service.sinks.sink import Sink
from service.statistics import Statistics
from tests.sinks.writing import emission

pytestmark = pytest.mark.usefixtures("_no_pauses")


@pytest.fixture
def _no_pauses(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(threads, "LONGEST_PAUSE", 0.0)


def ndjson(path: Path) -> NdjsonSink:
    return NdjsonSink(NdjsonSink.Params(path=path, existing="truncate"))


def emitter(folder: Path, **sinks: Sink) -> Emitter:
    return Emitter(
        {name: Outlet(sink, name=name) for name, sink in sinks.items()},
        DeadLetterFile(folder / "dead"),
        Origins(),
        Statistics([]),
        lambda _: None,
    )


def failing(times: int, real: Callable[..., Any], problem: Exception) -> Callable[..., Any]:
    """Return a function that raises so often, and then does what the real one does."""
    left = [times]

    def call(*given: Any) -> Any:
        left[0] -= 1
        if left[0] >= 0:
            raise problem
        return real(*given)

    return call


def written(path: Path) -> Any:
    """Write a file; return its position, behind which there is more."""
    sink = ndjson(path)
    sink.open(None)
    sink.write(emission(1, b"one\n"))
    position = sink.position()
    sink.write(emission(2, b"two\n"))
    sink.close()
    return position


@pytest.mark.parametrize("number", [errno.EACCES, errno.EROFS, errno.ENOENT])
def test_a_file_that_cannot_be_taken_back_now_is_waited_for(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture, number: int
) -> None:
    positions = {name: written(tmp_path / name) for name in ("one", "two")}
    opening = emitter(tmp_path, one=ndjson(tmp_path / "two"))
    trouble = OSError(number, "not now", "there")
    monkeypatch.setattr(file_position, "find", failing(3, file_position.find, trouble))
    assert open_outlets(opening, Before(positions, None, 2)) == 0
    opening.close()
    assert "one cannot be opened" in caplog.text
    assert "one can be opened again" in caplog.text
    assert opening.failing == {}
    assert [(tmp_path / name).read_bytes() for name in ("one", "two")] == [b"one\n"] * 2


def test_what_nobody_can_write_again_is_kept_beside(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    positions = {"one": written(tmp_path / "one")}
    opening = emitter(tmp_path, one=ndjson(tmp_path / "one"))
    assert open_outlets(opening, Before(positions, None, 2, followed=False)) == 0
    opening.close()
    assert (tmp_path / "one").read_bytes() == b"one\n"
    (aside,) = tmp_path.glob("one.cut-*")
    assert aside.read_bytes() == b"two\n"
    assert "its last 4 bytes came after the last checkpoint, and the journal does not know" in (
        caplog.text
    )
    assert str(aside) in caplog.text


def test_the_file_of_a_sink_that_is_left_out_is_neither_cut_nor_copied(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    positions = {"left": written(tmp_path / "left")}
    opening = emitter(tmp_path, one=ndjson(tmp_path / "one"))
    assert open_outlets(opening, Before(positions, None, 2, followed=False)) == 0
    opening.close()
    assert (tmp_path / "left").read_bytes() == b"one\ntwo\n"
    assert not list(tmp_path.glob("left.cut-*"))
    assert "cut off" not in caplog.text


def test_a_copy_leaves_the_files_of_its_original_alone(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    (tmp_path / "copy").mkdir()
    positions = {"one": written(tmp_path / "one")}
    opening = emitter(tmp_path / "copy", one=ndjson(tmp_path / "copy" / "one"))
    assert open_outlets(opening, Before(positions, None, 2, copied=True)) == 0
    opening.close()
    assert (tmp_path / "one").read_bytes() == b"one\ntwo\n"
    assert "is a copy of, and is left" in caplog.text


def test_a_file_that_another_process_writes_is_neither_written_nor_cut(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    position = written(tmp_path / "one")
    other = AppendedFile(tmp_path / "one")
    other.open()
    with pytest.raises(SinkFailed, match="another process writes there"):
        ndjson(tmp_path / "one").open(None)  # it would truncate the file
    moved = ndjson(tmp_path / "two")
    moved.open(position)
    moved.close()
    assert "another process writes there, such as a second daemon or a `process`" in caplog.text
    other.close()
    assert (tmp_path / "one").read_bytes() == b"one\ntwo\n"


def test_a_file_whose_folder_is_gone_is_waited_for(tmp_path: Path) -> None:
    (tmp_path / "disk").mkdir()
    position = written(tmp_path / "disk" / "one")
    (tmp_path / "disk").rename(tmp_path / "elsewhere")
    with pytest.raises(SinkFailed, match="its folder is gone: bring it back"):
        ndjson(tmp_path / "disk" / "one").open(position)
    assert not (tmp_path / "disk").exists()
    (tmp_path / "elsewhere").rename(tmp_path / "disk")
    sink = ndjson(tmp_path / "disk" / "one")
    sink.open(position)
    sink.close()
    assert (tmp_path / "disk" / "one").read_bytes() == b"one\n"


@pytest.mark.parametrize("fault", ["writes", "settled"])
def test_a_sink_that_cannot_tell_what_it_writes_or_holds_is_waited_for(
    tmp_path: Path, fault: str, caplog: pytest.LogCaptureFixture
) -> None:
    tell = {
        each: failing(2 if each == fault else 0, lambda: None, KeyError("no such door"))
        for each in ("writes", "settled")
    }

    class Odd(Sink):
        def writes(self) -> list[Path]:
            tell["writes"]()
            return [tmp_path / "odd"]

        @property
        def settled(self) -> int:  # type: ignore[override]
            tell["settled"]()
            return 7

    opening = emitter(tmp_path, odd=Odd(None))
    assert open_outlets(opening, Before({"gone": written(tmp_path / "odd")}, None, 7)) == 7
    assert "odd cannot be opened: Odd." in caplog.text
    assert "--without odd" in caplog.text
    assert (tmp_path / "odd").read_bytes() == b"one\n", "what came after is written again"
