"""``penstock process`` that was killed goes on where it was, when it is given again."""

from __future__ import annotations

import json
import random
import shutil
import signal
import subprocess
from collections.abc import Callable
from contextlib import ExitStack, suppress
from pathlib import Path

import pytest

from service import intake, processing
from service.checkpoint import Checkpoint
from service.dead_letter_file import DeadLetterFile
from service.errors import StorageBusy
from service.journal.entry import ChainChange, Configuration, chain_entry
from service.journal.journal import BLOCK, Journal, NewEntry
from service.processing import over_files, process
from service.settings import Settings, StateSettings
from service.signals import Stop
from service.state_directory import Storage, lock_directory
from tests.conftest import Command
from tests.daemon.running import PENSTOCK, eventually, left_behind, write_configuration
from tests.sequential import sequential

pytestmark = pytest.mark.timeout(90)

ADJACENT = {"name": "adjacent", "use": "adjacent", "params": {"window": 300.0, "radius": 1}}
ARGUMENTS = [
    "process",
    "in.ndjson",
    "--output",
    "out.ndjson",
    "--json",
    "--config",
    "penstock.toml",
]
EVENTS = 200_000
DELETED = "(deleted)"
SLOW = """
import time

import numpy as np

from middleware.contract import Middleware


class Slow(Middleware):
    reads = ("cid",)

    def handle_batch(self, batch):
        time.sleep(0.01)  # slow by itself: nothing is waited for
        return np.ones(len(batch), bool)

    def handle(self, event):
        return event
"""


@pytest.fixture
def lines(tmp_path: Path) -> list[bytes]:
    """Return the lines of in.ndjson, of which number 100,000 is bad."""
    choice = random.Random(3)
    lines = [
        b'{"cid":%d,"time":%.3f}\n' % (choice.randrange(100_000), 1.7e9 + index / 100)
        for index in range(EVENTS)
    ]
    lines[100_000] = b"bad\n"
    (tmp_path / "in.ndjson").write_bytes(b"".join(lines))
    write_configuration(
        tmp_path,
        middleware=[ADJACENT],
        block={"bytes": "64KiB"},
        event={"max_event_bytes": "1KiB"},
        state={"checkpoint_bytes": "256KiB"},
    )
    return lines


def killed_half_way(folder: Path) -> None:
    """Start the command, and kill it once it has written a part of its output."""
    command = subprocess.Popen(
        [PENSTOCK, *ARGUMENTS], cwd=folder, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL
    )
    output = folder / "out.ndjson"
    eventually(lambda: output.exists() and output.stat().st_size > 1_000_000, "it has begun")
    command.kill()
    assert command.wait(20) == -signal.SIGKILL
    assert left_behind(folder) == []


def expected(lines: list[bytes]) -> bytes:
    return sequential(line for line in lines if line != b"bad\n")


def test_it_goes_on_with_the_same_answer(
    lines: list[bytes], tmp_path: Path, penstock: Command
) -> None:
    killed_half_way(tmp_path)
    assert (tmp_path / "out.ndjson.state").is_dir()
    done = penstock(*ARGUMENTS)
    assert b"going on where an earlier run ended" in done.stderr
    summary = json.loads(done.stdout)
    assert (tmp_path / "out.ndjson").read_bytes() == expected(lines)
    assert summary["accepted"] == EVENTS
    assert summary["dead"] == 1
    assert summary["emitted"] + summary["dropped"]["adjacent"] + 1 == EVENTS
    (letter,) = (tmp_path / "out.ndjson.dead").read_text().splitlines()
    assert json.loads(letter)["line"] == 100_001
    assert not (tmp_path / "out.ndjson.state").exists(), "nothing is left to go on with"


@pytest.mark.parametrize("changed", ["an input", "the configuration"])
def test_what_was_changed_since_makes_it_start_anew(
    lines: list[bytes], tmp_path: Path, penstock: Command, changed: str
) -> None:
    killed_half_way(tmp_path)
    if changed == "an input":
        lines = lines[:150_000]
        (tmp_path / "in.ndjson").write_bytes(b"".join(lines))
        right = expected(lines)
    else:
        text = (tmp_path / "penstock.toml").read_text()
        (tmp_path / "penstock.toml").write_text(text.replace("300.0", "30.0"))
        right = sequential((line for line in lines if line != b"bad\n"), window=30.0)
    done = penstock(*ARGUMENTS)
    assert b"starts anew: an input or the configuration was changed since" in done.stderr
    assert (tmp_path / "out.ndjson").read_bytes() == right
    assert json.loads(done.stdout)["accepted"] == len(lines)


