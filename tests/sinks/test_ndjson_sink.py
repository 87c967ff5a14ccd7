"""The file sink: each line exactly once, whatever is torn, cut off and written again."""

from __future__ import annotations

import logging
import os
from pathlib import Path
from tempfile import TemporaryDirectory
from threading import Thread
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from service.errors import PipelineFailed, SinkFailed
from service.sinks.ndjson import NdjsonSink
from tests.sinks.writing import emission

LIMIT = 20.0


def opened(path: Path, position: Any = None, existing: str = "append") -> NdjsonSink:
    """Return a sink, open."""
    sink = NdjsonSink(NdjsonSink.Params.model_validate({"path": path, "existing": existing}))
    sink.open(position)
    return sink


@pytest.mark.parametrize(
    ("existing", "expected"), [("append", b"old\nnew\n"), ("truncate", b"new\n")]
)
def test_at_first_a_file_is_appended_to_or_truncated(
    tmp_path: Path, existing: str, expected: bytes
) -> None:
    path = tmp_path / "kept.ndjson"
    path.write_bytes(b"old\n")
    sink = opened(path, existing=existing)
    sink.write(emission(1, b"new\n"))
    sink.close()
    assert path.read_bytes() == expected


def test_a_file_that_no_checkpoint_knows_is_told_once(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    path = tmp_path / "kept.ndjson"
    opened(path).close()
    assert not caplog.records, "a new file is nothing to tell"
    path.write_bytes(b"one\n")
    opened(path, existing="truncate").close()
    assert not caplog.records, "nothing of it is left"
    path.write_bytes(b"one\n")
    sink = opened(path)
    position = sink.position()
    sink.close()
    (told,) = caplog.messages
    assert told.startswith(f"{path} holds 4 bytes that no checkpoint knows of: what comes is")
    opened(path, position).close()
    assert len(caplog.records) == 1


@pytest.mark.parametrize("existing", ["append", "truncate"])
def test_what_came_after_the_position_is_cut_off_and_only_that(
    tmp_path: Path, existing: str, caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level(logging.INFO)
    path = tmp_path / "kept.ndjson"
    sink = opened(path)
    sink.write(emission(1, b"one\n"))
    position = sink.position()
    assert (position["path"], position["length"]) == (str(path), 4)
    sink.write(emission(2, b"two\n"))
    sink.close()
    sink = opened(path, position, existing)
    assert path.read_bytes() == b"one\n"
    assert "4 bytes after the last checkpoint" in caplog.text
    assert sink.position() == position
    sink.write(emission(2, b"two\n"))
    sink.close()
    assert path.read_bytes() == b"one\ntwo\n"


@pytest.mark.parametrize("left", [b"", b"on"])
def test_a_file_that_was_cut_is_refused(tmp_path: Path, left: bytes) -> None:
    path = tmp_path / "kept.ndjson"
    sink = opened(path)
    sink.write(emission(1, b"one\n"))
    sink.close()
    position = sink.position()
    path.write_bytes(left)
    with pytest.raises(PipelineFailed, match=r"kept.ndjson: 4 bytes were written.*put it back"):
        opened(path, position)
    assert path.read_bytes() == left


def test_a_file_that_was_moved_away_is_followed_by_a_new_one(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    path = tmp_path / "kept.ndjson"
    sink = opened(path)
    sink.write(emission(1, b"one\n"))
    sink.close()
    position = sink.position()
    path.rename(tmp_path / "rotated")
    sink = opened(path, position)
    sink.write(emission(2, b"two\n"))
    sink.close()
    assert path.read_bytes() == b"two\n"
    assert "a new one begins" in caplog.text


@pytest.mark.parametrize("now", ["nothing", "an empty file", "a file of others"])
def test_a_moved_file_gets_what_comes_and_after_a_restart_a_new_one_has_what_was_not_saved(
    tmp_path: Path, caplog: pytest.LogCaptureFixture, now: str
) -> None:
    path, rotated = tmp_path / "kept.ndjson", tmp_path / "kept.ndjson.1"
    sink = opened(path)
    sink.write(emission(1, b"one\n"))
    path.rename(rotated)
    there = {"nothing": b"", "an empty file": b"", "a file of others": b"longer than before\n"}[now]
    if now != "nothing":
        path.write_bytes(there)
    position = sink.position()
    assert caplog.text.count("was moved while it is written") == 1
    sink.write(emission(2, b"two\n"))
    assert sink.position() is not None
    assert caplog.text.count("was moved while it is written") == 1
    assert rotated.read_bytes() == b"one\ntwo\n"
    sink.close()  # a crash, or a stop, before the next checkpoint
    sink = opened(path, position)
    sink.write(emission(2, b"two\n"))
    sink.close()
    assert rotated.read_bytes() == b"one\n"
    assert path.read_bytes() == there + b"two\n"


def test_a_moved_file_that_is_put_back_is_gone_on_with(tmp_path: Path) -> None:
    path = tmp_path / "kept.ndjson"
    sink = opened(path)
    path.rename(tmp_path / "elsewhere")
    sink.position()
    sink.write(emission(1, b"one\n"))
    (tmp_path / "elsewhere").rename(path)
    position = sink.position()
    assert position["length"] == 4
    sink.close()
    sink = opened(path, position)
    sink.close()
    assert path.read_bytes() == b"one\n"


@pytest.mark.parametrize("there", [b"", b"of others\n"])
def test_a_removed_file_holds_the_stream_back_and_a_restart_writes_all_since_the_checkpoint(
    tmp_path: Path, there: bytes
) -> None:
    path = tmp_path / "kept.ndjson"
    sink = opened(path)
    sink.write(emission(1, b"one\n"))
    position = sink.position()
    sink.write(emission(2, b"two\n"))
    path.unlink()
    if there:
        path.write_bytes(there)
    with pytest.raises(SinkFailed, match=r"was removed.*restart"):
        sink.position()
    sink.close()
    if not there:
        sink = opened(path, position)
        sink.write(emission(2, b"two\n"))
        sink.close()
        assert path.read_bytes() == b"two\n"


@pytest.mark.parametrize("left", [b"", b"one\nfrom others\n"])
def test_a_file_that_others_cut_or_append_to_is_named_and_no_line_of_ours_is_cut_later(
    tmp_path: Path, caplog: pytest.LogCaptureFixture, left: bytes
) -> None:
    path = tmp_path / "kept.ndjson"
    sink = opened(path)
    sink.write(emission(1, b"one\n"))
    path.write_bytes(left)
    sink.write(emission(2, b"two\n"))
    position = sink.position()
    assert "others changed it" in caplog.text
    sink.write(emission(3, b"three\n"))
    sink.close()
    sink = opened(path, position)
    sink.write(emission(3, b"three\n"))
    sink.close()
    assert path.read_bytes() == left + b"two\nthree\n"


def test_with_another_path_what_came_after_the_checkpoint_is_in_the_new_file_only(
    tmp_path: Path,
) -> None:
    path = tmp_path / "kept.ndjson"
    sink = opened(path)
    sink.write(emission(1, b"one\n"))
    position = sink.position()
    sink.write(emission(2, b"two\n"))
    sink.close()
    sink = opened(tmp_path / "new.ndjson", position)
    sink.write(emission(2, b"two\n"))
    sink.close()
    assert path.read_bytes() == b"one\n"
    assert (tmp_path / "new.ndjson").read_bytes() == b"two\n"


@pytest.mark.parametrize("existing", ["append", "truncate"])
def test_a_file_that_was_moved_to_the_new_path_is_gone_on_with(
    tmp_path: Path, existing: str
) -> None:
    path = tmp_path / "kept.ndjson"
    sink = opened(path)
    sink.write(emission(1, b"one\n"))
    position = sink.position()
    sink.write(emission(2, b"two\n"))
    sink.close()
    path.rename(tmp_path / "new.ndjson")
    sink = opened(tmp_path / "new.ndjson", position, existing)
    sink.write(emission(2, b"two\n"))
    sink.close()
    assert (tmp_path / "new.ndjson").read_bytes() == b"one\ntwo\n"


def test_where_nothing_was_written_yet_no_file_of_another_name_is_cut(tmp_path: Path) -> None:
    path = tmp_path / "kept.ndjson"
    sink = opened(path)
    position = sink.position()
    sink.close()
    path.unlink()
    foreign = tmp_path / "other.ndjson"
    foreign.write_bytes(b"of others\n")
    position["identity"][0] = foreign.stat().st_ino  # given to it when the other one was removed
    opened(path, position).close()
    assert foreign.read_bytes() == b"of others\n"


@pytest.mark.parametrize("name", ["kept.ndjson", "other.ndjson"])
def test_a_file_that_others_wrote_is_never_cut(tmp_path: Path, name: str) -> None:
    path, foreign = tmp_path / "kept.ndjson", b"another file, and longer than ours\n"
    sink = opened(path)
    sink.write(emission(1, b"one\n"))
    position = sink.position()
    sink.close()
    with path.open("r+b") as file:  # what reuses the inode is as good as another file
        file.write(foreign)
    if name != path.name:
        path.rename(tmp_path / name)
        opened(path, position).close()
    else:
        with pytest.raises(PipelineFailed, match="begins otherwise"):
            opened(path, position)
    assert (tmp_path / name).read_bytes() == foreign


def test_a_pipe_in_the_place_of_the_file_is_refused(tmp_path: Path) -> None:
    path = tmp_path / "kept.ndjson"
    sink = opened(path)
    position = sink.position()
    sink.close()
    path.unlink()
    os.mkfifo(path)
    reader = os.open(path, os.O_RDONLY | os.O_NONBLOCK)
    with pytest.raises(PipelineFailed, match="no regular file"):
        opened(path, position)
    os.close(reader)


@pytest.mark.parametrize("position", [{"path": "/elsewhere", "length": 9}, {"key": "a"}, 7])
def test_the_position_of_another_output_counts_as_none(
    tmp_path: Path, position: Any, caplog: pytest.LogCaptureFixture
) -> None:
    path = tmp_path / "kept.ndjson"
    path.write_bytes(b"old\n")
    sink = opened(path, position)
    assert sink.position()["length"] == 4
    sink.close()
    assert "knows another output" in caplog.text


def test_what_is_no_regular_file_has_no_position(tmp_path: Path) -> None:
    pipe = tmp_path / "pipe"
    os.mkfifo(pipe)
    reader = os.open(pipe, os.O_RDONLY | os.O_NONBLOCK)
    for path in (pipe, Path(os.devnull)):
        sink = opened(path)
        sink.write(emission(1, b"one\n"))
        sink.flush()
        assert sink.position() is None
        sink.close()
        assert sink.position() is None
    assert os.read(reader, 100) == b"one\n"
    os.close(reader)


def test_the_disk_has_each_step_before_the_next(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    steps: list[str] = []

    def watch(name: str) -> None:
        really = getattr(os, name)

        def watched(descriptor: int, *more: Any) -> Any:
            place = Path(f"/proc/self/fd/{descriptor}").readlink()
            steps.append(f"{name} {place.relative_to(tmp_path)}")
            return really(descriptor, *more)

        monkeypatch.setattr(os, name, watched)

    for name in ("write", "fsync", "ftruncate"):
        watch(name)
    path = tmp_path / "new" / "folder" / "file"
    sink = opened(path)
    assert steps == ["fsync new/folder", "fsync new", "fsync ."]
    position = sink.position()
    sink.write(emission(1, b"one\n"))
    sink.flush()
    sink.close()
    assert steps[3:] == ["write new/folder/file", "fsync new/folder/file"]
    sink = opened(path, position)
    sink.write(emission(1, b"one\n"))
    sink.close()
    assert [step.split()[0] for step in steps[5:]] == ["ftruncate", "fsync", "write"]


def test_what_the_disk_does_not_confirm_is_not_flushed(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    sink = opened(tmp_path / "file")

    def fail(_: int) -> None:
        raise OSError(5, "Input/output error")

    monkeypatch.setattr(os, "fsync", fail)
    with pytest.raises(OSError, match="Input/output"):
        sink.flush()
    sink.close()


def test_a_flush_under_way_keeps_the_file_open(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    sink = opened(tmp_path / "file")
    closing = Thread(target=sink.close)
    really_flush = os.fsync
    seen: list[bool] = []

    def flush(descriptor: int) -> None:
        closing.start()
        closing.join(0.2)  # long enough to close the file if nothing held it back
        os.fstat(descriptor)
        seen.append(closing.is_alive())
        really_flush(descriptor)

    monkeypatch.setattr(os, "fsync", flush)
    sink.flush()
    closing.join(LIMIT)
    assert seen == [True]
    assert not closing.is_alive()


lines = st.binary(max_size=5).map(lambda text: text.replace(b"\n", b" ") + b"\n")
happenings = st.lists(
    st.one_of(
        st.tuples(st.just("write"), st.just(0)),
        st.tuples(st.just("checkpoint"), st.just(0)),
        st.tuples(st.just("full disk"), st.integers(0, 7)),
        st.tuples(st.just("crash in a write"), st.integers(0, 7)),
        st.tuples(st.just("crash"), st.just(0)),
    ),
    max_size=20,
)


@given(
    there=st.sampled_from([b"", b"old\n"]),
    outputs=st.lists(lines, max_size=8),
    happenings=happenings,
)
def test_whatever_happens_the_file_is_that_of_the_plain_sequence(
    there: bytes, outputs: list[bytes], happenings: list[tuple[str, int]]
) -> None:
    really_write = os.write
    room = 0

    def write_some(descriptor: int, data: memoryview) -> int:
        """Write until ``room`` is used up."""
        nonlocal room
        if room == 0:
            raise OSError(28, "No space left on device")
        wrote = really_write(descriptor, data[:room])
        room -= wrote
        return wrote

    with TemporaryDirectory() as folder, pytest.MonkeyPatch.context() as patch:
        path = Path(folder) / "file"
        path.write_bytes(there)
        sink = opened(path)
        position, at_checkpoint, done = sink.position(), 0, 0
        for what, number in happenings:
            if what == "checkpoint":
                position, at_checkpoint = sink.position(), done
                sink.flush()
            elif what == "crash":
                sink.close()
                sink, done = opened(path, position), at_checkpoint
            elif done == len(outputs):
                continue
            elif what == "write":
                sink.write(emission(done + 1, outputs[done]))
                done += 1
            elif what == "full disk":
                room = min(number, len(outputs[done]) - 1)
                patch.setattr(os, "write", write_some)
                with pytest.raises(OSError, match="No space"):
                    sink.write(emission(done + 1, outputs[done]))
                patch.undo()
            else:
                sink.close()
                with path.open("ab") as torn:
                    torn.write(outputs[done][:number])
                sink, done = opened(path, position), at_checkpoint
        for index in range(done, len(outputs)):
            sink.write(emission(index + 1, outputs[index]))
        sink.close()
        assert path.read_bytes() == there + b"".join(outputs)
