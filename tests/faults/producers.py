"""Producers that post every body until it is confirmed, whoever is killed meanwhile."""

from __future__ import annotations

import http.client
import json
import socket
import time
from collections.abc import Sequence
from http import HTTPStatus
from threading import Condition, Event, Thread
from typing import Any, Final

from tests.daemon.switched import parse_offset

PATIENCE: Final = 60.0
"""Seconds without any confirmation after which the daemon is taken for hung."""

PAUSE: Final = 0.02
"""Seconds until a body that was not taken is offered again."""

COME_AGAIN: Final = {
    HTTPStatus.TOO_MANY_REQUESTS,
    HTTPStatus.SERVICE_UNAVAILABLE,
    HTTPStatus.INSUFFICIENT_STORAGE,
    HTTPStatus.INTERNAL_SERVER_ERROR,  # the disk did not say whether it was kept: the key tells
}
UNKNOWN: Final = b"it is not known whether this was accepted"


def free_port() -> int:
    """Return a port that nobody listens on at present."""
    with socket.socket() as taken:
        taken.bind(("127.0.0.1", 0))
        port: int = taken.getsockname()[1]
    return port


class Producers:
    """Threads that each post a share of the bodies, one after the other, each under its key."""

    def __init__(self, port: int, bodies: Sequence[bytes], *, threads: int) -> None:
        """Start at once."""
        self._port = port
        self._changed = Condition()
        self._confirmed: list[tuple[tuple[int, int], bytes]] = []
        self._problems: list[BaseException] = []
        self._stopping = Event()
        self.repeated = 0
        """Bodies confirmed as accepted before: the first answer was lost in a crash."""
        self.refusals: set[int] = set()
        """Every status that told to come again."""
        self._threads = [
            Thread(target=self._run, args=(index, bodies[index::threads]), name="producer")
            for index in range(threads)
        ]
        for thread in self._threads:
            thread.start()

    @property
    def done(self) -> bool:
        """Say whether there is nothing left to post."""
        return not any(thread.is_alive() for thread in self._threads)

    def wait_for(self, number: int) -> None:
        """Wait until so many bodies are confirmed; fails when there is no progress."""
        with self._changed:
            while (before := len(self._confirmed)) < number and not self._problems:
                self._changed.wait(PATIENCE)
                moved = len(self._confirmed) > before or self.refusals or self._problems
                assert moved, f"{before} of {number} bodies are confirmed, and no more"
        if self._problems:
            raise AssertionError("a producer failed") from self._problems[0]

    def wait_for_refusal(self, status: int) -> None:
        """Wait until a body was refused, for the time being, with a status."""
        with self._changed:
            refused = self._changed.wait_for(lambda: status in self.refusals, PATIENCE)
        assert refused, f"nothing was refused with {status}"

    def in_order(self) -> bytes:
        """Return what was confirmed, in the order of the offsets in the receipts."""
        return b"".join(body for _, body in sorted(self._confirmed))

    def stop(self) -> None:
        """Post nothing any more; returns when every thread has ended."""
        self._stopping.set()
        for thread in self._threads:
            thread.join(2 * PATIENCE)

    def _run(self, index: int, bodies: Sequence[bytes]) -> None:
        try:
            for number, body in enumerate(bodies):
                self._confirm(body, f"producer {index}, body {number}")
        except Exception as error:  # noqa: BLE001 - told to the test, whatever it is
            with self._changed:
                self._problems.append(error)
                self._changed.notify_all()

    def _confirm(self, body: bytes, key: str) -> None:
        since = time.monotonic()
        while not self._stopping.is_set():
            assert time.monotonic() - since < 2 * PATIENCE, f"{key}: never confirmed"
            try:
                response, answer = self._post(body, key)
            except (OSError, http.client.HTTPException):
                self._stopping.wait(PAUSE)  # the daemon is dead, or was killed over it
                continue
            with self._changed:
                self._changed.notify_all()
                if response.status == HTTPStatus.ACCEPTED:
                    self._confirmed.append((parse_offset(json.loads(answer)["first"]), body))
                    self.repeated += response.getheader("Idempotency-Replayed") == "true"
                    return
                assert response.status in COME_AGAIN, answer
                assert response.status != HTTPStatus.INTERNAL_SERVER_ERROR or UNKNOWN in answer
                self.refusals.add(response.status)
            self._stopping.wait(PAUSE)

    def _post(self, body: bytes, key: str) -> tuple[http.client.HTTPResponse, bytes]:
        connection: Any = http.client.HTTPConnection("127.0.0.1", self._port, timeout=PATIENCE / 2)
        try:
            connection.request("POST", "/api/v1/events", body, {"Idempotency-Key": key})
            response = connection.getresponse()
            return response, response.read()
        finally:
            connection.close()
