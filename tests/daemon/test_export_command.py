"""``penstock journal export``: the accepted events themselves, from where to where one wants."""

from __future__ import annotations

from pathlib import Path

import pytest

from tests.conftest import Command, StartDaemon
from tests.daemon.running import write_configuration

pytestmark = pytest.mark.timeout(60)

CONFIG = ("--config", "penstock.toml")
UGLY = b'{ "time":2.50,"cid" :\t7, "x": "\xc3\xa9" }\n\nno event\n{"cid":8,"time":3}\n'
FILE = b'{"cid":1,"time":1}\n\n{"cid":2,"time":2}\r\n{"cid":3,"time":3}'


@pytest.fixture
def offsets(start_daemon: StartDaemon, tmp_path: Path) -> list[str]:
    """Return the first offset of a file that was read and of two posts after it."""
    (tmp_path / "in.ndjson").write_bytes(FILE)
    source = {"name": "file", "use": "ndjson", "params": {"paths": ["in.ndjson"]}}
    daemon = start_daemon(source=[source, {"name": "push", "use": "http"}])
    daemon.settle()
    posted = [daemon.accept(UGLY)["first"], daemon.accept(b'{"cid":9,"time":9}')["first"]]
    daemon.settle()
    blocks = [int(offset.split(".")[0]) for offset in posted]
    return [f"{blocks[0] - 1}.0", *posted]


def test_all_that_was_accepted_is_written_byte_for_byte(
    offsets: list[str], penstock: Command
) -> None:
    assert offsets
    done = penstock("journal", "export", *CONFIG)
    assert (done.returncode, done.stderr) == (0, b"")
    assert done.stdout == FILE + b"\n" + UGLY + b'{"cid":9,"time":9}\n'


def test_a_range_begins_and_ends_at_its_events(offsets: list[str], penstock: Command) -> None:
    file, ugly, last = (offset.split(".")[0] for offset in offsets)
    done = penstock("journal", "export", "--from", f"{file}.2", "--to", f"{ugly}.2", *CONFIG)
    expected = FILE.split(b"\n", 2)[2] + b"\n" + UGLY[: UGLY.index(b"no event\n") + 9]
    assert done.stdout == expected
    done = penstock("journal", "export", "--from", last, *CONFIG)
    assert done.stdout == b'{"cid":9,"time":9}\n'
    for beyond in ("2999-01-01T00:00:00Z", f"{last}.1", "99999.0"):
        done = penstock("journal", "export", "--from", beyond, *CONFIG)
        assert (done.returncode, done.stdout) == (0, b"")
        assert f"nothing is written: the journal ends at offset {last}.0," in done.stderr.decode()


def test_what_is_written_can_be_filtered_again(offsets: list[str], penstock: Command) -> None:
    events = penstock("journal", "export", "--from", offsets[2], *CONFIG).stdout
    again = penstock("process", "-", "--output", "again.ndjson", *CONFIG, stdin=events)
    assert again.returncode == 0, again.stderr


def test_an_input_that_is_gone_is_named_and_all_else_is_written(
    offsets: list[str], penstock: Command, tmp_path: Path
) -> None:
    assert offsets
    (tmp_path / "in.ndjson").unlink()
    done = penstock("journal", "export", *CONFIG)
    assert done.returncode == 1
    assert b"in.ndjson: cannot be read any more" in done.stderr
    assert done.stdout == UGLY + b'{"cid":9,"time":9}\n'


def test_without_a_journal_it_says_so(penstock: Command, tmp_path: Path) -> None:
    write_configuration(tmp_path)
    done = penstock("journal", "export", *CONFIG)
    assert done.returncode == 1
    assert b"there is no journal" in done.stderr
