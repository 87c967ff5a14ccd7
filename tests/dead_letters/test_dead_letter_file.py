"""Dead letters as lines of a file: each with its place, its reason and its own bytes."""

from __future__ import annotations

import base64
import json
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from service.block import Block
from service.dead_letter_file import DeadLetterFile
from service.dead_letters import EXCERPT, DeadLetters, LetterId
from service.errors import PipelineFailed
from service.origins import Origin
from service.passage import DeadLetter
from tests.dead_letters.letters import bad, failed, numbered, origin


def written(path: Path) -> list[dict[str, Any]]:
    return [json.loads(line) for line in path.read_bytes().splitlines()]


def opened(path: Path, position: Any = None) -> DeadLetterFile:
    letters = DeadLetterFile(path)
    keeps_the_interface: DeadLetters = letters
    keeps_the_interface.open(position)
    return letters


def one_record(path: Path, letter: DeadLetter) -> dict[str, Any]:
    letters = opened(path / "dead.ndjson")
    letters.write(numbered(7), [letter], origin)
    letters.close()
    (record,) = written(path / "dead.ndjson")
    return record


def test_a_line_that_is_no_event_is_written_with_its_place_and_reason(tmp_path: Path) -> None:
    assert one_record(tmp_path, DeadLetter(16, b"b\xc3\xa9d", "not JSON")) == {
        "offset": "7.16",
        "source": "push",
        "line": 17,
        "time": "1970-01-01T00:00:00.250+00:00",
        "reason": "not JSON",
        "event": "béd",
    }


def test_an_event_that_a_middleware_could_not_handle_is_written_with_all_it_said(
    tmp_path: Path,
) -> None:
    record = one_record(tmp_path, failed(0, "lookup"))
    assert (record["middleware"], record["attempts"]) == ("lookup", 3)
    assert record["traceback"] == "Traceback: ..."


def test_the_file_that_an_event_came_from_is_named(tmp_path: Path) -> None:
    def in_file(_: Block, row: int) -> Origin:
        return Origin("files", row + 1, 0.0, "input-\udcff.ndjson")

    letters = opened(tmp_path / "dead")
    letters.write(numbered(1), bad(0), in_file)
    letters.close()
    (record,) = written(tmp_path / "dead")
    assert record["path"] == "input-\\udcff.ndjson"


def test_what_is_no_text_is_written_as_base64(tmp_path: Path) -> None:
    record = one_record(tmp_path, DeadLetter(0, b"b\xffd", "invalid UTF-8"))
    assert base64.b64decode(record["event_base64"]) == b"b\xffd"
    assert "event" not in record


def test_a_very_long_event_is_cut_and_says_how_long_it_was(tmp_path: Path) -> None:
    record = one_record(tmp_path, DeadLetter(0, b"x" * (EXCERPT + 5), "too long"))
    assert record["event"] == "x" * EXCERPT
    assert record["event_bytes"] == EXCERPT + 5


def test_a_very_long_text_stays_text_wherever_it_is_cut(tmp_path: Path) -> None:
    event = "x" + "é" * EXCERPT
    record = one_record(tmp_path, DeadLetter(0, event.encode(), "too long"))
    assert "event" in record, "a letter was cut in two, and its half is no text"
    assert event.startswith(record["event"])


def test_the_file_appears_with_the_first_dead_letter(tmp_path: Path) -> None:
    path = tmp_path / "new" / "dead.ndjson"
    letters = opened(path)
    letters.write(numbered(1), [], origin)
    letters.flush()
    assert (path.exists(), letters.position()["length"]) == (False, 0)
    letters.write(numbered(2), bad(0), origin)
    assert len(written(path)) == 1
    letters.close()


def test_a_block_that_is_written_again_changes_nothing(tmp_path: Path) -> None:
    letters = opened(tmp_path / "dead")
    for number in (1, 2, 2, 1):
        letters.write(numbered(number), bad(0, 3), origin)
    letters.close()
    assert [each["offset"] for each in written(tmp_path / "dead")] == ["1.0", "1.3", "2.0", "2.3"]


