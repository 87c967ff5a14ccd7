"""What a request says, checked: its JSON body, or the part of its address after "?"."""

from __future__ import annotations

from http import HTTPStatus
from typing import Annotated, Any, Final

import msgspec
from flask import Blueprint, Response, request
from pydantic import BaseModel, Field, ValidationError
from werkzeug.exceptions import BadRequest, RequestEntityTooLarge, UnsupportedMediaType

from middleware.wording import printable, unknown
from middleware.wording import problem as wrong
from service.admin.problems import problem
from service.scan import NESTING, depth

LONGEST: Final = 4 * 2**20
"""Bytes of a body: what it says goes into the journal, and on to every worker."""

MOST_LINES: Final = 100
"""Fields that one answer says something about."""

Reason = Annotated[str, Field(max_length=1_000)]
"""Why an operator does something; it is kept, logged and shown."""


def read_body() -> Any:
    """Return the JSON body; raises UnsupportedMediaType, RequestEntityTooLarge, BadRequest."""
    if not request.is_json:  # no web page elsewhere can make a browser send this type here
        raise UnsupportedMediaType("send a JSON body, with Content-Type: application/json")
    body = request.get_data()
    if len(body) > LONGEST:
        raise RequestEntityTooLarge(f"the body is longer than {LONGEST} bytes: send less at once")
    if depth(body) > NESTING:
        raise BadRequest(f"the body is nested too deeply (more than {NESTING} levels)")
    try:
        document = msgspec.json.decode(body)
        msgspec.msgpack.encode(document)  # as in the journal
    except (msgspec.DecodeError, UnicodeDecodeError, RecursionError) as error:
        raise BadRequest(f"the body is not JSON: {error}") from error
    except OverflowError as error:
        raise BadRequest("a number in the body does not fit 64 bits") from error
    return document


def handle_invalid(blueprint: Blueprint, *models: type[BaseModel]) -> None:
    """Answer what one of the models does not take with a line for each of its fields."""
    fields = {model.__name__: [*model.model_fields] for model in models}

    @blueprint.errorhandler(ValidationError)
    def _invalid(error: ValidationError) -> Response:
        details = error.errors(include_url=False)
        lines = [_line(each, fields[error.title])[:500] for each in details[:MOST_LINES]]
        return problem(HTTPStatus.UNPROCESSABLE_ENTITY, "\n".join(lines))


def _line(detail: Any, known: list[str]) -> str:
    if not detail["loc"]:
        if detail["type"] == "value_error":
            return str(detail["msg"]).removeprefix("Value error, ")
        return "the body: expected a JSON object"
    where = printable(".".join(map(str, detail["loc"]))[:100])
    if detail["type"] == "extra_forbidden":
        more = '; parameters go into "params"' if "params" in known else ""
        return f"{where}: {unknown('key', where, known)}{more}"
    return f"{where}: {wrong(detail, wording=_WORDING)}"


_WORDING: Final = {"dict_type": "a JSON object", "list_type": "a list"}
