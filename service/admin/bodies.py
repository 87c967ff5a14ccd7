"""What a request says, checked: its JSON body, or the part of its address after "?"."""

from __future__ import annotations

from http import HTTPStatus
from typing import Any

from flask import Blueprint, Response, request
from pydantic import ValidationError
from werkzeug.exceptions import BadRequest, UnsupportedMediaType

from service.admin.problems import problem


def read_body() -> Any:
    """Return the JSON body; raises UnsupportedMediaType, BadRequest."""
    try:
        return request.get_json()
    except UnsupportedMediaType:
        raise  # asked for on purpose: no web page elsewhere can make a browser send it here
    except BadRequest as error:
        raise BadRequest(f"the body is not JSON: {error.__cause__ or 'it is malformed'}") from error


def handle_invalid(blueprint: Blueprint) -> None:
    """Answer what a model does not take with a line for each of its fields."""

    @blueprint.errorhandler(ValidationError)
    def _invalid(error: ValidationError) -> Response:
        details = error.errors(include_url=False, include_input=False, include_context=False)
        lines = [_line(each) for each in details]
        return problem(HTTPStatus.UNPROCESSABLE_ENTITY, "\n".join(lines))


def _line(error: Any) -> str:
    if not error["loc"]:
        if error["type"] == "value_error":
            return str(error["msg"]).removeprefix("Value error, ")
        return "the body: expected a JSON object"
    return f"{'.'.join(map(str, error['loc']))}: {error['msg'].removeprefix('Value error, ')}"
