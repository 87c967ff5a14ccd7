"""Dead letters: each with its place, its reason and its own bytes, one line each."""

from __future__ import annotations

import base64
import json
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

from hypothesis import given
from hypothesis import strategies as st

from service.block import FileRange, Part
from service.dead_letters import EXCERPT, DeadLetterFile
from service.passage import DeadLetter
from tests.core.examples import blank_result, block


def written(path: Path) -> list[dict[str, Any]]:
    return [json.loads(line) for line in path.read_bytes().splitlines()]


def bad(*rows: int, event: bytes = b"bad") -> list[DeadLetter]:
    return [DeadLetter(row, event, "not JSON") for row in rows]


def one_record(path: Path, letter: DeadLetter) -> dict[str, Any]:
    letters = DeadLetterFile(path / "dead.ndjson")
    part = Part("push", 20, 1, 0.25)
    letters.write(block(7, b"\n" * 20, parts=(part,)), blank_result(dead=[letter]))
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
    letter = DeadLetter(0, b"{}", "handle raised", "lookup", 3, "Traceback: ...")
    record = one_record(tmp_path, letter)
    assert (record["middleware"], record["attempts"]) == ("lookup", 3)
    assert record["traceback"] == "Traceback: ..."


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
    letters = DeadLetterFile(path)
    letters.write(block(1, b"good\n"), blank_result(kept=b"good\n"))
    assert not path.exists()
    letters.write(block(2, b"bad\n"), blank_result(dead=bad(0)))
    assert len(written(path)) == 1
    letters.close()


def test_lines_are_counted_along_the_parts_of_a_block(tmp_path: Path) -> None:
    parts = (Part("a", 2, 1, 0.0), Part("b", 3, 10, 1.0), Part("a", 1, 3, 2.0))
    letters = DeadLetterFile(tmp_path / "dead")
    letters.write(block(1, b"\n" * 6, parts=parts), blank_result(dead=bad(0, 1, 2, 4, 5)))
    letters.close()
    places = [
        (each["source"], each["line"], each["time"][17:19]) for each in written(tmp_path / "dead")
    ]
    assert places == [
        ("a", 1, "00"),
        ("a", 2, "00"),
        ("b", 10, "01"),
        ("b", 12, "01"),
        ("a", 3, "02"),
    ]


def test_lines_are_counted_anew_for_the_next_file_of_a_source(tmp_path: Path) -> None:
    letters = DeadLetterFile(tmp_path / "dead")
    ranges = [("one", 0, 5), ("one", 5, 9), ("two", 0, 3), ("two", 3, 6)]
    for number, (path, start, stop) in enumerate(ranges, start=1):
        part = Part("files", None, None, 0.0)
        each = block(number, FileRange(path, start, stop), parts=(part,))
        letters.write(each, blank_result(lines=3, dead=bad(1)))
    letters.close()
    assert [each["line"] for each in written(tmp_path / "dead")] == [2, 5, 2, 5]


def test_sources_are_counted_apart(tmp_path: Path) -> None:
    letters = DeadLetterFile(tmp_path / "dead")
    for number, (source, start) in enumerate([("a", 0), ("b", 0), ("a", 9), ("b", 9)], start=1):
        part = Part(source, None, None, 0.0)
        each = block(number, FileRange(source, start, start + 9), parts=(part,))
        letters.write(each, blank_result(lines=number, dead=bad(0)))
    letters.close()
    assert [each["line"] for each in written(tmp_path / "dead")] == [1, 1, 2, 3]


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
