"""The checkpointer: a barrier that has passed everything becomes the place to start from."""

from __future__ import annotations

import errno
from pathlib import Path

import pytest

from service import checkpoint
from service.checkpoint import CheckpointFiles
from service.checkpointer import Checkpointer
from service.dead_letter_file import DeadLetterFile
from service.dispatcher import Barrier
from service.emitter import Emitter
from service.errors import OutcomeUnknown, ProcessLost, SnapshotHeldBack
from service.journal.entry import Configuration
from service.journal.unkept import UnkeptJournal
from service.origins import Origins
from service.outlet import Outlet
from service.sinks.sink import Emission, Sink
from service.snapshot import Encoded
from service.statistics import Statistics
from tests.core.dispatching import LIMIT
from tests.core.dispatching import Setup as Dispatching
from tests.core.examples import blank_result, block


class NoSink(Sink):
    """Writes nothing, and tells what is asked of it."""

    def __init__(self) -> None:
        super().__init__(None)
        self.asked: list[str] = []
        self.trouble: OSError | None = None

    def write(self, emission: Emission) -> None:
        """Do nothing."""

    def position(self) -> int:
        return len(self.asked)

    def flush(self) -> None:
        self.asked.append("flush")
        if self.trouble is not None:
            raise self.trouble


class Setup:
    def __init__(self, folder: Path) -> None:
        self.sink = NoSink()
        self.troubles: list[ProcessLost | SnapshotHeldBack] = []
        self.problems: list[str | None] = []
        """What the checkpointer told of its problem, each time it fetched."""
        self.folder = folder / "checkpoints"
        self.files = CheckpointFiles(self.folder)
        assert self.files.load() is None
        self.dispatching = Dispatching()
        self.emitter = Emitter(
            {"none": Outlet(self.sink)},
            DeadLetterFile(folder / "dead"),
            Origins(),
            Statistics([]),
            lambda _: None,
        )
        self.checkpointer = Checkpointer(
            self.dispatching.dispatcher,
            self.emitter,
            UnkeptJournal(),
            self.files,
            Configuration({}, ()),
            self.fetch,
        )

    def emit(self, *numbers: int) -> None:
        for number in numbers:
            self.emitter.offer(block(number, b"{}\n", barrier=number % 2 == 0), blank_result())
            assert self.emitter.emit_next()

    def fetch(self, _: str, __: int) -> bytes:
        """Answer as the state host does."""
        self.problems.append(self.checkpointer.problem)
        if self.troubles:
            raise self.troubles.pop()
        return b"memory"

    def memory(self) -> Encoded | None:
        return self.dispatching.dispatcher.snapshot

    def saved(self) -> list[int]:
        return sorted(int(path.stem) for path in self.folder.glob("*.checkpoint"))


@pytest.fixture
def setup(tmp_path: Path) -> Setup:
    return Setup(tmp_path)


def barrier(number: int) -> Barrier:
    return Barrier(number, 1, "first")


def test_the_last_two_checkpoints_are_kept(setup: Setup) -> None:
    setup.emit(1, 2, 3, 4, 5, 6)
    for number in (2, 4, 6):
        setup.checkpointer.take(barrier(number), b"memory")
    assert setup.saved() == [4, 6]
    again = CheckpointFiles(setup.folder).load()
    assert again is not None
    assert again.block == 6
    assert bytes(again.memory or b"") == b"memory"


def test_a_barrier_that_passes_again_after_a_state_host_s_death_is_not_saved_again(
    setup: Setup,
) -> None:
    setup.emit(1, 2)
    setup.checkpointer.take(Barrier(2, 7, "another generation"), b"memory")
    assert setup.memory() is None, "it came too late for the dispatcher"
    assert setup.saved() == [2]
    setup.checkpointer.take(barrier(2), b"memory")
    assert setup.memory() == b"memory"
    assert setup.sink.asked == ["flush"]


def test_a_sink_that_does_not_say_what_it_kept_stops_everything_before_the_checkpoint(
    setup: Setup,
) -> None:
    setup.emit(1, 2)
    setup.sink.trouble = OSError(5, "Input/output error")
    with pytest.raises(OutcomeUnknown, match="since the last checkpoint again"):
        setup.checkpointer.take(barrier(2), b"memory")
    assert setup.saved() == []


