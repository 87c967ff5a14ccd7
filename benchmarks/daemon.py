"""Measures the daemon with nothing to do: how soon it is ready, and what it takes to wait."""

from __future__ import annotations

import os
import shutil
import signal
import socket
import subprocess
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from http import HTTPStatus
from http.client import HTTPConnection
from pathlib import Path
from statistics import median
from typing import Final, NamedTuple

import psutil

from benchmarks.contenders import CONFIG, PENSTOCK, kill_group, timed
from benchmarks.report import Section
from benchmarks.sizes import QUICK, REPETITIONS, say

START_LIMIT: Final = 60.0
LOOK: Final = 0.005
"""Seconds between two looks at whether it is ready."""

SETTLE: Final = 2.0
"""Seconds between ready and idle."""

IDLE_SECONDS: Final = 5.0 if QUICK else 20.0


def measure(folder: Path) -> Section:
    """Measure the start, the waiting, and the help."""
    say("daemon")
    ready = median(ready_seconds(folder) for _ in range(REPETITIONS))
    usage = median(help_seconds(folder) for _ in range(REPETITIONS))
    waiting = idle(folder, IDLE_SECONDS)
    text = (
        f"- Daemon, start to ready: {ready:.2f} s\n"
        f"- Daemon, idle: {waiting.percent:.2f} % of one core (+/- {waiting.uncertain:.2f}) "
        f"for all {waiting.processes} processes, over {IDLE_SECONDS:.0f} s\n"
        f"- `penstock --help`: {usage:.2f} s\n"
    )
    return Section("Daemon", text, {"ready": ready, "idle": waiting.percent, "help": usage})


def ready_seconds(folder: Path) -> float:
    """Return the seconds from the start of ``penstock run`` until /readyz says yes."""
    began = time.perf_counter()
    with running(folder):
        return time.perf_counter() - began


@dataclass(frozen=True, slots=True)
class Idle:
    """CPU time of the daemon and all its children, in percent of one core.

    The system counts each process in steps; ``uncertain`` is what they add up to, either way.
    """

    percent: float
    uncertain: float
    processes: int


def idle(folder: Path, seconds: float) -> Idle:
    """Measure a daemon to which no event comes, over ``seconds``."""
    with running(folder) as daemon:
        time.sleep(SETTLE)
        tree = [psutil.Process(daemon.process.pid)]
        tree += tree[0].children(recursive=True)
        before = sum(map(_cpu_seconds, tree))
        time.sleep(seconds)
        spent = sum(map(_cpu_seconds, tree)) - before
    step = len(tree) / os.sysconf("SC_CLK_TCK")
    return Idle(100 * spent / seconds, 100 * step / seconds, len(tree))


def help_seconds(folder: Path) -> float:
    """Return the seconds that ``penstock --help`` takes."""
    seconds, _ = timed([PENSTOCK, "--help"], folder)
    return seconds


def _cpu_seconds(process: psutil.Process) -> float:
    times = process.cpu_times()
    return times.user + times.system


class Running(NamedTuple):
    """A daemon that is ready, and its port."""

    process: subprocess.Popen[bytes]
    port: int


@contextmanager
def running(folder: Path, state: str = "") -> Iterator[Running]:
    """Run a daemon on a free port from when it is ready, over an empty state directory.

    Its log goes to ``folder``; ``state`` is the configuration's table of that name.
    """
    port = _free_port()
    config = folder / "daemon.toml"
    shutil.rmtree(folder / "var", ignore_errors=True)
    config.write_text(f"{CONFIG.read_text()}\n{state}".replace("127.0.0.1:0", f"127.0.0.1:{port}"))
    command = [PENSTOCK, "run", "--config", str(config)]
    with (
        (folder / "daemon.log").open("wb") as log,
        subprocess.Popen(
            command, cwd=folder, stdout=log, stderr=log, start_new_session=True
        ) as process,
    ):
        try:
            _wait_until_ready(process, port)
            yield Running(process, port)
            process.send_signal(signal.SIGTERM)
            process.wait(START_LIMIT)
        finally:
            kill_group(process)


def _wait_until_ready(process: subprocess.Popen[bytes], port: int) -> None:
    limit = time.monotonic() + START_LIMIT
    while process.poll() is None and time.monotonic() < limit:
        connection = HTTPConnection("127.0.0.1", port, timeout=START_LIMIT)
        try:
            connection.request("GET", "/readyz")
            if connection.getresponse().status == HTTPStatus.OK:
                return
        except ConnectionError:
            pass  # it does not listen yet
        finally:
            connection.close()
        time.sleep(LOOK)
    raise RuntimeError("the daemon did not become ready")


def _free_port() -> int:
    with socket.socket() as listening:
        listening.bind(("127.0.0.1", 0))
        port: int = listening.getsockname()[1]
        return port
