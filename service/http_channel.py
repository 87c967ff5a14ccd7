"""One connection: a request is read, then answered, then its answer sent; then comes the next one.

Invariants:

1. Only the loop's thread reads, writes and closes. Other threads make an answer, whole, and hand it
   over; they never wait for a client.
2. Nothing is read while an answer is made or sent: what a client sends ahead stays in the sockets.
3. A connection takes one turn at a time, whatever it sent ahead; the others' turns are between.
"""

from __future__ import annotations

import logging
import socket
import struct
import time
from concurrent.futures import Future
from http import HTTPStatus
from typing import TYPE_CHECKING, Any, Final

from waitress.channel import HTTPChannel
from waitress.task import WSGITask

from service.admin.problems import problem
from service.http_answer import AnswerTask, ProblemTask, Written
from service.http_request import Refused, RequestParser
from service.sources.mount import Answer, Later, Mount, Request

if TYPE_CHECKING:
    from service.http_server import Server

log = logging.getLogger(__name__)

PATIENCE: Final = 5.0
"""Seconds a request waits for what its answer awaits before that is withdrawn."""

SMALL: Final = 2**14
"""Bytes of a request that may be handled in the loop's thread."""

RECEIVED: Final = 2**18
"""Bytes that are read at once of a body whose length is known."""

RECEIVED_BLINDLY: Final = 2**13
"""Bytes that are read at once of anything else: each head and each chunk in them takes time."""

SENT: Final = 2**18
"""Bytes of an answer that are handed to the system at once."""

ANSWER_LIMIT: Final = 10.0
"""Seconds in which a client must read something of its answer."""

IDLE_LIMIT: Final = 120.0
"""Seconds in which something must come."""

LINGER: Final = 5.0
"""Seconds for a client to read its last answer before the connection is cut."""


