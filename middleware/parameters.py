"""Checking the parameters that a configuration gives to a class against its ``Params`` model."""

from __future__ import annotations

import re
import sys
from collections.abc import Mapping
from typing import Annotated, Any, Final

from pydantic import BaseModel, BeforeValidator, Field, ValidationError, WithJsonSchema

from middleware.errors import FAULTS, ConfigurationError, in_words
from middleware.wording import problem, told, unknown

DURATION: Final = r"^([0-9]+(?:\.[0-9]+)?)([smhd])$"

_LARGEST: Final = sys.float_info.max
_SECONDS: Final = {"s": 1, "m": 60, "h": 3_600, "d": 86_400}


def seconds(value: Any, *, least: float = 0, most: float = _LARGEST, other: str = "") -> float:
    """Return a duration in seconds; a number is seconds, text has a unit; raises ValueError."""
    number = value
    if isinstance(value, str) and (match := re.fullmatch(DURATION, value)):
        number = float(match[1]) * _SECONDS[match[2]]
    if type(number) not in {int, float} or not least <= number <= most:
        limit = "" if most == _LARGEST else f" (to {most / 86_400:.0f}d)"
        raise ValueError(
            f'expected seconds, or text such as "30s", "5m", "12h", "1d"{limit}{other}'
        )
    return float(number)


def _signed(value: Any) -> float:
    return seconds(value, least=-_LARGEST)  # the bound below says what is expected


_SCHEMA = WithJsonSchema({"type": ["number", "string"], "minimum": 0, "pattern": DURATION})

Seconds = Annotated[float, Field(ge=0), BeforeValidator(_signed), _SCHEMA]
"""A parameter that is a duration: ``300``, ``0.5`` or ``"5m"``; in code it is seconds."""

SomeSeconds = Annotated[float, Field(gt=0), BeforeValidator(_signed), _SCHEMA]
"""A duration that is not 0."""


def parse_params(owner: type[Any], params: Mapping[str, Any]) -> BaseModel:
    """Return ``params`` as a checked instance of the class's ``Params``.

    Raises ConfigurationError with a line per wrong parameter: its name and what was expected.
    """
    model: type[BaseModel] = owner.Params
    try:
        return model.model_validate(dict(params), extra="forbid")
    except ValidationError as error:
        found = told(error.errors(include_url=False), lambda _: model.model_fields)
        lines = [_line(owner, detail) for detail in found]
        raise ConfigurationError("\n".join(lines)) from None
    except FAULTS as error:  # of a validator that the class brings along
        message = f"{owner.__name__} cannot check its parameters: {in_words(error)}"
        raise ConfigurationError(message) from error


def _line(owner: type[Any], detail: Mapping[str, Any]) -> str:
    fields: dict[str, Any] = owner.Params.model_fields
    first, *below = detail["loc"] or ["all together"]
    where = str(first) + "".join(f"[{key}]" if type(key) is int else f".{key}" for key in below)
    if detail["type"] == "extra_forbidden":
        what = f"parameter of {owner.__name__}"
        return f"{where}: {unknown(what, str(first), fields, none='it takes none')}"
    if detail["type"] == "missing":
        meaning = fields[first].description if not below and first in fields else None
        return f"{where}: required, but missing" + (f": {meaning}" if meaning else "")
    hidden = first in fields and "Secret" in str(fields[first].annotation)
    return f"{where}: {problem(detail, hidden=hidden)}"
