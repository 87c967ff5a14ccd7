"""Snapshots: what steps remember crosses processes and the disk in one piece, and comes back."""

from __future__ import annotations

import errno
import os
from collections.abc import Callable, Iterator
from multiprocessing import Pipe
from multiprocessing.connection import Connection
from pathlib import Path
from unittest.mock import Mock

import pytest
from hypothesis import given
from hypothesis import strategies as st

from service import state_host
from service.answer import NO_BLAME
from service.errors import ProcessLost, SnapshotHeldBack
from service.shared_file import SharedFile
from service.snapshot import Snapshot, StepMemory
from service.state_host import HostedSequencer, StateHost
from tests.core.examples import block, chain, line, runner, sequencer, step

MEMORIES = st.builds(
    StepMemory,
    name=st.text(),
    use=st.text(),
    params=st.dictionaries(st.text(), st.integers(-5, 5) | st.text()),
    resets=st.integers(0, 5),
    state=st.binary(),
)


@given(st.integers(0, 2**63), st.lists(MEMORIES, unique_by=lambda memory: memory.name))
def test_what_was_encoded_comes_back(number: int, memories: list[StepMemory]) -> None:
    again = Snapshot.decode(Snapshot(number, memories).encoded())
    assert again.block == number
    assert [*again.memories.values()] == memories


@pytest.fixture
def shared() -> Iterator[SharedFile]:
    file = SharedFile()
    yield file
    file.close()


def test_what_one_side_puts_in_the_other_takes_out_once(shared: SharedFile) -> None:
    shared.put([b"abc", memoryview(b"d"), b""])
    assert bytes(shared.take()) == b"abcd"
    assert bytes(shared.take()) == b""


def test_what_is_put_in_takes_the_place_of_what_is_there(shared: SharedFile) -> None:
    shared.put([b"longer"])
    shared.put([b"new"])
    assert bytes(shared.take()) == b"new"


def test_large_things_are_written_and_read_in_as_many_steps_as_it_takes(
    shared: SharedFile, monkeypatch: pytest.MonkeyPatch
) -> None:
    write, read = os.pwrite, os.preadv
    monkeypatch.setattr(os, "pwrite", lambda file, data, at: write(file, data[:3], at))
    monkeypatch.setattr(os, "preadv", lambda file, into, at: read(file, [into[0][:2]], at))
    shared.put([b"0123456789", b"abc"])
    assert bytes(shared.take()) == b"0123456789abc"


def test_a_snapshot_that_cannot_be_put_there_may_be_asked_for_again(
    shared: SharedFile, monkeypatch: pytest.MonkeyPatch
) -> None:
    version = chain(step("Tally"))
    asked = sequencer(version.steps)
    runner(asked.ask).run(block(1, line(1), version, barrier=True), NO_BLAME, 0)
    hosted = HostedSequencer(asked, shared)

    def full(*_: object) -> int:
        raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))

    with monkeypatch.context() as patch:
        patch.setattr(os, "pwrite", full)
        assert "No space left" in (hosted.put_snapshot(1) or "")
    hosted.put_snapshot(1)
    assert Snapshot.decode(shared.take()).block == 1
    with pytest.raises(KeyError):
        hosted.put_snapshot(1)


class Generations:
    """State hosts that do nothing by themselves; each has a file of its own."""

    def __init__(self, monkeypatch: pytest.MonkeyPatch, folder: Path) -> None:
        self.files: list[SharedFile] = []
        self.put: Callable[[int], object] = self._put
        self.then: Callable[[], None] = lambda: None
        generations = self

        class Client:
            """Puts the snapshot in; something may happen right after that."""

            def __init__(self, *_: object) -> None:
                """Take no notice of the address."""

            def put_snapshot(self, number: int) -> None:
                generations.put(number)
                generations.then()

        monkeypatch.setattr(state_host, "start_child", self._start_child)
        monkeypatch.setattr(state_host, "StateClient", Client)
        self.host = StateHost(folder, (), retries=0)

    def _put(self, number: int) -> None:
        self.files[-1].put([b"after block %d" % number])

    def _start_child(self, *given: object) -> tuple[None, Connection]:
        assert isinstance(given[-1], SharedFile)
        self.files.append(given[-1])
        ours, self._theirs = Pipe()
        self._theirs.send(None)  # it is ready
        return None, ours


@pytest.fixture
def generations(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> Iterator[Generations]:
    made = Generations(monkeypatch, tmp_path)
    made.host.start(b"before")
    yield made
    made.host.close()


def test_a_state_host_is_given_a_snapshot_and_asked_for_another(generations: Generations) -> None:
    assert bytes(generations.files[0].take()) == b"before"
    assert bytes(generations.host.snapshot(generations.host.address, 8)) == b"after block 8"


def test_a_snapshot_that_was_put_in_and_not_taken_out_may_be_asked_for_again(
    generations: Generations,
) -> None:
    """The answer that it is there may be lost."""
    (shared,) = generations.files
    shared.take()
    version = chain(step("Tally"))
    asked = sequencer(version.steps)
    runner(asked.ask).run(block(1, line(1), version, barrier=True), NO_BLAME, 0)
    generations.put = HostedSequencer(asked, shared).put_snapshot

    def lost() -> None:
        raise ProcessLost("nobody answered")

    generations.then = lost
    for _ in range(2):
        with pytest.raises(ProcessLost, match="nobody answered"):
            generations.host.snapshot(generations.host.address, 1)
    generations.then = lambda: None
    assert Snapshot.decode(generations.host.snapshot(generations.host.address, 1)).block == 1


def test_what_another_state_host_was_given_is_not_taken_for_a_snapshot(
    generations: Generations,
) -> None:
    generations.then = lambda: generations.host.start(b"before")
    with pytest.raises(ProcessLost, match="what it put in"):
        generations.host.snapshot(generations.host.address, 8)
    assert bytes(generations.files[1].take()) == b"before", "it is still there for the other one"


def test_there_is_no_snapshot_any_more_once_all_has_ended(generations: Generations) -> None:
    generations.then = generations.host.close
    with pytest.raises(ProcessLost):
        generations.host.snapshot(generations.host.address, 8)


@pytest.mark.parametrize(
    ("answer", "error"),
    [("No space left", SnapshotHeldBack), (KeyError(1), ProcessLost), (EOFError(), ProcessLost)],
)
def test_a_state_host_without_room_is_told_from_one_that_is_gone(
    monkeypatch: pytest.MonkeyPatch, answer: str | Exception, error: type[Exception]
) -> None:
    hosted = Mock(**{"put_snapshot.side_effect": [answer]})
    monkeypatch.setattr(state_host.StateManager, "register", lambda *_, **__: None)
    monkeypatch.setattr(state_host.StateManager, "connect", lambda _: None)
    monkeypatch.setattr(state_host.StateManager, "sequencer", lambda _: hosted, raising=False)
    client = state_host.StateClient("/nowhere", b"key")
    monkeypatch.undo()
    with pytest.raises(error):
        client.put_snapshot(1)
