"""The HTTP server: waitress in a thread, for the operators' app and for what sources answer.

A post of events waits for its receipt. It holds no thread meanwhile, and all that were accepted
together are answered together: threads that wake each other cost more than all else in a post.

Invariants:

1. Nothing waits in the loop's thread: small bodies are read there, larger ones in another. Only
   one that came before under its idempotency key, with times too far ahead, is read once more.
2. Whatever clients do, there is a place for the next one, and a turn: places are taken from those
   who have been idle for longest, and work is bounded for each turn.
"""

from __future__ import annotations

import errno
import logging
import time
from collections import deque
from collections.abc import Callable, Iterator, Mapping
from heapq import nsmallest
from threading import Event
from typing import TYPE_CHECKING, Final

from waitress.adjustments import Adjustments
from waitress.server import TcpWSGIServer
from waitress.task import ThreadedTaskDispatcher
from waitress.wasyncore import dispatcher

from service.errors import PipelineFailed
from service.http_admission import Admission
from service.http_bodies import Bodies
from service.http_channel import SMALL, Channel
from service.http_request import Refused
from service.settings import Address, Settings
from service.sources.mount import Mount
from service.threads import start_thread

if TYPE_CHECKING:
    from _typeshed.wsgi import WSGIApplication

log = logging.getLogger(__name__)

THREADS: Final = 8
"""Threads for the operators' requests."""

READERS: Final = 2
"""Threads for large bodies: more would only keep each other, and the loop, from running."""

CONNECTIONS: Final = 800
"""Connections that are kept: with the daemon's own files fewer than a process may have open."""

AT_WORK: Final = 600
"""Connections with a request at work, beyond which no more is taken in at a mount, such as events:
the other places are for operators."""

ACCEPTED: Final = 64
"""Connections that are accepted in one turn."""

HEAD: Final = 2**15
"""Bytes of a request's head."""

CLOSE_LIMIT: Final = 5.0
"""Seconds that answers under way may take to finish when the server closes."""


class Tasks:
    """Hands requests to threads, except those that are done sooner than handed over."""

    def __init__(self) -> None:
        logging.getLogger("waitress.queue").setLevel(logging.ERROR)  # it tells of each that waits
        self._app = ThreadedTaskDispatcher()
        self._app.set_thread_count(THREADS)
        self._readers = ThreadedTaskDispatcher()
        self._readers.set_thread_count(READERS)

    def add_task(self, task: Channel) -> None:
        """Have a channel's present request answered."""
        request = task.requests[0]
        if request.error:
            task.service()
        elif task.mount() is None:
            self._app.add_task(task)
        elif request.body_bytes_received <= SMALL:
            task.service()
        else:
            self._readers.add_task(task)

    def shutdown(self) -> None:
        """Let the threads finish what they have."""
        for threads in (self._app, self._readers):
            threads.shutdown(cancel_pending=False, timeout=CLOSE_LIMIT)


class Server(TcpWSGIServer):  # type: ignore[misc]  # waitress ships no types
    """Waitress with mounts, and with room for the next one."""

    channel_class = Channel
    active_channels: dict[int, Channel]

    def __init__(
        self, app: WSGIApplication, mounts: Mapping[str, Mount], adjustments: Adjustments
    ) -> None:
        """Listen."""
        self.mounts = mounts
        self.bodies = Bodies(adjustments.max_request_body_size)
        self._answered: deque[Channel] = deque()
        self._told = False
        self._at_work = 0
        self._next_look = 0.0
        super().__init__(app, {}, dispatcher=Tasks(), adj=adjustments)
        self.address = Address(self.effective_host, int(self.effective_port))
        self.admission = Admission(self.address)

    def add_task(self, task: Channel) -> None:
        """Have a channel's present request answered; in the loop's thread."""
        request = task.requests[0]
        self._at_work += 1
        if self._at_work > AT_WORK and self._brings_more(task):
            request.refuse(Refused(503, "Service Unavailable", "too many requests at once"))
        self.task_dispatcher.add_task(task)

    @staticmethod
    def _brings_more(task: Channel) -> bool:
        """Say whether a request has a body for a mount; operators always get an answer."""
        request = task.requests[0]
        return request.body_rcv is not None and not request.error and task.mount() is not None

    def answer(self, channel: Channel) -> None:
        """Have the loop send a channel's reply; from any thread."""
        self._answered.append(channel)
        if not self._told:
            self._told = True
            self.pull_trigger()

    def readable(self) -> bool:
        """Do what is to be done before each turn; say whether the next client may come in."""
        self._send_answers()
        now = time.monotonic()
        if now >= self._next_look:
            self._next_look = now + 1
            for channel in list(self.active_channels.values()):
                channel.look(now)
            if slow := self.bodies.slow():
                slow.give_up()
        self._make_room(len(self.active_channels) - CONNECTIONS)
        return self.accepting and (len(self.active_channels) < CONNECTIONS or any(self._idle()))

    def handle_accept(self) -> None:
        """Let those in who wait at the door."""
        for _ in range(ACCEPTED):
            try:
                pair = self.accept()
                if pair is None:
                    return
                connection, address = pair
                self.set_socket_options(connection)
            except OSError as error:  # some other system's whim, or no file is left
                if error.errno in {errno.EMFILE, errno.ENFILE}:
                    self._make_room(ACCEPTED)
                return
            Channel(self, connection, address, self.adj, map=self._map)

    def close(self) -> None:
        """Send the answers that are known, and listen no more; in the loop's thread."""
        self._send_answers()
        # The trigger stays open: answers may still come, and its number must not be another file's.
        dispatcher.close(self)

    def _send_answers(self) -> None:
        # Told again from here on; and one turn for each, since an answer may lead to the next one.
        self._told = False
        for _ in range(len(self._answered)):
            self._at_work -= 1
            self._answered.popleft().finish()

    def _idle(self) -> Iterator[Channel]:
        """Return the connections without a request at work."""
        return (channel for channel in self.active_channels.values() if not channel.at_work)

    def _make_room(self, places: int) -> None:
        """Close so many of the idle connections, those first that have been it for longest."""
        if places > 0:
            for channel in nsmallest(places, self._idle(), key=lambda channel: channel.since):
                channel.handle_close()


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
            max_request_body_size=settings.http.max_body,
            max_request_header_size=HEAD,
            inbuf_overflow=settings.http.max_body + 1,  # in memory: its size is bounded
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
        self.address = str(self._server.address)

    def start(self, failed: Callable[[str], None]) -> None:
        """Answer requests; those that came before have waited. ``failed`` hears what ends it."""
        start_thread("http", self._server.run, failed)

    def close(self) -> None:
        """Let the answers under way finish, the threads' and then the loop's; listen no more."""
        self._server.task_dispatcher.shutdown()
        closed = Event()
        self._server.trigger.pull_trigger(self._server.close)
        self._server.trigger.pull_trigger(closed.set)
        closed.wait(CLOSE_LIMIT)
