"""The sinks are opened where the last checkpoint saw them; what stands in the way is waited for."""

from __future__ import annotations

import errno
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from service import file_position, threads
from service.dead_letter_file import DeadLetterFile
from service.emitter import Emitter
from service.opening import open_outlets
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
    assert open_outlets(opening, positions, None, 2) == 0
    opening.close()
    assert "one cannot be opened" in caplog.text
    assert "one can be opened again" in caplog.text
    assert opening.failing == {}
    assert [(tmp_path / name).read_bytes() for name in ("one", "two")] == [b"one\n"] * 2


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
    assert open_outlets(opening, {"gone": written(tmp_path / "odd")}, None, 7) == 7
    assert "odd cannot be opened: Odd." in caplog.text
    assert "--without odd" in caplog.text
    assert (tmp_path / "odd").read_bytes() == b"one\n", "what came after is written again"
