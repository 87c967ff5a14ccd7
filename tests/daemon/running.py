"""A real daemon in its own directory, spoken to over HTTP, and looked at from outside."""

from __future__ import annotations

import http.client
import json
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import IO, Any, Final, NamedTuple

import psutil

from service.dead_letter_store import DeadLetterStore, Selection
from service.signals import ONE_PRESS

PENSTOCK: Final = str(Path(sys.executable).with_name("penstock"))

Table = Mapping[str, Any]


def eventually(condition: Callable[[], object], what: str, limit: float = 20.0) -> None:
    """Wait until ``condition()`` is true; fails after ``limit`` seconds."""
    end = time.monotonic() + limit
    while not condition():
        assert time.monotonic() < end, f"not within {limit} s: {what}"
        time.sleep(0.01)


def write_configuration(
    directory: Path,
    *,
    source: Sequence[Table] = ({"name": "push", "use": "http"},),
    middleware: Sequence[Table] = (),
    sink: Sequence[Table] = ({"name": "kept", "use": "ndjson", "params": {"path": "kept.ndjson"}},),
    **tables: Table,
) -> Path:
    """Write ``penstock.toml``; ``tables`` are sections, such as ``workers={"count": 1}``."""
    defaults: dict[str, Table] = {"http": {"listen": "127.0.0.1:0"}, "workers": {"count": 2}}
    lines = []
    for kind, parts in (("source", source), ("middleware", middleware), ("sink", sink)):
        for part in parts:
            lines += [f"[[{kind}]]", *_assignments(part)]
    for name, table in (defaults | tables).items():
        lines += [f"[{name}]", *_assignments(table)]
    path = directory / "penstock.toml"
    path.write_text("\n".join(lines) + "\n")
    return path


def _assignments(table: Table) -> list[str]:
    return [f"{key} = {_toml(value)}" for key, value in table.items()]


def _toml(value: Any) -> str:
    if isinstance(value, Mapping):
        return "{ " + ", ".join(_assignments(value)) + " }"
    return json.dumps(value)


def processes_in(directory: Path) -> list[psutil.Process]:
    """Return the processes that run in a directory, whoever their parent is by now."""
    found = []
    for process in psutil.process_iter():
        try:
            if process.cwd() == str(directory) and process.status() != psutil.STATUS_ZOMBIE:
                found.append(process)
        except psutil.Error:
            continue
    return found


def hears(pid: int) -> bool:
    """Say whether a process catches TERM by now."""
    status = Path(f"/proc/{pid}/status").read_text()
    caught = int(next(line.split()[1] for line in status.splitlines() if "SigCgt" in line), 16)
    return bool(caught >> (signal.SIGTERM - 1) & 1)


class Answer(NamedTuple):
    """An HTTP answer; ``document`` is its JSON body."""

    status: int
    headers: http.client.HTTPMessage
    body: bytes

    @property
    def document(self) -> Any:
        return json.loads(self.body)


