"""The HTTP server: waitress in a thread, for the operators' app and for what sources answer.

A post of events waits for its receipt. It holds no thread meanwhile, and all that were accepted
together are answered together: threads that wake each other cost more than all else in a post.

Invariants:

1. Nothing waits in the loop's thread: small bodies are read there, larger ones in another. Only
   one that came before under its idempotency key, with times too far ahead, is read once more.
2. The answer of a mount is written by the loop's thread, and the next request of the connection
   is looked at after that.
"""

from __future__ import annotations

import logging
import time
from collections import deque
from collections.abc import Callable, Mapping
from concurrent.futures import Future
from http import HTTPStatus
from threading import Event, get_ident
from typing import TYPE_CHECKING, Any, Final

from waitress.adjustments import Adjustments
from waitress.channel import HTTPChannel
from waitress.server import TcpWSGIServer
from waitress.task import ErrorTask, Task, ThreadedTaskDispatcher, WSGITask
from waitress.wasyncore import dispatcher

from service.admin.problems import problem
from service.errors import PipelineFailed
from service.settings import Address, Settings
from service.sources.mount import Answer, Later, Mount, Request
from service.threads import start_thread

if TYPE_CHECKING:
    from _typeshed.wsgi import WSGIApplication

log = logging.getLogger(__name__)

PATIENCE: Final = 5.0
"""Seconds a request waits for what its answer awaits before that is withdrawn."""

THREADS: Final = 8
"""Threads for the operators' requests, and for large bodies while they are read."""

SMALL: Final = 2**14
"""Bytes of a request that may be handled in the loop's thread."""

RECEIVED: Final = 2**18
"""Bytes that are read of a request at once."""

CLOSE_LIMIT: Final = 5.0
"""Seconds that answers under way may take to finish when the server closes."""


class ProblemTask(ErrorTask):  # type: ignore[misc]  # waitress ships no types
    """Answers what never reaches Flask, such as a body that is too large, as a problem, too."""

    def execute(self) -> None:
        """Write the answer."""
        error = self.request.error
        status = HTTPStatus(error.code)
        response = problem(status, f"{error.reason}: {error.body}".replace("\r\n", " "))
        body = response.get_data()
        self.status = f"{status.value} {status.phrase}"
        self.response_headers = [("Content-Type", response.content_type), ("Connection", "close")]
        self.content_length = len(body)
        self.close_on_finish = True
        self.write(body)


class AnswerTask(Task):  # type: ignore[misc]  # as above
    """Writes the answer of a mount, in one piece."""

    complete = True

    def __init__(self, channel: Channel, request: Any, reply: Answer | Later) -> None:
        super().__init__(channel, request)
        self._reply = reply

    def execute(self) -> None:
        """Write the answer."""
        reply = self._reply
        answer = reply.answer() if isinstance(reply, Later) else reply
        self.status = answer.status
        self.response_headers = answer.headers
        self.content_length = len(answer.body)
        head = self.build_response_header()
        self.wrote_header = True
        self.channel.write_soon(head if self.request.command == "HEAD" else head + answer.body)


class Channel(HTTPChannel):  # type: ignore[misc]  # as above
    """A connection, whose errors are problems, and whose mounts may answer later."""

    error_task_class = ProblemTask
    _reply: Answer | Later | None = None
    _until = 0.0

    def task_class(self, channel: Channel, request: Any) -> Task:
        """Return what answers the request: the mount's reply, if there is one, or the app."""
        reply, self._reply = self._reply, None
        return WSGITask(channel, request) if reply is None else AnswerTask(channel, request, reply)

    def mount(self) -> Mount | None:
        """Return what answers the present request by itself, if anything does."""
        request = self.requests[0]
        return None if request.error else self.server.mounts.get(request.path)

    def service(self) -> None:
        """Answer a request, or hand it to its mount; the loop then writes the answer."""
        mount = self.mount()
        if mount is None:
            super().service()
            return
        request = self.requests[0]
        reply: Answer | Later
        try:
            body = request.get_body_stream().read()
            key = request.headers.get("IDEMPOTENCY_KEY")
            reply = mount(Request(request.command, body, key))
        except Exception:
            log.exception("unexpected error at %s", request.path)
            reply = Answer.of(problem(HTTPStatus.INTERNAL_SERVER_ERROR, "an unexpected error"))
        self._until = time.monotonic() + PATIENCE
        self._reply = reply
        if isinstance(reply, Later):
            reply.awaited.add_done_callback(self._answer)
        else:
            self._answer()

    def finish(self) -> None:
        """Write the reply, and look at the next request; in the loop's thread."""
        super().service()

    def readable(self) -> bool:
        """Say whether more may be read; asked at least once a second."""
        reply = self._reply
        if isinstance(reply, Later) and time.monotonic() >= self._until:
            reply.awaited.cancel()
        return bool(super().readable())

    def _answer(self, awaited: Future[Any] | None = None) -> None:
        del awaited
        self.server.answer(self)

    def _flush_outbufs_below_high_watermark(self) -> None:
        # The loop would wait for itself. What it adds is bounded: while answers wait to be sent, no
        # more is read than what came in one piece.
        if not self.server.in_loop():
            super()._flush_outbufs_below_high_watermark()