def test_a_second_one_with_the_same_output_is_told_to_take_another(
    tmp_path: Path, penstock: Command
) -> None:
    write_configuration(tmp_path, middleware=[ADJACENT])
    (tmp_path / "in.ndjson").write_bytes(b'{"cid":1,"time":1}\n')
    with lock_directory(tmp_path / "out.ndjson.state"):
        done = penstock(*ARGUMENTS)
    assert b"stop it, or give another --output" in done.stderr


@pytest.mark.parametrize("folder", ["journal", "checkpoints"])
def test_what_cannot_be_read_makes_it_start_anew(
    lines: list[bytes], tmp_path: Path, penstock: Command, folder: str
) -> None:
    killed_half_way(tmp_path)
    for path in (tmp_path / "out.ndjson.state" / folder).iterdir():
        path.write_bytes(b"")
    done = penstock(*ARGUMENTS)
    assert b"starts anew" in done.stderr
    assert (tmp_path / "out.ndjson").read_bytes() == expected(lines)


def test_memory_and_positions_are_saved_as_time_goes_by(
    lines: list[bytes], tmp_path: Path, penstock: Command
) -> None:
    (tmp_path / "in.ndjson").write_bytes(b"".join(lines[:50_000]))
    (tmp_path / "slow.py").write_text(SLOW)
    write_configuration(
        tmp_path,
        middleware=[{"name": "slow", "use": "slow:Slow"}, ADJACENT],
        block={"bytes": "8KiB"},
        event={"max_event_bytes": "1KiB"},
        queue={"bytes": "64KiB"},
        state={"checkpoint_interval": 0.1},
    )
    command = subprocess.Popen(
        [PENSTOCK, *ARGUMENTS], cwd=tmp_path, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL
    )
    saved = tmp_path / "out.ndjson.state" / "checkpoints"
    eventually(lambda: len([*saved.glob("*.checkpoint")]) > 1, "a checkpoint behind the start")
    command.kill()
    assert command.wait(20) == -signal.SIGKILL
    done = penstock(*ARGUMENTS)
    assert b"going on where an earlier run ended" in done.stderr
    assert (tmp_path / "out.ndjson").read_bytes() == expected(lines[:50_000])


def test_without_durability_nothing_is_kept_beside_the_output(
    lines: list[bytes], tmp_path: Path, penstock: Command
) -> None:
    text = (tmp_path / "penstock.toml").read_text()
    (tmp_path / "penstock.toml").write_text(text.replace("[state]", '[state]\ndurability = "off"'))
    assert penstock(*ARGUMENTS).returncode == 0
    assert (tmp_path / "out.ndjson").read_bytes() == expected(lines)
    assert not (tmp_path / "out.ndjson.state").exists()


def interrupted_half_way(
    folder: Path, more: int, before_that: Callable[[], None] = lambda: None
) -> str:
    """Start the command, interrupt it once its output has grown by ``more`` bytes.

    Returns what it said. ``before_that`` is done right before it is interrupted.
    """
    output = folder / "out.ndjson"
    before = output.stat().st_size if output.exists() else 0
    with (
        (folder / "said").open("wb") as said,
        subprocess.Popen(
            [PENSTOCK, *ARGUMENTS], cwd=folder, stdout=subprocess.DEVNULL, stderr=said
        ) as command,
    ):
        eventually(
            lambda: output.exists() and output.stat().st_size > before + more, "it goes on", 60
        )
        before_that()
        command.send_signal(signal.SIGINT)
        assert command.wait(20) == 130
    assert left_behind(folder) == []
    return (folder / "said").read_text()


def test_an_interrupted_run_goes_on_exactly_where_it_was(
    lines: list[bytes], tmp_path: Path, penstock: Command
) -> None:
    (tmp_path / "slow.py").write_text(SLOW)
    write_configuration(
        tmp_path,
        middleware=[{"name": "slow", "use": "slow:Slow"}, ADJACENT],
        block={"bytes": "32KiB"},
        event={"max_event_bytes": "1KiB"},
    )  # the usual distance between checkpoints, which this input never reaches
    emitted = []
    for told in (0, 1):
        said = interrupted_half_way(tmp_path, 200_000)
        assert "the same command goes on from there" in said
        assert ("going on where an earlier run ended" in said) == bool(told)
        assert "at block 0" not in said
        emitted.append((tmp_path / "out.ndjson").read_bytes())
    assert emitted[1].startswith(emitted[0])
    done = penstock(*ARGUMENTS)
    assert b"going on where an earlier run ended" in done.stderr
    assert json.loads(done.stdout)["accepted"] == EVENTS
    assert (tmp_path / "out.ndjson").read_bytes() == expected(lines)


