"""Standard output: each line at least once, and what was written half goes on where it failed."""

from __future__ import annotations

import os
import sys
from collections.abc import Iterator
from contextlib import contextmanager

import pytest

from service.errors import PipelineFailed
from service.sinks.stdout import StdoutSink
from tests.sinks.writing import emission


@contextmanager
def read_from_standard_output() -> Iterator[int]:
    """Give the reading end of a pipe that is standard output; neither end ever waits."""
    reader, writer = os.pipe()
    os.set_blocking(reader, False)
    os.set_blocking(writer, False)
    with os.fdopen(writer, "w") as stream, pytest.MonkeyPatch.context() as patch:
        patch.setattr(sys, "stdout", stream)
        yield reader
    os.close(reader)


def test_lines_leave_as_they_came() -> None:
    sink = StdoutSink(StdoutSink.Params())
    with read_from_standard_output() as reader:
        sink.open(None)
        sink.write(emission(1, b'{ "cid":1}\n', b"{}\n"))
        sink.write(emission(2, b"{}\n"))
        assert sink.position() is None
        assert os.read(reader, 100) == b'{ "cid":1}\n{}\n{}\n'


def test_half_a_write_goes_on_where_it_failed() -> None:
    sink = StdoutSink(StdoutSink.Params())
    lines = [b"%06d\n" % number for number in range(30_000)]  # more than a pipe holds
    found = b""
    waits = 0
    with read_from_standard_output() as reader:
        for block in (1, 2):
            for _ in range(10):
                try:
                    sink.write(emission(block, *lines))
                except BlockingIOError:
                    waits += 1
                    found += os.read(reader, 2**20)
                else:
                    break
        found += os.read(reader, 2**20)
    assert waits >= 2
    assert found == 2 * b"".join(lines)


def test_a_reader_that_left_ends_the_pipeline(monkeypatch: pytest.MonkeyPatch) -> None:
    reader, writer = os.pipe()
    os.close(reader)
    with os.fdopen(writer, "w") as stream:
        monkeypatch.setattr(sys, "stdout", stream)
        with pytest.raises(PipelineFailed, match="standard output was closed"):
            StdoutSink(StdoutSink.Params()).write(emission(1, b"one\n"))
