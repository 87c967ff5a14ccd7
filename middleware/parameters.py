"""Checking the parameters that a configuration gives to a class against its ``Params`` model."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from pydantic import BaseModel, ValidationError

from middleware.errors import ConfigurationError


def parse_params(owner: type[Any], params: Mapping[str, Any]) -> BaseModel:
    """Return ``params`` as a checked instance of the class's ``Params``.

    Raises ConfigurationError with a line per wrong parameter: its name and what was expected.
    """
    model: type[BaseModel] = owner.Params
    try:
        return model.model_validate(dict(params), extra="forbid")
    except ValidationError as error:
        lines = [_line(owner, detail) for detail in error.errors(include_url=False)]
        raise ConfigurationError("\n".join(lines)) from None
    except Exception as error:  # of a validator that the class brings along
        message = f"{owner.__name__} cannot check its parameters: {type(error).__name__}: {error}"
        raise ConfigurationError(message) from error


def _line(owner: type[Any], detail: Mapping[str, Any]) -> str:
    name = owner.__name__
    where = ".".join(map(str, detail["loc"])) or "all together"
    if detail["type"] == "extra_forbidden":
        known = ", ".join(owner.Params.model_fields) or "it takes none"
        return f"{where}: unknown parameter of {name} (known: {known})"
    if detail["type"] == "missing":
        return f"{where}: required parameter of {name} is missing"
    return f"{where}: {detail['msg']} (got {detail['input']!r})"