def test_a_checkpoint_that_does_not_fit_on_the_disk_is_left_out(
    setup: Setup, caplog: pytest.LogCaptureFixture
) -> None:
    setup.emit(1, 2, 3, 4)
    setup.checkpointer.take(barrier(2), b"memory")
    (setup.folder / f"{4:016d}.unfinished").mkdir()
    setup.checkpointer.take(barrier(4), b"more")
    assert setup.saved() == [2]
    assert "the one before it holds" in caplog.text
    assert setup.memory() == b"more"
    assert setup.checkpointer.wait_for(4, 0), "nobody waits for it any more"
    assert setup.checkpointer.block == 2, "but it counts for nothing"
    assert "the checkpoint at block 4 cannot be written" in (setup.checkpointer.problem or "")


def test_the_next_barrier_tries_again_after_a_checkpoint_that_could_not_be_written(
    setup: Setup, caplog: pytest.LogCaptureFixture
) -> None:
    setup.emit(1, 2, 3, 4)
    in_the_way = setup.folder / f"{2:016d}.unfinished"
    in_the_way.mkdir(parents=True)
    setup.checkpointer.take(Barrier(2, 7, "another generation"), b"memory")
    setup.checkpointer.take(barrier(2), b"memory")
    assert setup.saved() == []
    assert setup.memory() == b"memory", "it passed again; the memory holds for state hosts"
    in_the_way.rmdir()
    setup.checkpointer.take(barrier(4), b"more")
    assert setup.saved() == [4]
    assert (setup.checkpointer.block, setup.checkpointer.problem) == (4, None)
    assert "checkpoints can be written again" in caplog.text


def test_a_checkpoint_that_does_not_fit_takes_no_room(
    setup: Setup, monkeypatch: pytest.MonkeyPatch
) -> None:
    def full(*_: object) -> None:
        raise OSError(errno.ENOSPC, "No space left on device")

    setup.emit(1, 2)
    monkeypatch.setattr(checkpoint, "write_all", full)
    setup.checkpointer.take(barrier(2), b"memory")
    assert list(setup.folder.iterdir()) == []


def test_the_journal_is_not_trimmed_where_a_checkpoint_could_not_be_written(
    setup: Setup, monkeypatch: pytest.MonkeyPatch
) -> None:
    trimmed: list[int] = []
    monkeypatch.setattr(UnkeptJournal, "trim", lambda _, needed, __: trimmed.append(needed))
    setup.emit(1, 2)
    (setup.folder / f"{2:016d}.unfinished").mkdir(parents=True)
    setup.checkpointer.take(barrier(2), b"memory")
    assert trimmed == []


def start_after_a_barrier(setup: Setup) -> None:
    """Settle two blocks, the second one a barrier, and wait until its checkpoint was tried."""
    setup.dispatching.accept(1, 2, barrier=2)
    for link in setup.dispatching.links:
        setup.dispatching.done(link, setup.dispatching.take(link).block.number)
    setup.emit(1, 2)
    setup.checkpointer.start(pytest.fail)
    assert setup.checkpointer.wait_for(2, LIMIT)


def test_a_memory_that_there_is_no_room_for_is_named_once_and_asked_for_again(
    setup: Setup, caplog: pytest.LogCaptureFixture
) -> None:
    setup.troubles = [SnapshotHeldBack("there is no room for it") for _ in range(3)]
    start_after_a_barrier(setup)
    assert setup.problems == [None, *["no checkpoint at block 2: there is no room for it"] * 3]
    assert caplog.text.count("there is no room") == 1
    assert setup.checkpointer.problem is None
    assert setup.checkpointer.held_back() == 0
    setup.dispatching.dispatcher.close()
    assert setup.checkpointer.join(LIMIT)


def test_a_state_host_that_cannot_be_asked_for_a_moment_is_asked_again(
    setup: Setup,
) -> None:
    """Such as while there are too many open files: what is kept would leave no room for ever."""
    setup.troubles = [ProcessLost("too many open files"), ProcessLost("still")]
    start_after_a_barrier(setup)
    assert setup.memory() == b"memory"
    setup.dispatching.dispatcher.close()
    assert setup.checkpointer.join(LIMIT)
