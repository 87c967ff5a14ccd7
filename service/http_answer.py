"""Makes answers, each whole: the bytes to be sent, and whether the connection ends with them."""

from __future__ import annotations

import logging
from http import HTTPStatus
from typing import TYPE_CHECKING, Any

from waitress.task import ErrorTask, Task
from waitress.utilities import InternalServerError

from service.admin.problems import problem
from service.http_request import Refused
from service.sources.mount import Answer

if TYPE_CHECKING:
    from service.http_channel import Channel

log = logging.getLogger(__name__)


class ProblemTask(ErrorTask):  # type: ignore[misc]  # waitress ships no types
    """Answers what never reaches Flask, such as a body that is too large, as a problem, too."""

    def execute(self) -> None:
        """Write the answer."""
        error = self.request.error
        status = HTTPStatus(error.code)
        detail = error.body if isinstance(error, Refused) else f"{error.reason}: {error.body}"
        if status is HTTPStatus.REQUEST_ENTITY_TOO_LARGE:
            most = self.channel.adj.max_request_body_size
            detail = (
                f"the body is longer than http.max_body ({most} bytes), nothing was taken in: "
                "send it in several posts, or raise http.max_body"
            )
        response = problem(status, detail.replace("\r\n", " "))
        body = response.get_data()
        self.status = f"{status.value} {status.phrase}"
        self.response_headers = [("Content-Type", response.content_type), ("Connection", "close")]
        if status is HTTPStatus.SERVICE_UNAVAILABLE:
            self.response_headers.append(("Retry-After", "1"))
        self.content_length = len(body)
        self.close_on_finish = True
        self.write(body)


class AnswerTask(Task):  # type: ignore[misc]  # as above
    """Writes the answer of a mount, in one piece."""

    complete = True

    def __init__(self, written: Written, request: Any, answer: Answer) -> None:
        super().__init__(written, request)
        self._answer = answer

    def execute(self) -> None:
        """Write the answer."""
        answer = self._answer
        self.status = answer.status
        self.response_headers = answer.headers
        self.content_length = len(answer.body)
        head = self.build_response_header()
        self.wrote_header = True
        self.channel.write_soon(head if self.request.command == "HEAD" else head + answer.body)


class Written:
    """Stands in for the channel where a task writes: an answer is sent once it is all there."""

    def __init__(self, channel: Channel) -> None:
        self.server = channel.server
        self.adj = channel.adj
        self.addr = channel.addr
        self.last = False
        """Whether the connection ends with it."""
        self._channel = channel
        self._pieces: list[bytes] = []

    @property
    def data(self) -> bytes:
        """The whole answer."""
        return self._pieces[0] if len(self._pieces) == 1 else b"".join(self._pieces)

    def write_soon(self, data: bytes) -> int:
        """Take some of the answer."""
        self._pieces.append(data)
        return len(data)

    def check_client_disconnected(self) -> bool:
        """Say whether nobody waits for the answer any more."""
        return not self._channel.connected

    def take(self, task: Task) -> Written:
        """Have a task write, or say that it could not; returns this."""
        try:
            task.service()
        except BaseException:
            log.exception("unexpected error at %s", task.request.path)
            self._pieces.clear()
            task.request.error = InternalServerError("an unexpected error")
            task = ProblemTask(self, task.request)
            task.service()
        self.last = task.close_on_finish
        return self
