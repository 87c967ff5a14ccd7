"""Producers that post over HTTP until every post is confirmed, whatever becomes of the daemon."""

from __future__ import annotations

import http.client
import json
import random
import socket
import time
from collections import Counter
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from http import HTTPStatus
from threading import Condition, Event, Thread
from typing import Any, Final

from tests.daemon.switched import parse_offset

COME_AGAIN: Final = {
    HTTPStatus.TOO_MANY_REQUESTS,
    HTTPStatus.SERVICE_UNAVAILABLE,
    HTTPStatus.INSUFFICIENT_STORAGE,
}
PAUSE: Final = 0.02
"""Seconds between two attempts."""

LIMIT: Final = 60.0
"""Seconds that any progress may take."""

LOST: Final = "lost"
"""Counted when a connection ended without an answer."""


class Producers:
    """Threads that post bodies, numbered 0, 1, 2 ..., each under an idempotency key of its own.

    A post is offered again under its key until it is confirmed. ``again`` is how likely a producer
    also offers one once more that was confirmed; whatever is confirmed twice has one receipt.
    """

    def __init__(
        self, port: int, body: Callable[[int], bytes], *, count: int = 3, again: float = 0.1
    ) -> None:
        self._port = port
        self._body = body
        self._again = again
        self._changed = Condition()
        self._next = 0
        self._under_way = 0
        self._paused = False
        self._finishing = False
        self._ending = Event()
        self._receipts: dict[int, Any] = {}
        self._problems: list[str] = []
        self.answers: Counter[int | str] = Counter()
        """How often each status was answered, and LOST."""
        self._threads = [
            Thread(target=self._run, args=(random.Random(seed),), name="producer", daemon=True)
            for seed in range(count)
        ]

    def start(self) -> None:
        """Begin to post."""
        for thread in self._threads:
            thread.start()

    def wait_for(self, confirmed: int) -> None:
        """Wait until so many posts are confirmed."""
        self._wait(lambda: len(self._receipts) >= confirmed, f"{confirmed} posts are confirmed")

    def wait_for_answers(self, answer: int | str, number: int) -> None:
        """Wait until an answer was given so many times."""
        self._wait(lambda: self.answers[answer] >= number, f"{answer} was answered")

    def pause(self) -> None:
        """Offer nothing any more for now; returns when no request is under way."""
        with self._changed:
            self._paused = True
        self._wait(lambda: not self._under_way, "every request is answered")

    def resume(self) -> None:
        """Go on after a pause."""
        with self._changed:
            self._paused = False
            self._changed.notify_all()

    def finish(self) -> None:
        """Begin nothing new; returns when everything that was begun is confirmed."""
        with self._changed:
            self._finishing = True
        self._wait(lambda: len(self._receipts) == self._next, "all that was begun is confirmed")
        self._wait(
            lambda: not any(thread.is_alive() for thread in self._threads), "the producers end"
        )

    def end(self) -> None:
        """Stop, whatever is confirmed."""
        self._ending.set()
        self.resume()
        for thread in self._threads:
            thread.join(LIMIT)

    @property
    def confirmed(self) -> int:
        """How many posts are confirmed."""
        return len(self._receipts)

    @property
    def posts(self) -> list[tuple[Any, bytes]]:
        """The receipts and bodies of all that is confirmed, in offset order."""
        with self._changed:
            receipts = list(self._receipts.items())
        receipts.sort(key=lambda each: parse_offset(each[1]["first"]))
        return [(receipt, self._body(number)) for number, receipt in receipts]

    @property
    def lines(self) -> list[bytes]:
        """The good events of all that is confirmed, in offset order."""
        return [
            line
            for receipt, body in self.posts
            for row, line in enumerate(body.splitlines(keepends=True), 1)
            if row not in {error["line"] for error in receipt["errors"]}
        ]

    @property
    def bad(self) -> list[str]:
        """The offsets of the bad events among all that is confirmed, in order."""
        return [error["offset"] for receipt, _ in self.posts for error in receipt["errors"]]

    # ---- inside

    def _wait(self, reached: Callable[[], bool], what: str) -> None:
        """Wait as long as there is progress; raises AssertionError."""
        with self._changed:
            seen, since = -1, time.monotonic()
            while not reached():
                assert not self._problems, self._problems
                if len(self._receipts) != seen:
                    seen, since = len(self._receipts), time.monotonic()
                assert time.monotonic() - since < LIMIT, f"not: {what}; {self.answers}"
                self._changed.wait(PAUSE)
            assert not self._problems, self._problems

    def _run(self, choice: random.Random) -> None:
        connection = http.client.HTTPConnection("127.0.0.1", self._port, timeout=LIMIT / 2)
        try:
            while (number := self._begin()) is not None:
                self._confirm(connection, number)
                if choice.random() < self._again:
                    self._confirm(connection, choice.randrange(number + 1))
        except Exception as error:  # noqa: BLE001 - told to the test, whatever it is
            with self._changed:
                self._problems.append(repr(error))
        finally:
            connection.close()

    def _begin(self) -> int | None:
        with self._changed:
            if self._finishing or self._ending.is_set():
                return None
            self._next += 1
            return self._next - 1

    def _confirm(self, connection: http.client.HTTPConnection, number: int) -> None:
        while self._enter():
            answer: int | str = LOST
            try:
                answer, document = self._post(connection, number)
            except (OSError, http.client.HTTPException):
                connection.close()
            finally:
                with self._changed:
                    self._under_way -= 1
                    self.answers[answer] += 1
            if answer == HTTPStatus.ACCEPTED:
                with self._changed:
                    first = self._receipts.setdefault(number, document)
                    self._changed.notify_all()
                assert document == first, f"post {number} was confirmed twice: {first}, {document}"
                return
            assert answer == LOST or answer in COME_AGAIN, f"{answer}: {document}"
            self._ending.wait(PAUSE)

    def _enter(self) -> bool:
        """Wait until requests are wanted; False when they never are again."""
        with self._changed:
            self._changed.wait_for(lambda: not self._paused or self._ending.is_set())
            if self._ending.is_set():
                return False
            self._under_way += 1
            return True

    def _post(self, connection: http.client.HTTPConnection, number: int) -> tuple[int, Any]:
        headers = {"Idempotency-Key": f"post-{number}"}
        connection.request("POST", "/api/v1/events", self._body(number), headers)
        response = connection.getresponse()
        return response.status, json.loads(response.read())


@contextmanager
def posting(
    port: int, body: Callable[[int], bytes], *, count: int = 3, again: float = 0.1
) -> Iterator[Producers]:
    """Let producers post meanwhile."""
    producers = Producers(port, body, count=count, again=again)
    producers.start()
    try:
        yield producers
    finally:
        producers.end()


def some_events(number: int, size: int, text: str = "") -> bytes:
    """Return the body of a post: ``size`` events of a few hundred points, ever later."""
    choice = random.Random(number)
    return b"".join(
        b'{"cid":%d,"time":%.2f,"n":"%d-%d","text":"%s"}\n'
        % (choice.randrange(400), 1.7e9 + number + row / size, number, row, text.encode())
        for row in range(size)
    )


def free_port() -> int:
    """Return a port that nobody listens on, and that no client is given by chance.

    A client that tries again and again would else connect to itself sooner or later.
    """
    for port in random.SystemRandom().sample(range(20_000, 30_000), 100):
        with socket.socket() as tried:
            try:
                tried.bind(("127.0.0.1", port))
            except OSError:
                continue
            return port
    raise AssertionError("no port is free")