class Tasks(ThreadedTaskDispatcher):  # type: ignore[misc]  # as above
    """Hands requests to threads, except those that are done sooner than handed over."""

    def add_task(self, task: Channel) -> None:
        """Have a channel's present request answered."""
        if task.requests[0].body_bytes_received <= SMALL and task.mount() is not None:
            task.service()
        else:
            super().add_task(task)


class Server(TcpWSGIServer):  # type: ignore[misc]  # as above
    """Waitress with mounts."""

    channel_class = Channel

    def __init__(
        self, app: WSGIApplication, mounts: Mapping[str, Mount], adjustments: Adjustments
    ) -> None:
        """Listen."""
        self.mounts = mounts
        self._answered: deque[Channel] = deque()
        self._told = False
        self._loop = 0
        tasks = Tasks()
        tasks.set_thread_count(adjustments.threads)
        super().__init__(app, {}, dispatcher=tasks, adj=adjustments)

    def run(self) -> None:
        """Answer requests until closed."""
        self._loop = get_ident()
        super().run()

    def pull_trigger(self) -> None:
        """Let the loop look at its channels again, unless it is at it."""
        if not self.in_loop():
            super().pull_trigger()

    def in_loop(self) -> bool:
        """Say whether this is the loop's thread."""
        return get_ident() == self._loop

    def close(self) -> None:
        """Listen no more; in the loop's thread."""
        # The trigger stays open: answers may still come, and its number must not be another file's.
        dispatcher.close(self)

    def answer(self, channel: Channel) -> None:
        """Have the loop write a channel's reply; from any thread."""
        self._answered.append(channel)
        if not self._told:
            self._told = True
            self.trigger.pull_trigger(self._write)

    def _write(self) -> None:
        # Nobody tells while this runs: what is answered meanwhile is found here, at the latest
        # when it is looked at once more after that.
        while self._answered:
            self._told = True
            try:
                while self._answered:
                    self._answered.popleft().finish()
            finally:
                self._told = False


class HttpServer:
    """The server in a thread of this process."""

    def __init__(
        self, app: WSGIApplication, mounts: Mapping[str, Mount], settings: Settings
    ) -> None:
        """Take the address; raises PipelineFailed when another has it."""
        listen = settings.http.listen
        adjustments = Adjustments(
            host=listen.host,
            port=listen.port,
            threads=THREADS,
            max_request_body_size=settings.http.max_body,
            recv_bytes=RECEIVED,
            inbuf_overflow=settings.http.max_body + 1,  # in memory: its size is bounded
            connection_limit=1000,
            asyncore_use_poll=True,  # select() ends the loop at a file number of 1,024
            ident="penstock",
        )
        try:
            self._server = Server(app, mounts, adjustments)
        except OSError as error:
            message = (
                f"cannot listen on {listen}: {error.strerror}; set http.listen to another port"
            )
            raise PipelineFailed(message) from error
        self.address = str(Address(listen.host, self._server.effective_port))

    def start(self, failed: Callable[[str], None]) -> None:
        """Answer requests; those that came before have waited. ``failed`` hears what ends it."""
        start_thread("http", self._server.run, failed)

    def close(self) -> None:
        """Let the answers under way finish, the threads' and then the loop's; listen no more."""
        self._server.task_dispatcher.shutdown(cancel_pending=False, timeout=CLOSE_LIMIT)
        closed = Event()
        self._server.trigger.pull_trigger(self._server.close)
        self._server.trigger.pull_trigger(closed.set)
        closed.wait(CLOSE_LIMIT)
