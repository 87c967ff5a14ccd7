"""Takes events in over HTTP: one JSON object, a JSON array or NDJSON in the body of a POST."""

from __future__ import annotations

from collections.abc import Iterable
from concurrent.futures import TimeoutError as FutureTimeoutError
from http import HTTPStatus
from threading import BoundedSemaphore
from typing import TYPE_CHECKING, Any, Final

import msgspec
from pydantic import BaseModel, Field

from middleware.errors import ConfigurationError, PenstockError
from service.admin.problems import problem, problem_of
from service.block import Offset, Part, Receipt, Submission
from service.border import Border, Lines
from service.errors import QueueFull
from service.sources.source import Source, Surroundings

if TYPE_CHECKING:
    from _typeshed.wsgi import StartResponse, WSGIEnvironment

AT_ONCE: Final = 16
"""Posts that may wait for their receipts together; each holds a thread of the server."""

PATIENCE: Final = 5.0
"""Seconds a post waits to be accepted before it is withdrawn and told to come again."""

LONGEST_KEY: Final = 255
"""Characters of an idempotency key."""

MOST_ERRORS: Final = 1_000
"""Bad events that one answer lists; the rest is only counted."""


class BodyError(Exception):
    """Nothing in the body can be read as events; ``more`` goes into the answer."""

    def __init__(self, detail: str, **more: object) -> None:
        super().__init__(detail)
        self.more = more


class HttpSource(Source):
    """Takes events in over HTTP and answers with the offsets they got."""

    class Params(BaseModel):
        """Where to listen within the daemon's HTTP server."""

        path: str = Field("/api/v1/events", pattern="^/", description="the path to post to")

    def __init__(self, name: str, params: Any, surroundings: Surroundings) -> None:
        """Take the route, which no other source may have; raises ConfigurationError."""
        super().__init__(name, params, surroundings)
        if params.path in surroundings.mounts:
            raise ConfigurationError(f"path: another source takes {params.path} already")
        surroundings.mounts[params.path] = self._answer
        self._border = Border(surroundings.settings.event)
        self._places = BoundedSemaphore(AT_ONCE)

    def start(self) -> None:
        """Do nothing: posts that came before have waited in the queue."""

    def _answer(self, environ: WSGIEnvironment, start_response: StartResponse) -> Iterable[bytes]:
        """Answer a request, as WSGI: what an app does besides would take as long again."""
        if environ["REQUEST_METHOD"] != "POST":
            refused = problem(HTTPStatus.METHOD_NOT_ALLOWED, "events are posted here")
            refused.headers["Allow"] = "POST"
            return refused(environ, start_response)
        body = environ["wsgi.input"].read(int(environ.get("CONTENT_LENGTH") or 0))
        try:
            receipt, read = self._accept(body, environ.get("HTTP_IDEMPOTENCY_KEY"))
        except BodyError as error:
            refused = problem(HTTPStatus.BAD_REQUEST, str(error), **error.more)
            return refused(environ, start_response)
        except PenstockError as error:
            return problem_of(error)(environ, start_response)
        document = _accepted(receipt, read)
        headers = [
            ("Content-Type", "application/json"),
            ("Content-Length", str(len(document))),
        ]
        if receipt.repeated:
            headers.append(("Idempotency-Replayed", "true"))
        start_response("202 Accepted", headers)
        return [document]

    def _accept(self, body: bytes, key: str | None) -> tuple[Receipt, Lines]:
        """Hand a body's events in; return where they are, and what was read of them."""
        lines = as_lines(body)
        if key is not None and not 0 < len(key) <= LONGEST_KEY:
            raise BodyError(f"Idempotency-Key: expected 1 to {LONGEST_KEY} characters")
        submission = Submission.of_lines(self.name, lines, key=key, patient=False)
        read = self._read(lines, submission.received)
        if not len(read.rows):
            detail = "there is no event in the body" if not read.bad else "no event can be read"
            raise BodyError(detail, errors=_errors(read, None))
        receipt = self._receipt(submission)
        if receipt.repeated:  # as the first answer was: also about times that lie ahead
            read = self._read(lines, receipt.received)
        return receipt, read

    def _read(self, lines: bytes, received: float) -> Lines:
        return self._border.read(lines, (Part(self.name, None, 1, received),))

    def _receipt(self, submission: Submission) -> Receipt:
        """Hand the lines in and wait until they are accepted; raises QueueFull, QueueClosed."""
        if not self._places.acquire(blocking=False):
            raise QueueFull("too many posts wait to be accepted; offer the events again later")
        try:
            accepted = self.surroundings.queue.submit(submission, limit=0)
            try:
                return accepted.result(PATIENCE)
            except FutureTimeoutError:
                if accepted.cancel():
                    raise QueueFull(
                        "the stream is held back; offer the events again later"
                    ) from None
                return accepted.result()
        finally:
            self._places.release()


def as_lines(body: bytes) -> bytes:
    """Return a body as NDJSON with the events' own bytes; raises BodyError.

    An element of an array, or a single object, that spans several lines is put on one.
    """
    text = body.strip()
    if not text:
        raise BodyError("the body is empty; post a JSON object, a JSON array or NDJSON")
    try:
        if text.startswith(b"["):
            elements = msgspec.json.decode(text, type=list[msgspec.Raw])
            return b"".join(_on_one_line(bytes(element)) + b"\n" for element in elements)
        if b"\n" in text and not _is_json(text.partition(b"\n")[0]):
            msgspec.json.decode(text)
            return _on_one_line(text) + b"\n"
    except (msgspec.DecodeError, RecursionError):
        pass  # then it is NDJSON, in which each line speaks for itself
    return body if body.endswith(b"\n") else body + b"\n"


def _on_one_line(text: bytes) -> bytes:
    return msgspec.json.format(text, indent=-1) if b"\n" in text else text


def _is_json(text: bytes) -> bool:
    try:
        msgspec.json.decode(text)
    except (msgspec.DecodeError, RecursionError):
        return False
    return True


def _accepted(receipt: Receipt, read: Lines) -> bytes:
    first = receipt.first
    last = Offset(first.block, first.row + len(read.stops) - 1)
    document = {
        "accepted": len(read.rows),
        "dead": len(read.bad),
        "first": str(first),
        "last": str(last),
        "errors": _errors(read, first),
    }
    return msgspec.json.encode(document) + b"\n"


def _errors(read: Lines, first: Offset | None) -> list[dict[str, Any]]:
    errors: list[dict[str, Any]] = []
    for bad in read.bad[:MOST_ERRORS]:
        place = {} if first is None else {"offset": str(Offset(first.block, first.row + bad.row))}
        errors.append({"line": bad.row + 1, **place, "reason": bad.reason})
    return errors