class RunningDaemon:
    """``penstock run`` in a directory; its standard error goes to a file there."""

    def __init__(
        self,
        directory: Path,
        *,
        stdin: int | IO[bytes] = subprocess.DEVNULL,
        stdout: int | IO[bytes] = subprocess.DEVNULL,
        stderr: IO[bytes] | None = None,
        address: tuple[str, int] | None = None,
        env: Mapping[str, str] | None = None,
        options: Sequence[str] = (),
    ) -> None:
        """Start it, without waiting for it.

        Where ``stderr`` keeps nothing, only ``address`` tells where it listens.
        """
        self.directory = directory
        self._stderr = directory / f"stderr-{len(list(directory.glob('stderr-*')))}"
        self._address = address
        with self._stderr.open("ab") as kept:
            self.process = subprocess.Popen(
                [PENSTOCK, "run", "--config", "penstock.toml", *options],
                cwd=directory,
                stdin=stdin,
                stdout=stdout,
                stderr=stderr or kept,
                env=env,
                start_new_session=True,
            )

    @property
    def log(self) -> str:
        return self._stderr.read_text()

    @property
    def url(self) -> str:
        host, port = self.address
        return f"http://{host}:{port}"

    @property
    def host(self) -> str:
        """What a request's Host header says."""
        return self.url.removeprefix("http://")

    @property
    def address(self) -> tuple[str, int]:
        """Where it listens; waits until it does."""
        self.wait_until_ready()
        assert self._address is not None
        return self._address

    def wait_until_ready(self) -> None:
        """Wait until it says where it listens; fails if it ends instead."""
        if self._address is None:
            eventually(self._look_for_address, "the daemon is ready", limit=60)

    def _look_for_address(self) -> bool:
        assert self.process.poll() is None, f"the daemon ended: {self.log}"
        for line in self.log.splitlines(keepends=True):
            if line.startswith("{") and line.endswith("}\n"):
                event = str(json.loads(line)["event"])
                if event.startswith("ready on http://"):
                    host, _, port = event.removeprefix("ready on http://").rpartition(":")
                    self._address = (host, int(port))
        return self._address is not None

    def ask(
        self,
        method: str,
        path: str,
        body: bytes | None = None,
        headers: Mapping[str, str] | None = None,
        limit: float = 30.0,
    ) -> Answer:
        """Send a request; fails when there is no answer for ``limit`` seconds."""
        connection = http.client.HTTPConnection(*self.address, timeout=limit)
        try:
            connection.request(method, path, body, dict(headers or {}))
            response = connection.getresponse()
            return Answer(response.status, response.headers, response.read())
        finally:
            connection.close()

    def get(self, path: str) -> Any:
        answer = self.ask("GET", path)
        assert answer.status == 200, answer
        return answer.document

    def post(self, body: bytes | str, limit: float = 30.0) -> Answer:
        """Post events."""
        data = body.encode() if isinstance(body, str) else body
        return self.ask("POST", "/api/v1/events", data, limit=limit)

    def accept(self, body: bytes | str) -> Any:
        """Post events and return the receipt."""
        answer = self.post(body)
        assert answer.status == 202, answer
        return answer.document

    def send(self, method: str, path: str, document: object) -> Answer:
        """Send JSON to the operators' API."""
        headers = {"Content-Type": "application/json"}
        return self.ask(
            method, f"/api/v1/middleware/{path}", json.dumps(document).encode(), headers
        )

    def switch(self, name: str, **changes: object) -> Any:
        """Change the mode or params of a middleware; returns its description."""
        answer = self.send("PATCH", name, changes)
        assert answer.status == 200, answer
        return answer.document

    def stats(self) -> Any:
        return self.get("/api/v1/stats")

    def settle(self, limit: float = 20.0) -> Any:
        """Wait until nothing is in flight; returns the stats."""
        eventually(lambda: self.stats()["in_flight"] == 0, "everything is emitted", limit)
        return self.stats()

    def kept(self) -> bytes:
        return (self.directory / "kept.ndjson").read_bytes()

    def dead(self) -> list[Any]:
        """Return every dead letter, whole, in offset order."""
        if self.process.poll() is None:
            listed = self.get("/api/v1/dead-letters?limit=1000")["dead_letters"]
            return [self.get(f"/api/v1/dead-letters/{each['id']}") for each in reversed(listed)]
        store = DeadLetterStore(self.directory / "var" / "penstock.db", 1 << 20)
        try:
            found = store.find(Selection(), None, 1000, newest_first=False)
            return [letter.describe_all() for each in found if (letter := store.get(each.id))]
        finally:
            store.close()

    def insist(self, number: signal.Signals = signal.SIGTERM) -> None:
        """Send a signal that is no part of the press before: it stops the daemon at once."""
        time.sleep(ONE_PRESS)  # only time tells one from the other
        self.signal(number)

    def signal(self, number: signal.Signals) -> None:
        self.process.send_signal(number)

    def wait(self, limit: float = 20.0) -> int:
        """Wait until it ends; returns the exit code."""
        return self.process.wait(limit)

    def stop(self, limit: float = 20.0) -> int:
        """Send TERM and wait; returns the exit code."""
        self.signal(signal.SIGTERM)
        return self.wait(limit)

    def end(self) -> None:
        """End it, by force if need be."""
        if self.process.poll() is None:
            self.signal(signal.SIGTERM)
            try:
                self.wait(10)
            except subprocess.TimeoutExpired:
                self.process.kill()
                self.wait()
        for stream in (self.process.stdin, self.process.stdout):
            if stream is not None:
                stream.close()


def left_behind(directory: Path) -> list[str]:
    """Return the processes still in a directory after 10 s, and end them."""
    psutil.wait_procs(processes_in(directory), timeout=10)
    left = processes_in(directory)  # whoever is dead and only waits for its parent is gone
    for process in left:
        process.kill()
    return [str(process) for process in left]


def totals_agree(stats: Any) -> bool:
    """Say whether every accepted event is accounted for."""
    known = stats["emitted"] + sum(stats["dropped"].values()) + stats["dead"] + stats["in_flight"]
    return bool(stats["accepted"] == known)