def test_what_came_after_the_position_is_cut_off_and_written_again(tmp_path: Path) -> None:
    letters = opened(tmp_path / "dead")
    letters.write(numbered(1), bad(0), origin)
    position = letters.position()
    letters.write(numbered(2), bad(0), origin)
    letters.refuse("kept", numbered(3), bad(1)[0], origin)
    letters.close()
    once = (tmp_path / "dead").read_bytes()
    letters = opened(tmp_path / "dead", position)
    assert len(written(tmp_path / "dead")) == 1
    assert letters.refused("kept", 3) == frozenset()
    letters.write(numbered(2), bad(0), origin)
    letters.refuse("kept", numbered(3), bad(1)[0], origin)
    letters.close()
    assert (tmp_path / "dead").read_bytes() == once


def test_without_a_position_what_an_earlier_run_left_goes(tmp_path: Path) -> None:
    (tmp_path / "dead").write_bytes(b"old\n")
    opened(tmp_path / "dead").close()
    assert not (tmp_path / "dead").exists()


def test_a_run_that_had_no_dead_letter_yet_goes_on_without_a_file(tmp_path: Path) -> None:
    letters = opened(tmp_path / "dead")
    position = letters.position()
    letters.write(numbered(1), bad(0), origin)
    letters.close()
    letters.open(position)
    assert not (tmp_path / "dead").exists()
    letters.write(numbered(1), bad(0), origin)
    letters.close()
    assert len(written(tmp_path / "dead")) == 1


def test_a_file_that_no_longer_holds_what_was_written_is_told(tmp_path: Path) -> None:
    letters = opened(tmp_path / "dead")
    letters.write(numbered(1), bad(0), origin)
    letters.close()
    (tmp_path / "dead").write_bytes(b"")
    with pytest.raises(PipelineFailed, match="dead"):
        opened(tmp_path / "dead", letters.position() | {"length": 10})


def test_a_device_is_left_alone() -> None:
    letters = opened(Path("/dev/null"))
    letters.write(numbered(1), bad(0), origin)
    letters.flush()
    assert letters.position() is None
    letters.close()
    assert Path("/dev/null").is_char_device()


def test_what_a_sink_refuses_is_written_once_and_remembered(tmp_path: Path) -> None:
    letters = opened(tmp_path / "dead")
    for sink, row in [("kept", 4), ("copy", 4), ("kept", 4), ("kept", 5)]:
        letters.refuse(sink, numbered(2), bad(row)[0], origin)
    assert letters.refused("kept", 2) == {4, 5}
    assert letters.refused("copy", 2) == {4}
    assert letters.refused("kept", 3) == frozenset()
    letters.close()
    places = [(each["offset"], each["sink"]) for each in written(tmp_path / "dead")]
    assert places == [("2.4", "kept"), ("2.4", "copy"), ("2.5", "kept")]


events = st.binary(max_size=20) | st.text(max_size=20).map(
    lambda text: text.encode(errors="replace")
)


@given(events, st.text(max_size=20))
def test_any_bytes_and_any_reason_come_back_as_they_were(event: bytes, reason: str) -> None:
    with TemporaryDirectory() as folder:
        record = one_record(Path(folder), DeadLetter(0, event, reason))
    assert record["reason"] == reason
    found = (
        record["event"].encode() if "event" in record else base64.b64decode(record["event_base64"])
    )
    assert found == event


@given(
    st.builds(
        LetterId,
        st.integers(0, 10**18 - 1),
        st.integers(0, 10**18 - 1),
        st.from_regex(r"([a-z][a-z0-9_-]*)?", fullmatch=True),
    )
)
def test_an_id_is_read_as_it_is_written(letter_id: LetterId) -> None:
    assert LetterId.parse(str(letter_id)) == letter_id
