"""A daemon as a stranger has it: a command line, HTTP, files and signals.

Nothing here is imported from the daemon's own code.
"""

from __future__ import annotations

import http.client
import json
import os
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from threading import Thread
from typing import Any, Final, NamedTuple

import psutil

PENSTOCK: Final = str(Path(sys.executable).with_name("penstock"))
START_LIMIT: Final = 60.0
"""Seconds a start may take, a recovery included."""

STOP_LIMIT: Final = 20.0
"""Seconds a stop may take, everything accepted being emitted."""

Table = dict[str, Any]

STEPS: Final = '''
"""Middleware of a user: a local one that changes events, a shared one that counts."""

from pydantic import BaseModel

from middleware import Middleware, SharedMiddleware


class Tagger(Middleware):
    reads = ("cid", "trouble")

    class Params(BaseModel):
        zones: int = 4

    def handle(self, event):
        if event.get("trouble") == "raise":
            raise RuntimeError("no such point")
        return {**event, "zone": event["cid"] % self.params.zones}


class EveryOther(SharedMiddleware):
    reads = ("cid",)

    class Params(BaseModel):
        of: int = 3

    def open(self):
        self.seen = {}

    def handle(self, event):
        count = self.seen[event["cid"]] = self.seen.get(event["cid"], 0) + 1
        return event if count % self.params.of else None

    def snapshot(self):
        return list(self.seen.items())

    def restore(self, state):
        self.seen = dict(state)
'''
SINKS: Final = '''
"""Sinks of a user that are stuck as long as a file is there."""

import time
from pathlib import Path

from pydantic import BaseModel

from service.sinks.sink import Sink


class Refusing(Sink):
    class Params(BaseModel):
        while_there: Path

    def write(self, emission):
        if self.params.while_there.exists():
            raise OSError("the other side is away")


class Blocking(Refusing):
    def write(self, emission):
        while self.params.while_there.exists():
            time.sleep(0.01)
'''


def eventually(condition: Callable[[], object], what: str, limit: float = 20.0) -> None:
    """Wait until ``condition()`` is true; fails after ``limit`` seconds."""
    end = time.monotonic() + limit
    while not condition():
        assert time.monotonic() < end, f"not within {limit} s: {what}"
        time.sleep(0.01)


def toml(value: Any) -> str:
    if isinstance(value, Mapping):
        return "{ " + ", ".join(f"{key} = {toml(each)}" for key, each in value.items()) + " }"
    return json.dumps(value)


def write_configuration(directory: Path, configuration: Mapping[str, Any]) -> None:
    """Write ``penstock.toml``: lists are repeated tables."""
    lines = []
    for name, tables in configuration.items():
        for table in tables if isinstance(tables, list) else [tables]:
            lines.append(f"[[{name}]]" if isinstance(tables, list) else f"[{name}]")
            lines += [f"{key} = {toml(value)}" for key, value in table.items()]
    (directory / "penstock.toml").write_text("\n".join(lines) + "\n")


def processes_in(directory: Path) -> list[psutil.Process]:
    """Return the living processes that run in a directory, whoever their parent is."""
    found = []
    for process in psutil.process_iter():
        try:
            if process.cwd() == str(directory) and process.status() != psutil.STATUS_ZOMBIE:
                found.append(process)
        except psutil.Error:
            continue
    return found


class Answer(NamedTuple):
    status: int
    headers: Mapping[str, str]
    document: Any


