"""Takes events in over HTTP: one JSON object, a JSON array or NDJSON in the body of a POST."""

from __future__ import annotations

import time
from concurrent.futures import CancelledError, Future
from http import HTTPStatus
from math import inf
from typing import Annotated, Any, Final

import msgspec
from pydantic import AfterValidator, BaseModel, Field

from middleware.errors import ConfigurationError, PenstockError
from service.admin.problems import problem, problem_of
from service.block import LONGEST_NAME, Offset, Part, Receipt, Submission
from service.border import Border, Lines
from service.errors import QueueFull
from service.sources.mount import Answer, Later, Request
from service.sources.posted_body import MOST_BAD, TOO_MANY_BAD, BodyError, as_lines
from service.sources.source import Source, Surroundings

MOST_ERRORS: Final = 1_000
"""Bad events that one answer lists; the rest is only counted."""


EVENTS: Final = "/api/v1/events"


def _free(path: str) -> str:
    """Return a path, unless operators need it."""
    taken = path in {"/livez", "/readyz"} or path.startswith("/api/")
    if taken and path != EVENTS and not path.startswith(f"{EVENTS}/"):
        message = f"expected a path that operators do not need, such as {EVENTS}/more or /in"
        raise ValueError(message)
    return path


class HttpSource(Source):
    """Takes events in over HTTP and answers with the offsets they got."""

    class Params(BaseModel):
        """Where to listen within the daemon's HTTP server."""

        path: Annotated[str, AfterValidator(_free)] = Field(
            EVENTS, pattern="^/[A-Za-z0-9._~/-]*$", description="the path to post to"
        )

    def __init__(self, name: str, params: Any, surroundings: Surroundings) -> None:
        """Take the route, which no other source may have; raises ConfigurationError."""
        super().__init__(name, params, surroundings)
        if params.path in surroundings.mounts:
            raise ConfigurationError(f"path: another source takes {params.path} already")
        surroundings.mounts[params.path] = self._answer
        self._border = Border(surroundings.settings.event)

    def start(self) -> None:
        """Do nothing: posts that came before have waited in the queue."""

    def _answer(self, request: Request) -> Answer | Later:
        """Hand a body's events in; the answer comes with their receipt."""
        if request.method != "POST":
            refused = problem(HTTPStatus.METHOD_NOT_ALLOWED, "events are posted here")
            refused.headers["Allow"] = "POST"
            return Answer.of(refused)
        try:
            submission, read = self._submission(request)
            accepted = self.surroundings.queue.submit(submission, limit=0)
        except BodyError as error:
            return Answer.of(problem(HTTPStatus.BAD_REQUEST, str(error), **error.more))
        except PenstockError as error:
            return Answer.of(problem_of(error))
        return Later(accepted, lambda: self._receipt(accepted, read))

    def _submission(self, request: Request) -> tuple[Submission, Lines]:
        """Return a body's events, and what was read of them; raises BodyError."""
        lines = as_lines(request.body)
        key = request.idempotency_key
        if key is not None and not 0 < len(key) <= LONGEST_NAME:
            raise BodyError(f"Idempotency-Key: expected 1 to {LONGEST_NAME} characters")
        received = time.time()
        read = self._read(lines, received)
        if len(read.bad) > MOST_BAD:
            raise BodyError(TOO_MANY_BAD, errors=_errors(read, None))
        if not len(read.rows):
            detail = "there is no event in the body" if not read.bad else "no event can be read"
            raise BodyError(detail, errors=_errors(read, None))
        count = len(read.stops)
        return Submission(self.name, lines, count, 1, received, key, False, counted=True), read

    def _receipt(self, accepted: Future[Receipt], read: Lines) -> Answer:
        """Return the answer to lines that were accepted, refused or withdrawn."""
        try:
            receipt = accepted.result()
        except CancelledError:
            held_back = QueueFull("the stream is held back; offer the events again later")
            return Answer.of(problem_of(held_back))
        except PenstockError as error:
            return Answer.of(problem_of(error))
        headers = [("Content-Type", "application/json")]
        if receipt.repeated:
            if self._was_ahead(read, receipt.received):  # answered as at first
                read = self._read(read.payload, receipt.received)
            headers.append(("Idempotency-Replayed", "true"))
        return Answer("202 Accepted", headers, _accepted(receipt, read))

    def _was_ahead(self, read: Lines, received: float) -> bool:
        """Say whether an event's time was too far ahead at that moment, and is not any more."""
        allowed = self.surroundings.settings.event.max_future
        return allowed is not None and read.time.max(initial=-inf) > received + allowed

    def _read(self, lines: bytes, received: float) -> Lines:
        part = Part(self.name, None, 1, received)
        return self._border.read(lines, (part,), most_bad=MOST_BAD)


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
