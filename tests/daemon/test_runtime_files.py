"""The files of a run: they lie in the state directory, and nothing depends on them for ever."""

from __future__ import annotations

import errno
import os
import shutil
import signal
import subprocess
import tempfile
from pathlib import Path
from typing import Any

import psutil
import pytest

from service.errors import PipelineFailed
from service.event_queue import connect
from service.runtime_directory import new_runtime_directory
from tests.conftest import Command, StartDaemon
from tests.daemon.running import (
    PENSTOCK,
    RunningDaemon,
    eventually,
    left_behind,
    write_configuration,
)

pytestmark = [
    pytest.mark.timeout(120),
    pytest.mark.skipif(not Path("/proc/self/fd").is_dir(), reason="holds files as Linux can"),
]

ADJACENT = {"name": "adjacent", "use": "adjacent", "params": {"window": 300.0, "radius": 1}}
EVENT = '{"cid":%d,"time":1}\n'


def temporary_files() -> set[str]:
    return {path.name for path in Path(tempfile.gettempdir()).iterdir()}


def run_folders(directory: Path) -> list[Path]:
    return sorted((directory / "var").glob("run-*"))


def kill_all(daemon: RunningDaemon) -> None:
    os.killpg(daemon.process.pid, signal.SIGKILL)
    daemon.wait()
    assert left_behind(daemon.directory) == []


def test_a_daemon_that_is_killed_with_all_its_children_leaves_nothing_in_the_temporary_folder(
    start_daemon: StartDaemon, tmp_path: Path
) -> None:
    before = temporary_files()
    daemon = start_daemon(middleware=[ADJACENT])
    (folder,) = run_folders(tmp_path)
    assert folder.stat().st_mode & 0o777 == 0o700
    kill_all(daemon)
    assert temporary_files() == before
    again = start_daemon(middleware=[ADJACENT])
    assert folder not in run_folders(tmp_path), "what was left is removed"
    assert again.stop() == 0
    assert run_folders(tmp_path) == []
    assert temporary_files() == before


def test_files_that_a_cleaner_removes_are_made_again_and_a_stop_is_heard(
    start_daemon: StartDaemon, tmp_path: Path
) -> None:
    daemon = start_daemon(middleware=[ADJACENT], workers={"count": 1})
    daemon.accept(EVENT % 1)
    daemon.settle()
    for folder in run_folders(tmp_path):
        shutil.rmtree(folder)
    worker = psutil.Process(daemon.stats()["workers"][0]["pid"])
    worker.kill()
    daemon.accept(EVENT % 2 + EVENT % 5)
    daemon.settle(60)
    assert "the state host's socket was removed by someone" in daemon.log
    assert daemon.kept().decode() == EVENT % 1 + EVENT % 5
    assert daemon.stop() == 0
    assert "everything accepted was emitted" in daemon.log


def test_a_daemon_whose_files_are_gone_stops_with_a_checkpoint(
    start_daemon: StartDaemon, tmp_path: Path
) -> None:
    daemon = start_daemon(middleware=[ADJACENT], workers={"count": 1})
    daemon.accept(EVENT % 1)
    daemon.settle()
    for folder in run_folders(tmp_path):
        shutil.rmtree(folder)
    assert daemon.stop() == 0
    again = start_daemon(middleware=[ADJACENT], workers={"count": 1})
    again.accept(EVENT % 2)
    again.settle()
    assert again.kept().decode() == EVENT % 1


def test_workers_are_replaced_although_the_working_folder_is_gone(tmp_path: Path) -> None:
    state, folder = tmp_path / "state", tmp_path / "folder"
    folder.mkdir()
    kept = {"name": "kept", "use": "ndjson", "params": {"path": str(tmp_path / "kept.ndjson")}}
    write_configuration(folder, middleware=[ADJACENT], sink=[kept], state={"directory": str(state)})
    daemon = RunningDaemon(folder)
    try:
        daemon.wait_until_ready()
        log = daemon.log
        assert f"the state is kept in {state}" in log
        shutil.rmtree(folder)
        pids = {worker["pid"] for worker in daemon.stats()["workers"]}
        for pid in pids:
            psutil.Process(pid).kill()

        def replaced() -> bool:
            workers = daemon.stats()["workers"]
            return all(each["ready"] and each["pid"] not in pids for each in workers)

        eventually(replaced, "there are other workers", 60)
        daemon.accept(EVENT % 1)
        daemon.settle()
        assert daemon.stop() == 0
    finally:
        daemon.end()


@pytest.mark.parametrize("remembering", [True, False])
def test_a_state_directory_may_lie_deep(
    start_daemon: StartDaemon, tmp_path: Path, remembering: bool
) -> None:
    deep = tmp_path / "a-long-name-of-a-folder" / ("x" * 100)
    chain: list[dict[str, Any]] = [ADJACENT] if remembering else []
    daemon = start_daemon(middleware=chain, state={"directory": str(deep)})
    queue = connect(deep / "queue.json")
    assert queue.put("elsewhere", (EVENT % 1).encode()).lines == 1
    daemon.settle()
    assert daemon.kept().decode() == EVENT % 1
    assert daemon.stop() == 0


def test_a_state_directory_that_cannot_be_made_is_named_whole(
    tmp_path: Path, penstock: Command
) -> None:
    (tmp_path / "file").write_text("")
    write_configuration(tmp_path, state={"directory": "file/var"})
    done = penstock("run", "--config", "penstock.toml")
    assert done.returncode == 1
    assert str(tmp_path / "file" / "var") in done.stderr.decode()
    assert b"Traceback" not in done.stderr


def test_a_folder_for_sockets_that_cannot_be_made_is_told_with_what_to_do(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def full(*_: object, **__: object) -> None:
        raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))

    monkeypatch.setattr(tempfile, "mkdtemp", full)
    with pytest.raises(PipelineFailed, match="No space left on device; make room"):
        new_runtime_directory(tmp_path)


def test_a_daemon_starts_with_closed_standard_streams(tmp_path: Path) -> None:
    write_configuration(tmp_path, middleware=[ADJACENT])
    process = subprocess.Popen(
        ["/bin/sh", "-c", f"exec {PENSTOCK} run --config penstock.toml <&- >&- 2>&-"], cwd=tmp_path
    )
    try:
        eventually((tmp_path / "var" / "queue.json").exists, "it is ready", 60)
        process.send_signal(signal.SIGTERM)
        assert process.wait(20) == 0
    finally:
        process.kill()
        process.wait()
    assert left_behind(tmp_path) == []


def test_a_state_directory_that_was_removed_is_named_and_ends_the_daemon(
    start_daemon: StartDaemon, tmp_path: Path
) -> None:
    daemon = start_daemon()
    shutil.rmtree(tmp_path / "var")
    answer = daemon.ask("POST", "/api/v1/events", (EVENT % 1).encode())
    told = f"{tmp_path / 'var'}: the state directory is gone: put it back and start again"
    assert answer.status == 500
    assert answer.document["detail"].startswith(told)
    assert daemon.process.wait(20) == 1
    assert daemon.log.count(told) == 1
    assert "Traceback" not in daemon.log