class Daemon:
    """``penstock run`` in a directory, one life after the other."""

    def __init__(self, directory: Path) -> None:
        """Nothing runs yet."""
        self.directory = directory
        self.lives = 0
        self.process: subprocess.Popen[bytes] | None = None
        self._address: tuple[str, int] | None = None
        self._log = directory / "log-0"
        (directory / "steps.py").write_text(STEPS)
        (directory / "stuck_sinks.py").write_text(SINKS)

    def start(self, configuration: Mapping[str, Any] | None = None, *options: str) -> None:
        """Begin a life, without waiting for it."""
        assert self.process is None or self.process.poll() is not None, "it still runs"
        if configuration is not None:
            write_configuration(self.directory, configuration)
        self.lives += 1
        self._address = None
        self._log = self.directory / f"log-{self.lives}"
        if signal.getsignal(signal.SIGHUP) is signal.SIG_IGN:  # a child would inherit it
            signal.signal(signal.SIGHUP, signal.SIG_DFL)
        with self._log.open("wb") as log:
            self.process = subprocess.Popen(
                [PENSTOCK, "run", "--config", "penstock.toml", *options],
                cwd=self.directory,
                stdin=subprocess.DEVNULL,
                stdout=subprocess.DEVNULL,
                stderr=log,
                start_new_session=True,
            )

    @property
    def log(self) -> str:
        return self._log.read_text(errors="replace")

    @property
    def running(self) -> subprocess.Popen[bytes]:
        assert self.process is not None, "it was never started"
        return self.process

    def wait_until_ready(self, limit: float = START_LIMIT) -> None:
        """Wait until it says where it listens; fails when it ends instead."""
        eventually(self._ready, f"ready; log: {self.log[-3000:]}", limit)

    def _ready(self) -> bool:
        assert self.running.poll() is None, f"it ended ({self.running.poll()}): {self.log[-3000:]}"
        for line in self.log.splitlines():
            _, found, url = line.partition("ready on http://")
            if found:
                host, _, port = url.partition('"')[0].rpartition(":")
                self._address = (host, int(port))
        return self._address is not None

    @property
    def url(self) -> str:
        assert self._address is not None
        return f"http://{self._address[0]}:{self._address[1]}"

    def ask(
        self,
        method: str,
        path: str,
        body: bytes | None = None,
        headers: Mapping[str, str] | None = None,
        limit: float = 30.0,
    ) -> Answer:
        """Send a request; raises OSError or HTTPException when the connection is cut."""
        assert self._address is not None
        connection = http.client.HTTPConnection(*self._address, timeout=limit)
        try:
            connection.request(method, path, body, dict(headers or {}))
            response = connection.getresponse()
            text = response.read()
            return Answer(response.status, dict(response.headers), json.loads(text))
        finally:
            connection.close()

    def post(self, body: bytes, key: str | None = None) -> Answer:
        headers = {"Content-Type": "application/x-ndjson"}
        return self.ask(
            "POST",
            "/api/v1/events",
            body,
            headers | ({"Idempotency-Key": key} if key is not None else {}),
        )

    def operate(self, method: str, path: str, document: Any) -> Any:
        """Send JSON to the operators' API; returns the answer, which must be 200."""
        headers = {"Content-Type": "application/json"}
        body = json.dumps(document).encode()
        answer = self.ask(method, f"/api/v1/middleware/{path}", body, headers)
        assert answer.status == 200, answer
        return answer.document

    def stats(self) -> Any:
        answer = self.ask("GET", "/api/v1/stats")
        assert answer.status == 200, answer
        return answer.document

    def settle(self, limit: float = START_LIMIT) -> Any:
        """Wait until nothing is in flight; returns the stats."""
        eventually(lambda: self.stats()["in_flight"] == 0, "everything is emitted", limit)
        return self.stats()

    def command(self, *arguments: str) -> subprocess.CompletedProcess[bytes]:
        """Run another command of ``penstock`` in the directory."""
        return subprocess.run(
            [PENSTOCK, *arguments],
            cwd=self.directory,
            stdin=subprocess.DEVNULL,
            capture_output=True,
            timeout=60,
            check=False,
        )

    # ---- ends

    def kill(self) -> None:
        self.running.kill()
        self.running.wait()

    def kill_group(self) -> None:
        os.killpg(self.running.pid, signal.SIGKILL)
        self.running.wait()

    def children(self, kind: str) -> list[psutil.Process]:
        """Return the children whose pid the stats name: ``workers`` or ``state_host``."""
        told = self.stats()[kind]
        found = []
        for each in told if isinstance(told, list) else [told] if told else []:
            try:
                found.append(psutil.Process(each["pid"]))
            except psutil.NoSuchProcess:
                continue
        return found

    def send(self, signals: Sequence[signal.Signals], pause: float, *, to_group: bool) -> None:
        """Send signals, ``pause`` seconds apart."""
        for number, each in enumerate(signals):
            if number and pause:
                time.sleep(pause)
            try:
                if to_group:
                    os.killpg(self.running.pid, each)
                else:
                    self.running.send_signal(each)
            except ProcessLookupError:
                return

    def send_from_two(self, number: signal.Signals) -> None:
        """Send one signal from each of two senders at once."""
        senders = [Thread(target=self.running.send_signal, args=(number,)) for _ in range(2)]
        for sender in senders:
            sender.start()
        for sender in senders:
            sender.join()

    def wait(self, limit: float = STOP_LIMIT) -> int | None:
        """Return the exit code; None if it has not ended in time."""
        try:
            return self.running.wait(limit)
        except subprocess.TimeoutExpired:
            return None

    def end(self) -> list[str]:
        """End everything by force; returns what outlived the daemon by more than 10 s."""
        if self.process is not None and self.process.poll() is None:
            self.kill()
        psutil.wait_procs(processes_in(self.directory), timeout=10)
        left = processes_in(self.directory)
        for process in left:
            process.kill()
        return [" ".join(process.cmdline()) for process in left if process.is_running()]
