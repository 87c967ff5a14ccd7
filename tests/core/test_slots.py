"""Slots: what a worker puts into memory, the daemon takes out whole."""

from __future__ import annotations

import errno
from collections import deque
from collections.abc import Iterator
from pathlib import Path
from threading import Event

import psutil
import pytest
from hypothesis import given
from hypothesis import strategies as st

from service import slots, threads, worker_pool
from service.progress import Progress
from service.slots import LARGEST, LEAST, Put, Slots
from service.worker_pool import WorkerLink
from tests.core.dispatching import LIMIT
from tests.core.dispatching import Setup as Dispatching

SIZE = LEAST + 100


def test_what_is_large_goes_through_memory() -> None:
    shared = Slots(2, SIZE)
    put = shared.put(b"x" * SIZE)
    assert put == Put(0, SIZE)
    assert shared.take(put) == b"x" * SIZE
    shared.close()


@pytest.mark.parametrize("length", [0, 1, LEAST - 1, SIZE + 1, 10 * SIZE])
def test_what_is_small_or_fits_no_slot_goes_through_the_pipe(length: int) -> None:
    shared = Slots(2, SIZE)
    data = bytes(length)
    assert shared.put(data) is data
    assert shared.take(data) is data
    shared.close()


@given(st.integers(1, 4), st.lists(st.binary(max_size=40)), st.data())
def test_as_many_as_there_are_slots_may_wait_to_be_taken_out(
    count: int, blocks: list[bytes], data: st.DataObject
) -> None:
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(slots, "LEAST", 5)
        shared = Slots(count, 30)
        waiting: deque[tuple[bytes, bytes | Put]] = deque()
        for block in blocks:
            while waiting and (len(waiting) == count or data.draw(st.booleans())):
                right, put = waiting.popleft()
                assert shared.take(put) == right
            waiting.append((block, shared.put(block)))
        assert all(shared.take(put) == right for right, put in waiting)
        shared.close()


@pytest.fixture
def files_left() -> Iterator[None]:
    """See that as many files are open afterwards as before."""
    Progress(1)  # its memory comes from a heap that keeps its file
    process = psutil.Process()
    before = process.num_fds()
    yield
    assert process.num_fds() == before


@pytest.mark.usefixtures("files_left")
def test_no_file_stays_open() -> None:
    Slots(2, SIZE).close()


@pytest.mark.usefixtures("files_left")
def test_no_file_stays_open_when_there_is_no_memory(monkeypatch: pytest.MonkeyPatch) -> None:
    def no_memory(*_: object) -> None:
        raise OSError(errno.ENOMEM, "no memory")

    monkeypatch.setattr("mmap.mmap", no_memory)
    with pytest.raises(OSError, match="no memory"):
        Slots(2, SIZE)


@pytest.mark.usefixtures("files_left")
def test_no_file_stays_open_when_a_worker_cannot_be_started(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    thrice = Event()
    attempts = 0

    def no_process(*_: object) -> None:
        nonlocal attempts
        attempts += 1
        if attempts > 2:
            thrice.set()
        raise OSError(errno.EAGAIN, "no process")

    monkeypatch.setattr(worker_pool, "start_child", no_process)
    monkeypatch.setattr(threads, "LONGEST_PAUSE", 0.0)
    nothing = Dispatching().dispatcher
    link = WorkerLink(0, nothing, tmp_path, lambda: None, SIZE, lambda: None, lambda _: None)  # type: ignore[arg-type,return-value]  # no process, no plan
    link.start()
    assert thrice.wait(LIMIT)
    link.stop(5)


def test_endless_blocks_do_not_take_endless_memory() -> None:
    shared = Slots(2, 2**70)
    data = bytes(LARGEST + 1)
    assert shared.put(data) is data
    shared.close()
