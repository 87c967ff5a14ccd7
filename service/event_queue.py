"""The event queue: where sources hand in, bounded by events and by bytes, many at a time.

It lives in the daemon and is registered with a BaseManager, so that sources inside the daemon use
it directly and other processes of the same user through a proxy. To put is not to be accepted: a
submission is accepted when the intake has given it its place in the total order, which its receipt
tells.
"""

from __future__ import annotations

import json
import logging
import secrets
import time
from collections import deque
from collections.abc import Callable, Iterable
from concurrent.futures import Future
from contextlib import suppress
from multiprocessing.managers import BaseManager
from pathlib import Path
from threading import TIMEOUT_MAX, Condition, Lock, Thread
from typing import Any, Final, NamedTuple

from service.block import FileRange, Receipt, Submission
from service.errors import NotAccepted, QueueClosed, QueueFull, StorageFull
from service.runtime_directory import reachable

log = logging.getLogger(__name__)

MOMENT: Final = 1.0
"""Seconds at least in which what found room in the queue is accepted, if nothing is in the way."""


class Waiting(NamedTuple):
    """A submission in the queue, and the future of its receipt."""

    submission: Submission
    accepted: Future[Receipt]

    def tell(self, receipt: Receipt | NotAccepted) -> None:
        """Tell the producer that it was accepted, or why it was not."""
        if isinstance(receipt, NotAccepted):
            self.accepted.set_exception(receipt)
        else:
            self.accepted.set_result(receipt)


def give_back(taken: Iterable[Waiting], error: BaseException) -> None:
    """Tell everyone in ``taken`` who was told nothing yet why it was not accepted."""
    for waiting in taken:
        if not waiting.accepted.done():
            waiting.accepted.set_exception(error)


class QueueLevel(NamedTuple):
    """How full the queue is."""

    events: int
    bytes: int


class EventQueue:
    """A bounded queue of submissions.

    A submission larger than the bounds is let in when the queue is empty, so none waits for ever.
    """

    def __init__(self, *, events: int, size: int) -> None:
        """Hold at most ``events`` lines and ``size`` bytes."""
        self._bounds = QueueLevel(events, size)
        self._level = QueueLevel(0, 0)
        self._waiting: deque[Waiting] = deque()
        self._lock = Lock()
        self._room = Condition(self._lock)
        self._filled = Condition(self._lock)
        self._wanted = 0
        self._closed = False
        self._refusal: str | None = None

    def submit(self, submission: Submission, limit: float | None = None) -> Future[Receipt]:
        """Hand in lines and return the future of their receipt.

        Waits at most ``limit`` seconds for room, without end when None. Raises QueueFull when there
        was none, StorageFull when the disk has none, QueueClosed when the daemon is stopping.
        Cancelling the future withdraws the submission, unless the intake has taken it.
        """
        if not isinstance(submission, Submission):
            raise TypeError(f"expected a Submission, not {type(submission).__name__}")
        waiting = Waiting(submission, Future())
        with self._lock:
            if not self._room.wait_for(lambda: self._has_room(submission), limit):
                if self._refusal is not None:
                    raise StorageFull(self._refusal)
                raise QueueFull("the queue is full; offer the events again later")
            if self._closed:
                raise QueueClosed("the daemon is stopping and takes nothing in any more")
            self._waiting.append(waiting)
            self._move(submission, 1)
            # Whoever takes is told of the first and when it is enough, not of each in between.
            if len(self._waiting) == 1 or self._level.bytes >= self._wanted:
                self._filled.notify()
        return waiting.accepted

    def put(
        self,
        source: str,
        lines: bytes | bytearray | memoryview,
        limit: float | None = None,
        key: str | None = None,
    ) -> Receipt:
        """Hand in NDJSON lines and wait until they are accepted; the form for other processes.

        Lines that come again under the same idempotency ``key`` are not accepted again. ``source``
        and ``key`` are 1 to 255 characters that can be printed. ``limit`` is how many seconds that
        may take, not counting the moment it takes where nothing is in the way; without end when
        None. Raises TypeError or ValueError for what can never be accepted, QueueFull when it was
        not accepted in time, and otherwise as ``submit`` does.
        """
        if limit is not None:
            if not isinstance(limit, float | int):
                raise TypeError(f"limit: expected seconds or None, not {type(limit).__name__}")
            if not 0 <= limit <= TIMEOUT_MAX:
                raise ValueError(f"limit: expected 0 to {TIMEOUT_MAX:.0f} seconds, not {limit}")
        submission = Submission.of_lines(source, lines, key=key, patient=limit is None)
        began = time.monotonic()
        accepted = self.submit(submission, limit)
        if limit is None:
            return accepted.result()
        try:
            return accepted.result(max(began + limit - time.monotonic(), MOMENT))
        except TimeoutError:
            if accepted.cancel():
                message = "the stream is held back; offer the events again later"
                raise QueueFull(message) from None
        return accepted.result()  # the intake has it: accepted or refused, it is known at once

    def take(self, size: int, linger: float) -> list[Waiting] | None:
        """Return the next submissions, in order: those that make one block.

        Waits for the first, then up to ``linger`` seconds until ``size`` bytes are there. A
        reference to a file is a block of its own. Returns None once the queue is closed and empty.
        """
        with self._lock:
            self._wanted = size
            self._filled.wait_for(lambda: self._waiting or self._closed)
            if not self._waiting:
                return None
            self._filled.wait_for(lambda: self._closed or self._level.bytes >= size, linger)
            taken: list[Waiting] = []
            total = 0
            while self._waiting:
                submission = self._waiting[0].submission
                total += submission.size
                if taken and (self._is_reference(0) or total > size):
                    break
                waiting = self._waiting.popleft()
                self._move(submission, -1)
                if waiting.accepted.set_running_or_notify_cancel():
                    taken.append(waiting)
                if isinstance(submission.payload, FileRange):
                    break
            self._room.notify_all()
            return taken

    def refuse(self, why: str | None) -> None:
        """Let nothing new in, since the disk is full; None lets it in again."""
        if why == self._refusal:
            return
        with self._lock:
            self._refusal = why
            self._room.notify_all()

    def reject_waiting(self, error: NotAccepted) -> None:
        """Give everything that waits back to its producers, as not accepted."""
        with self._lock:
            rejected = list(self._waiting)
            self._waiting.clear()
            self._level = QueueLevel(0, 0)
            self._room.notify_all()
        for waiting in rejected:  # without the lock: whoever is told may hand in the next one
            if waiting.accepted.set_running_or_notify_cancel():
                waiting.accepted.set_exception(error)

    def close(self) -> None:
        """Refuse everything from now on; what is in the queue can still be taken."""
        with self._lock:
            self._closed = True
            self._room.notify_all()
            self._filled.notify_all()

    @property
    def refusal(self) -> str | None:
        """Why nothing new is let in, None while it is."""
        return self._refusal

    @property
    def closed(self) -> bool:
        """Say whether everything is refused from now on."""
        return self._closed

    @property
    def level(self) -> QueueLevel:
        """How many events and bytes wait."""
        return self._level

    def _has_room(self, submission: Submission) -> bool:
        level, bounds = self._level, self._bounds
        return (
            self._closed
            or (not self._waiting and self._refusal is None)
            or (
                self._refusal is None
                and level.events + (submission.lines or 1) <= bounds.events
                and level.bytes + submission.size <= bounds.bytes
            )
        )

    def _is_reference(self, index: int) -> bool:
        return isinstance(self._waiting[index].submission.payload, FileRange)

    def _move(self, submission: Submission, sign: int) -> None:
        events = self._level.events + sign * (submission.lines or 1)
        self._level = QueueLevel(events, self._level.bytes + sign * submission.size)