class Channel(HTTPChannel):  # type: ignore[misc]  # waitress ships no types
    """A connection, and the request or the answer that it is at."""

    server: Server
    request: RequestParser | None

    requests: list[RequestParser]

    def __init__(self, *given: Any, **named: Any) -> None:
        super().__init__(*given, **named)
        self.since = time.monotonic()
        """When its last answer was made, or it was opened: how long it has held a place idly."""
        self._moved = self.since
        self._ahead = b""
        self._out = memoryview(b"")
        self._reply: Later | Written | None = None
        self._until = 0.0
        self._lingers = False

    @property
    def at_work(self) -> bool:
        """Say whether a request is here, and no answer yet."""
        return bool(self.requests)

    @property
    def unfinished(self) -> bool:
        """Say whether a request is not all here yet."""
        return not self.requests

    # In the loop's thread.

    def readable(self) -> bool:
        """Say whether more may be read."""
        if self.requests or self._out or not self.connected:
            return False
        request = self.request
        if request is None or request.body_bytes_received <= SMALL:
            return True
        return not self.server.bodies.holds_back(self)

    def writable(self) -> bool:
        """Say whether something is to be sent."""
        return bool(self._out) and self.connected

    def handle_read(self) -> None:
        """Take what came."""
        missing = self.request.missing if self.request is not None else None
        wanted = RECEIVED_BLINDLY if missing is None else min(missing, RECEIVED)
        try:
            data = self.recv(wanted)
        except BlockingIOError:
            return
        if data:
            self._moved = time.monotonic()
            if not self._lingers:
                self._ahead = data
                self._parse()

    def handle_write(self) -> None:
        """Send more of the answer; once it is sent, look at what comes next."""
        self._flush()
        self._go_on()

    def handle_close(self) -> None:
        """Let go of everything."""
        self._out = memoryview(b"")
        self._ahead = b""
        self.server.bodies.release(self)
        if not self.requests and self.request is not None:
            self.request.close()
            self.request = None
        super().handle_close()

    def finish(self) -> None:
        """Send the answer that was made, or can be made by now."""
        (request,) = self.requests
        reply, self._reply = self._reply, None
        if isinstance(reply, Later) and self.connected:
            reply = self._written(request, reply)
        request.close()
        self.requests = []
        self.server.bodies.release(self)
        self.since = time.monotonic()
        if self.connected and isinstance(reply, Written):
            self.close_when_flushed = reply.last
            self._send(reply.data)
            self._go_on()

    def look(self, now: float) -> None:
        """Withdraw what takes too long, and close what nobody uses; asked once a second."""
        reply = self._reply
        if isinstance(reply, Later) and now >= self._until:
            reply.awaited.cancel()
        if self.requests:
            return
        idle = now - self._moved
        if self._out and idle > ANSWER_LIMIT:
            self._drop()
        elif idle > IDLE_LIMIT or (self._lingers and now - self.since > LINGER):
            self.handle_close()

    def give_up(self) -> None:
        """Refuse a request whose body does not come, and keeps others waiting."""
        request = self.request
        if request is not None:
            phrase = HTTPStatus.SERVICE_UNAVAILABLE.phrase
            request.refuse(Refused(503, phrase, "the body came too slowly, while others waited"))
            self._hand_over(request)

    def _drop(self) -> None:
        # Else the system would keep what it has of the answer until the client reads it.
        self.socket.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
        self.handle_close()

    def _parse(self) -> None:
        """Read the next request, as far as it is here."""
        data, self._ahead = self._ahead, b""
        while data:
            request = self.request
            if request is None:
                request = self.request = RequestParser(self.adj, self.server.admission)
            data = data[request.received(data) :]
            if request.body_bytes_received > SMALL:
                self.server.bodies.hold(self, request.body_bytes_received)
            if not request.completed:
                if request.expect_continue and request.headers_finished:
                    request.expect_continue = False
                    self._send(b"HTTP/1.1 100 Continue\r\n\r\n")
            elif request.empty:
                self.request = None
            else:
                self._ahead = data
                self._hand_over(request)
                return

    def _hand_over(self, request: RequestParser) -> None:
        self.request = None
        self.requests = [request]
        self.server.add_task(self)

    def _send(self, data: bytes) -> None:
        self._out = memoryview(data)
        self._moved = time.monotonic()
        self._flush()

    def _flush(self) -> None:
        """Send as much as the system takes now."""
        try:
            while self._out and (sent := self.send(self._out[:SENT])):
                self._out = self._out[sent:]
                self._moved = time.monotonic()
        except OSError:
            self.handle_close()

    def _go_on(self) -> None:
        """Once the answer is sent: end, or read the next request."""
        if self._out or not self.connected:
            return
        if self.close_when_flushed:
            self._end()
        elif self._ahead:
            self._parse()

    def _end(self) -> None:
        # To close it at once, while a client still sends, would take its answer away from it.
        self.close_when_flushed = False
        self._lingers = True
        self._ahead = b""
        try:
            self.socket.shutdown(socket.SHUT_WR)
        except OSError:
            self.handle_close()

    # In the loop's thread for what is done soon, else in another one.

    def mount(self) -> Mount | None:
        """Return what answers the present request by itself, if anything does."""
        mount: Mount | None = self.server.mounts.get(self.requests[0].path)
        return mount

    def service(self) -> None:
        """Have the request answered; the loop then sends the answer."""
        (request,) = self.requests
        reply: Answer | Later
        if request.error:
            written = Written(self)
            self._replied(written.take(ProblemTask(written, request)))
            return
        mount = self.mount()
        if mount is None:
            written = Written(self)
            self._replied(written.take(WSGITask(written, request)))
            return
        try:
            body = request.get_body_stream().read()
            request.close()  # of a large body, once is enough
            reply = mount(Request(request.command, body, request.headers.get("IDEMPOTENCY_KEY")))
        except BaseException:
            log.exception("unexpected error at %s", request.path)
            reply = Answer.of(problem(HTTPStatus.INTERNAL_SERVER_ERROR, "an unexpected error"))
        if isinstance(reply, Later):
            self.server.bodies.release(self)
            self._until = time.monotonic() + PATIENCE
            self._reply = reply
            reply.awaited.add_done_callback(self._replied_later)
        else:
            self._replied(self._written(request, reply))

    def _written(self, request: RequestParser, reply: Answer | Later) -> Written:
        written = Written(self)
        try:
            answer = reply.answer() if isinstance(reply, Later) else reply
        except BaseException:
            log.exception("unexpected error at %s", request.path)
            answer = Answer.of(problem(HTTPStatus.INTERNAL_SERVER_ERROR, "an unexpected error"))
        return written.take(AnswerTask(written, request, answer))

    def _replied(self, reply: Written) -> None:
        self._reply = reply
        self.server.answer(self)

    def _replied_later(self, awaited: Future[Any]) -> None:
        del awaited
        self.server.answer(self)
