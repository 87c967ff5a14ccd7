"""The server that children are forked from: whenever it dies, the next one is as safe."""

from __future__ import annotations

import multiprocessing
import os
import sys
import tempfile
from multiprocessing.connection import Connection
from pathlib import Path
from typing import Any

import pytest

from service import child
from service.child import end_child, end_server, prepare_children, start_child

pytestmark = [
    pytest.mark.timeout(60),
    pytest.mark.skipif(not Path("/proc/self/fd").is_dir(), reason="holds files as Linux can"),
]


def tell_safe_path(pipe: Connection) -> bool:
    """Send whether the server imports nothing from the working folder."""
    pipe.send(sys.flags.safe_path)
    return True


def kill_server() -> None:
    end_server()
    pid = child._SERVER._forkserver_pid  # noqa: SLF001 - only there is it known
    os.waitid(os.P_PID, pid, os.WEXITED | os.WNOWAIT)


def test_a_server_that_dies_right_before_it_is_needed_is_replaced_by_one_as_safe(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    before = set(Path(tempfile.gettempdir()).iterdir())
    prepare_children()
    get_context = multiprocessing.get_context

    def get_context_too_late(method: Any) -> Any:
        kill_server()
        return get_context(method)

    monkeypatch.setattr(child, "get_context", get_context_too_late)
    try:
        process, pipe = start_child("child", tmp_path, f"{__name__}:{tell_safe_path.__name__}")
        assert pipe.poll(30)
        assert pipe.recv() is True
        end_child(process)
        pipe.close()
        assert set(Path(tempfile.gettempdir()).iterdir()) == before
    finally:
        kill_server()