def _manager(address: str, key: bytes, queue: Callable[[], EventQueue] | None = None) -> Any:
    """Return a manager of a class of its own: what is registered with one is the class's."""
    manager_class: Any = type("QueueManager", (BaseManager,), {})
    manager_class.register("queue", queue, exposed=("put",))
    return manager_class(address=address, authkey=key)


class QueueServer:
    """Serves one queue on an AF_UNIX socket, from threads of the daemon."""

    def __init__(self, queue: EventQueue, directory: Path, access: Path) -> None:
        """Listen in ``directory``; where, and with which key, is written to the file ``access``."""
        self._queue = queue
        self._address = str(directory / "queue")
        self._access = access
        self._listener: Any = None

    def start(self) -> None:
        """Begin to listen."""
        key = secrets.token_bytes(32)
        try:
            server = _manager(reachable(self._address), key, lambda: self._queue).get_server()
            self._listener = server.listener
            Thread(target=server.serve_forever, name="queue-server", daemon=True).start()
            self._access.unlink(missing_ok=True)
            self._access.touch(mode=0o600)
            self._access.write_text(json.dumps({"address": self._address, "key": key.hex()}))
        except OSError as error:  # the daemon works without it
            log.error(  # noqa: TRY400 - it is no defect
                "%s: it or its socket cannot be made: %s; other processes cannot hand in events",
                self._access,
                error,
            )

    def close(self) -> None:
        """Listen no more, as one of the last things: the threads end with the daemon."""
        with suppress(OSError):  # a file that stays names a socket that is gone
            self._access.unlink(missing_ok=True)
        if self._listener is not None:
            with suppress(OSError):  # someone has removed its socket
                self._listener.close()


def connect(access: Path) -> Any:
    """Return a proxy of the queue of the daemon that wrote ``access`` (``var/queue.json``).

    The proxy has ``put``. Raises OSError when no daemon listens there.
    """
    where = json.loads(access.read_text())
    manager = _manager(reachable(where["address"]), bytes.fromhex(where["key"]))
    manager.connect()
    return manager.queue()
