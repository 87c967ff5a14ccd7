"""Slots: what a worker puts into memory, the daemon takes out whole."""

from __future__ import annotations

from collections import deque

import psutil
import pytest
from hypothesis import given
from hypothesis import strategies as st

from service import slots
from service.slots import LEAST, Put, Slots

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


def test_no_file_stays_open() -> None:
    process = psutil.Process()
    before = process.num_fds()
    Slots(2, SIZE).close()
    assert process.num_fds() == before
