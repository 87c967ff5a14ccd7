"""Whether the daemon is alive, and ready: answered even while it is busy with all else."""

from __future__ import annotations

from collections.abc import Callable
from functools import partial
from http import HTTPStatus

from flask import Response, json

from service.admin.problems import problem
from service.operation import Operation
from service.sources.mount import Answer, Mount, Request


def health_mounts(operation: Operation) -> dict[str, Mount]:
    """Return what answers ``/livez`` and ``/readyz``."""
    return {
        "/livez": partial(_answer, lambda: _said("alive")),
        "/readyz": partial(_answer, lambda: _ready(operation)),
    }


def _answer(look: Callable[[], Response], request: Request) -> Answer:
    if request.method not in {"GET", "HEAD"}:
        refused = problem(HTTPStatus.METHOD_NOT_ALLOWED, "this can only be read")
        refused.headers["Allow"] = "GET, HEAD"
        return Answer.of(refused)
    return Answer.of(look())


def _ready(operation: Operation) -> Response:
    if operation.ready:
        return _said("ready")
    return problem(HTTPStatus.SERVICE_UNAVAILABLE, operation.why_not_ready)


def _said(status: str) -> Response:
    return Response(json.dumps({"status": status}) + "\n", content_type="application/json")
