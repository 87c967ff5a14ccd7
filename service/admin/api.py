"""The operators' API: look at the middleware, switch them, see what became of the events."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import asdict
from http import HTTPStatus
from typing import Any

from flask import Blueprint, Flask, Response, jsonify
from pydantic import BaseModel, ConfigDict

from service.admin.bodies import Reason, handle_invalid, read_body
from service.admin.problems import handle_problems, problem
from service.chain import Mode
from service.operation import Operation


class Switch(BaseModel):
    """What a PATCH of a middleware may say."""

    model_config = ConfigDict(extra="forbid")

    mode: Mode | None = None
    params: dict[str, Any] | None = None
    reason: Reason = ""


class Reset(BaseModel):
    """What a reset may say."""

    model_config = ConfigDict(extra="forbid")

    reason: Reason = ""


def make_app(operation: Operation, mounts: Iterable[str] = ()) -> Flask:
    """Return the Flask app that serves the API for a running daemon, beside its ``mounts``."""
    app = Flask("penstock", static_folder=None)
    app.json.sort_keys = False  # type: ignore[attr-defined]  # of the default provider
    app.url_map.merge_slashes = False  # an address has one spelling; others are not found
    app.config["MAX_CONTENT_LENGTH"] = operation.settings.http.max_body
    handle_problems(app, mounts)
    app.register_blueprint(_api(operation), url_prefix="/api/v1")
    return app


def _api(operation: Operation) -> Blueprint:
    api = Blueprint("api", __name__)

    @api.errorhandler(KeyError)
    def _unknown(error: KeyError) -> Response:
        known = ", ".join(each["name"] for each in operation.middleware()) or "none"
        detail = f"there is no middleware called {error.args[0]!r} (there are: {known})"
        return problem(HTTPStatus.NOT_FOUND, detail)

    handle_invalid(api, Switch, Reset)

    @api.get("/middleware")
    def list_middleware() -> Response:
        return jsonify(operation.middleware())

    @api.get("/middleware/<name>")
    def show(name: str) -> Response:
        return jsonify(operation.describe(name))

    @api.patch("/middleware/<name>")
    def switch(name: str) -> Response:
        operation.describe(name)
        wanted = Switch.model_validate(read_body())
        if wanted.mode is None and wanted.params is None:
            return problem(HTTPStatus.UNPROCESSABLE_ENTITY, "give a mode, params or both")
        return jsonify(
            operation.switch(name, wanted.reason, mode=wanted.mode, params=wanted.params)
        )

    @api.post("/middleware/<name>/reset")
    def reset(name: str) -> Response:
        operation.describe(name)
        reason = Reset.model_validate(read_body()).reason
        return jsonify(operation.switch(name, reason, reset=True))

    @api.get("/stats")
    def stats() -> Response:
        return jsonify(asdict(operation.statistics()))

    return api
