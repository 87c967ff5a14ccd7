"""Errors as ``application/problem+json`` (RFC 9457)."""

from __future__ import annotations

from http import HTTPStatus

from flask import Flask, Response, json
from werkzeug.exceptions import HTTPException

from middleware.errors import ConfigurationError, PenstockError
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


def handle_problems(app: Flask) -> None:
    """Answer every error of the app as a problem document."""

    @app.errorhandler(HTTPException)
    def _http(error: HTTPException) -> Response:
        response = problem(HTTPStatus(error.code or 500), error.description or "")
        for name, value in error.get_headers():
            if name.lower() == "allow":
                response.headers[name] = value
        return response

    @app.errorhandler(PenstockError)
    def _penstock(error: PenstockError) -> Response:
        return problem_of(error)


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
