"""A disk is full, and the daemon dies on it: what was confirmed comes out, once there is room.

Nothing new is taken meanwhile, the stats say why, and nobody has to do anything but to make room.
"""

from __future__ import annotations

import os
import shutil
import signal
import subprocess
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any, Final

import pytest

from tests.conftest import StartDaemon
from tests.daemon.running import RunningDaemon, eventually, totals_agree
from tests.faults.posting import Producers, free_port, posting, some_events
from tests.sequential import sequential

pytestmark = pytest.mark.timeout(300)

DISK: Final = 6 << 20
BALLAST: Final = 2 << 20
EVENTS: Final = 100
TEXT: Final = 100
"""Events in a post, and what each has beside its point and time, in bytes."""

CHAIN: Final = [{"name": "adjacent", "use": "adjacent", "params": {"window": 0.001, "radius": 0}}]
SMALL: Final[dict[str, Any]] = {
    "queue": {"bytes": "128KiB"},
    "block": {"bytes": "32KiB"},
    "event": {"max_event_bytes": "4KiB"},
}
"""A chain that drops next to nothing: what is accepted fills the disk twice."""


@pytest.fixture
def disk(tmp_path: Path) -> Iterator[Path]:
    """Return a folder that is a small disk, with ballast on it.

    To be asked for before the daemons: they end first, and nothing is in use any more.
    """
    mount, unmount = shutil.which("mount"), shutil.which("umount")
    if os.geteuid() != 0 or mount is None or unmount is None:
        pytest.skip("only root can mount a small disk")
    folder = tmp_path / "disk"
    folder.mkdir()
    command = [mount, "-t", "tmpfs", "-o", f"size={DISK}", "tmpfs", str(folder)]
    if subprocess.run(command, check=False, capture_output=True, timeout=30).returncode:
        pytest.skip("a small disk cannot be mounted here")
    try:
        (folder / "ballast").write_bytes(bytes(BALLAST))
        yield folder
    finally:
        subprocess.run([unmount, str(folder)], check=True, timeout=30)


def body(number: int) -> bytes:
    return some_events(number, EVENTS, "x" * TEXT)


def on(state: Path, sink: Path) -> dict[str, Any]:
    """Return the tables of a daemon with its state and its sink in these folders."""
    return SMALL | {
        "http": {"listen": f"127.0.0.1:{free_port()}"},
        "middleware": CHAIN,
        "sink": [{"name": "kept", "use": "ndjson", "params": {"path": str(sink / "kept.ndjson")}}],
        "state": {
            "directory": str(state / "var"),
            "reserve": "1500KiB",
            "checkpoint_bytes": "256KiB",
            "retention_bytes": "1MiB",
        },
    }


def check(daemon: RunningDaemon, producers: Producers, sink: Path) -> None:
    """Check that all confirmed posts, and nothing else, went the one way."""
    stats = daemon.settle(60)
    lines = producers.lines
    assert (sink / "kept.ndjson").read_bytes() == sequential(lines, window=0.001, radius=0)
    assert totals_agree(stats)
    assert (stats["accepted"], stats["dead"]) == (len(lines), 0)


def killed(daemon: RunningDaemon) -> None:
    daemon.signal(signal.SIGKILL)
    assert daemon.wait() == -signal.SIGKILL


def full(daemon: RunningDaemon, producers: Producers) -> str:
    """Let the disk fill up, then post no more; return why the stats say that it is full.

    A checkpoint may make room in the journal once more; the sink, which only grows, ends that.
    """
    while True:
        producers.wait_for_answers(507, producers.answers[507] + 1)
        producers.pause()
        if refusing := daemon.settle()["refusing"]:
            return str(refusing)
        producers.resume()


@pytest.mark.parametrize("room", [True, False], ids=["the reserve is left", "no byte is left"])
def test_a_daemon_that_dies_on_a_full_disk_goes_on_when_there_is_room(
    disk: Path,
    start_daemon: StartDaemon,
    room: bool,
    record_property: Callable[[str, object], None],
) -> None:
    tables = on(disk, disk)
    daemon = start_daemon(**tables)
    with posting(daemon.address[1], body, again=0) as producers:
        assert "make some, or lower state.reserve" in full(daemon, producers)
        check(daemon, producers, disk)
        emitted = daemon.stats()["emitted"]
        killed(daemon)
        if not room:
            fill(disk / "rest")
        daemon = start_daemon(ready=False, **tables)
        started = came_up(daemon)
        assert started or not room, daemon.log
        assert "Traceback" not in daemon.log
        if started:
            check(daemon, producers, disk)
            killed(daemon)
        for each in ("ballast", "rest"):
            (disk / each).unlink(missing_ok=True)
        if started or daemon.process.poll() is not None:
            daemon = start_daemon(**tables)
        daemon.wait_until_ready()
        check(daemon, producers, disk)
        producers.resume()
        full(daemon, producers)
        check(daemon, producers, disk)
        assert daemon.stats()["emitted"] > 1.5 * emitted
    faults = {"a full disk": 2, "killed on it": 1 + started, "came up on it": started}
    record_property("faults", faults | dict(producers.answers))


def fill(path: Path) -> None:
    """Write until nothing more fits."""
    descriptor = os.open(path, os.O_WRONLY | os.O_CREAT)
    try:
        while os.write(descriptor, bytes(4096)):
            pass
    except OSError:
        pass
    finally:
        os.close(descriptor)


def came_up(daemon: RunningDaemon) -> bool:
    """Wait until a daemon is ready, or says that it cannot be without room: it waits, or ended."""

    def tells() -> bool:
        ended = daemon.process.poll() == 1 and "make room" in daemon.log
        return ended or "ready on" in daemon.log or "the stream waits" in daemon.log

    eventually(tells, "it is ready, or says why it is not")
    return "ready on" in daemon.log


@pytest.mark.parametrize("dies", [False, True], ids=["it lives", "it is killed meanwhile"])
def test_a_sink_without_room_holds_the_stream_back_and_goes_on_by_itself(
    disk: Path, start_daemon: StartDaemon, tmp_path: Path, dies: bool
) -> None:
    tables = on(tmp_path, disk)
    daemon = start_daemon(**tables)
    with posting(daemon.address[1], body, again=0) as producers:
        producers.wait_for(10)
        fill(disk / "rest")
        eventually(lambda: "No space left" in daemon.stats()["sinks"].get("kept", ""), "it is seen")
        producers.wait_for_answers(429, 1)
        producers.pause()
        assert totals_agree(daemon.stats())
        assert daemon.stats()["in_flight"]
        if dies:
            killed(daemon)
            daemon = start_daemon(ready=False, **tables)
        (disk / "rest").unlink()
        daemon.wait_until_ready()
        producers.resume()
        producers.wait_for(producers.confirmed + 5)
        producers.finish()
        check(daemon, producers, disk)
        assert daemon.stats()["sinks"] == {}
