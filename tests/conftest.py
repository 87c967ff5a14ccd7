"""Fixtures for tests with real processes: daemons, and the command line."""

from __future__ import annotations

import multiprocessing.util
import subprocess
import tempfile
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

from tests.daemon.running import (
    PENSTOCK,
    RunningDaemon,
    eventually,
    left_behind,
    processes_in,
    write_configuration,
)

StartDaemon = Callable[..., RunningDaemon]
Command = Callable[..., "subprocess.CompletedProcess[bytes]"]


@pytest.fixture(scope="session", autouse=True)
def temporary_folder(tmp_path_factory: pytest.TempPathFactory) -> Iterator[None]:
    """Let what daemons that were killed with all their children left behind go with the tests."""
    multiprocessing.util.get_temp_dir()  # which goes at the very end, by itself
    tmp_path_factory.getbasetemp()  # which pytest keeps for a while, to be looked at
    with (
        tempfile.TemporaryDirectory(prefix="penstock-tests-") as folder,
        pytest.MonkeyPatch.context() as patch,
    ):
        Path(folder).chmod(0o711)  # a database server may have to run as another user
        patch.setenv("TMPDIR", folder)
        patch.setattr(tempfile, "tempdir", None)
        yield


@pytest.fixture
def start_daemon(tmp_path: Path) -> Iterator[StartDaemon]:
    """Start daemons in the test's directory, with the tables given; none outlives the test.

    ``ready=False`` does not wait for it.
    """
    daemons: list[RunningDaemon] = []

    def start(
        *,
        ready: bool = True,
        stdin: Any = subprocess.DEVNULL,
        stdout: Any = subprocess.DEVNULL,
        **tables: Any,
    ) -> RunningDaemon:
        write_configuration(tmp_path, **tables)
        daemon = RunningDaemon(tmp_path, stdin=stdin, stdout=stdout)
        daemons.append(daemon)
        if ready:
            daemon.wait_until_ready()
        return daemon

    yield start
    for daemon in daemons:
        daemon.end()
    assert left_behind(tmp_path) == []


@pytest.fixture
def penstock(tmp_path: Path) -> Command:
    """Run a ``penstock`` command in the test's directory; it leaves no process behind."""

    def run(*arguments: str, stdin: bytes = b"") -> subprocess.CompletedProcess[bytes]:
        before = {process.pid for process in processes_in(tmp_path)}
        result = subprocess.run(
            [PENSTOCK, *arguments],
            cwd=tmp_path,
            input=stdin,
            capture_output=True,
            timeout=60,
            check=False,
        )
        eventually(
            lambda: {process.pid for process in processes_in(tmp_path)} <= before,
            "the command has left no process behind",
            limit=2,
        )
        return result

    return run