@pytest.mark.usefixtures("lines")
def test_an_interrupted_run_that_could_not_be_saved_says_where_it_goes_on(tmp_path: Path) -> None:
    (tmp_path / "slow.py").write_text(SLOW)
    write_configuration(
        tmp_path,
        middleware=[{"name": "slow", "use": "slow:Slow"}],
        block={"bytes": "32KiB"},
        event={"max_event_bytes": "1KiB"},
    )

    def let_no_checkpoint_be_written() -> None:
        folder = tmp_path / "out.ndjson.state" / "checkpoints"
        shutil.rmtree(folder)
        folder.touch()

    said = interrupted_half_way(tmp_path, 200_000, let_no_checkpoint_be_written)
    assert "cannot be written" in said
    assert "goes on from where it was saved last, and writes the rest again" in said


def test_an_output_that_nobody_reads_keeps_no_interrupt_waiting(
    lines: list[bytes], tmp_path: Path
) -> None:
    arguments = ["process", "in.ndjson", "--output", "-", "--config", "penstock.toml"]
    with subprocess.Popen(
        [PENSTOCK, *arguments], cwd=tmp_path, stdout=subprocess.PIPE, stderr=subprocess.PIPE
    ) as command:
        assert command.stdout is not None
        assert command.stdout.read(1) == lines[0][:1], "it writes, and fills the pipe"
        command.send_signal(signal.SIGINT)
        assert command.wait(20) == 130
        assert command.stderr is not None
        assert b"the same command starts anew" in command.stderr.read()
    assert left_behind(tmp_path) == []


def test_all_input_is_taken_in_also_where_a_lock_delays_its_end(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A stop gives back what was not accepted, and here nobody would hand it in again."""
    monkeypatch.setattr(intake, "SPACE_LOOK", 0.05)
    monkeypatch.setattr(processing, "LOOK", 0.001)
    append, busy = Journal.append, [StorageBusy("another process holds a lock on it")] * 10

    def locked_at_first(journal: Journal, *entries: NewEntry) -> int:
        if entries[0].kind == BLOCK and busy:
            raise busy.pop()
        return append(journal, *entries)

    monkeypatch.setattr(Journal, "append", locked_at_first)
    events, output = tmp_path / "in.ndjson", tmp_path / "out.ndjson"
    events.write_text("".join(f'{{"cid":{n},"time":1}}\n' for n in range(100)))
    settings = over_files(
        Settings.model_validate(
            {
                "sink": [{"name": "any", "use": "stdout"}],
                "block": {"bytes": 1024},
                "event": {"max_event_bytes": 1024},
                "workers": {"count": 1},
            }
        ),
        [str(events)],
        str(output),
    )
    summary = process(settings, [str(events)], tmp_path / "dead", Stop(), lambda _: None)
    assert not busy
    assert (summary.emitted, output.read_bytes()) == (100, events.read_bytes())


@pytest.mark.parametrize("saved", [False, True], ids=["it cannot be read", "it is of another kind"])
def test_what_an_earlier_run_left_is_closed_before_it_is_removed_to_start_anew(
    tmp_path: Path, *, saved: bool
) -> None:
    """What is open still writes, under names that are those of other files by then."""
    state = StateSettings(directory=tmp_path / "state", reserve=1)
    letters = DeadLetterFile(tmp_path / "dead")

    def storage(kind: str) -> Storage:
        with ExitStack() as cleanup:
            return processing._storage(state, Configuration({"kind": kind}, ()), letters, cleanup)  # noqa: SLF001 - what is left open shows nowhere else

    first = storage("one")
    start = first.recovered.start
    first.journal.append(chain_entry(1, ChainChange(start.chain, start.configuration)))
    if saved:
        assert first.checkpoints is not None
        first.checkpoints.save(
            Checkpoint(0, 1, start.chain, start.configuration, None, {}, None, {}, {})
        )
    first.journal.close()
    second = storage("another")
    removed = [name for name in open_files() if name.startswith(str(tmp_path)) and DELETED in name]
    second.journal.close()
    assert second.recovered.checkpoint is None
    assert removed == []


def open_files() -> list[str]:
    names = []
    for each in Path("/proc/self/fd").iterdir():
        with suppress(FileNotFoundError):
            names.append(str(each.readlink()))
    return names
