"""Errors as ``application/problem+json`` (RFC 9457)."""

from __future__ import annotations

import re
from collections.abc import Iterable
from http import HTTPStatus

from flask import Flask, Response, json, request
from werkzeug.exceptions import HTTPException, MethodNotAllowed, NotFound

from middleware.errors import ConfigurationError, PenstockError
from middleware.wording import printable
from service.errors import (
    KeyReused,
    NotAccepted,
    OutcomeUnknown,
    QueueFull,
    StorageBusy,
    StorageFull,
)


def problem(status: HTTPStatus, detail: str, **more: object) -> Response:
    """Return an error response; ``more`` are further members of the document."""
    document = {"type": "about:blank", "title": status.phrase, "status": status, "detail": detail}
    response = Response(json.dumps(document | more) + "\n", status=status)
    response.content_type = "application/problem+json"
    return response


def handle_problems(app: Flask, mounts: Iterable[str] = ()) -> None:
    """Answer every error of the app as a problem document.

    ``mounts`` are the paths beside the app's own, as far as there are any by then.
    """

    @app.errorhandler(HTTPException)
    def _http(error: HTTPException) -> Response:
        detail = error.description or ""
        if isinstance(error, NotFound):
            known = ", ".join(sorted({*mounts, *_known(app)}, key=lambda each: each.split()[-1]))
            detail = f"there is nothing at {printable(request.path[:100])} (known: {known})"
        elif isinstance(error, MethodNotAllowed):
            allowed = ", ".join(sorted({*(error.valid_methods or ())} - _IMPLIED))
            detail = (
                f"{printable(request.method[:20])} is not for {request.path} (known: {allowed})"
            )
        response = problem(HTTPStatus(error.code or 500), detail)
        for name, value in error.get_headers():
            if name.lower() == "allow":
                response.headers[name] = value
        return response

    @app.errorhandler(PenstockError)
    def _penstock(error: PenstockError) -> Response:
        return problem_of(error)


_IMPLIED = frozenset({"HEAD", "OPTIONS"})


def _known(app: Flask) -> Iterable[str]:
    """Yield what the app answers, such as ``GET /api/v1/middleware/NAME``."""
    for rule in app.url_map.iter_rules():
        path = re.sub("<(.*?)>", lambda part: part[1].upper(), rule.rule)
        yield from (f"{method} {path}" for method in {*(rule.methods or ())} - _IMPLIED)


def problem_of(error: PenstockError) -> Response:
    """Return the answer to a request that met one of Penstock's errors."""
    match error:
        case ConfigurationError() | KeyReused():
            return problem(HTTPStatus.UNPROCESSABLE_ENTITY, str(error))
        case QueueFull():
            return _later(HTTPStatus.TOO_MANY_REQUESTS, error, seconds=1)
        case StorageBusy():
            return _later(HTTPStatus.SERVICE_UNAVAILABLE, error, seconds=5)
        case StorageFull():
            return _later(HTTPStatus.INSUFFICIENT_STORAGE, error, seconds=30)
        case NotAccepted():
            return _later(HTTPStatus.SERVICE_UNAVAILABLE, error, seconds=5)
        case OutcomeUnknown():
            detail = f"it is not known whether this was accepted: {error}"
            return problem(HTTPStatus.INTERNAL_SERVER_ERROR, detail)
        case _:
            return problem(HTTPStatus.INTERNAL_SERVER_ERROR, str(error))


def _later(status: HTTPStatus, error: PenstockError, seconds: int) -> Response:
    response = problem(status, str(error))
    response.headers["Retry-After"] = str(seconds)
    return response
