"""Errors as ``application/problem+json`` (RFC 9457)."""

from __future__ import annotations

from http import HTTPStatus

from flask import Flask, Response, json
from werkzeug.exceptions import HTTPException

from middleware.errors import ConfigurationError
from service.errors import (
    KeyReused,
    NotAccepted,
    OutcomeUnknown,
    QueueClosed,
    QueueFull,
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

    @app.errorhandler(ConfigurationError)
    def _wrong(error: ConfigurationError) -> Response:
        return problem(HTTPStatus.UNPROCESSABLE_ENTITY, str(error))

    @app.errorhandler(QueueFull)
    def _full(error: QueueFull) -> Response:
        response = problem(HTTPStatus.TOO_MANY_REQUESTS, str(error))
        response.headers["Retry-After"] = "1"
        return response

    @app.errorhandler(StorageFull)
    def _storage_full(error: StorageFull) -> Response:
        response = problem(HTTPStatus.INSUFFICIENT_STORAGE, str(error))
        response.headers["Retry-After"] = "30"
        return response

    @app.errorhandler(KeyReused)
    def _reused(error: KeyReused) -> Response:
        return problem(HTTPStatus.UNPROCESSABLE_ENTITY, str(error))

    @app.errorhandler(QueueClosed)
    @app.errorhandler(NotAccepted)
    def _closed(error: NotAccepted) -> Response:
        response = problem(HTTPStatus.SERVICE_UNAVAILABLE, str(error))
        response.headers["Retry-After"] = "5"
        return response

    @app.errorhandler(OutcomeUnknown)
    def _unknown(error: OutcomeUnknown) -> Response:
        detail = f"it is not known whether this was accepted: {error}"
        return problem(HTTPStatus.INTERNAL_SERVER_ERROR, detail)
