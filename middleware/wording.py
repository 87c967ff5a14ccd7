"""What messages about a configuration have in common: expected, got, did you mean.

A value is only shown where it cannot be a secret, and never so that it steers a terminal.
"""

from __future__ import annotations

import json
import re
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from datetime import date, time
from difflib import get_close_matches
from typing import Any, Final

LONGEST: Final = 60
"""Characters of a value that a message shows."""

_SECRET_NAME: Final = re.compile(r"pass|pwd|secret|token|credential|url|dsn", re.IGNORECASE)
_SECRET_TEXT: Final = re.compile(r"(?!https?://[\w.-]+(:\d+)?/?$).*(://|@)", re.DOTALL)

_EXPECTED: Final = {
    "bool_parsing": "true or false",
    "bool_type": "true or false",
    "dict_type": "a table",
    "enum": "{expected}",
    "finite_number": "a finite number",
    "float_parsing": "a number",
    "float_type": "a number",
    "frozen_set_type": "a list, such as [1, 2]",
    "greater_than": "more than {gt}",
    "greater_than_equal": "{ge} or more",
    "int_from_float": "a whole number",
    "int_parsing": "a whole number",
    "int_type": "a whole number",
    "less_than": "less than {lt}",
    "less_than_equal": "{le} or less",
    "list_type": 'a list, such as ["a", "b"]',
    "literal_error": "{expected}",
    "model_type": "a table",
    "path_type": "a path",
    "set_type": "a list, such as [1, 2]",
    "string_pattern_mismatch": "text that matches {pattern}",
    "string_too_long": "at most {max_length} characters",
    "string_too_short": "text that is not empty",
    "string_type": "text",
    "too_long": "at most {max_length} of them",
    "too_short": "at least {min_length} of them",
    "tuple_type": 'a list, such as ["a", "b"]',
}


def problem(
    detail: Mapping[str, Any], *, hidden: bool = False, wording: Mapping[str, str] | None = None
) -> str:
    """Say what pydantic expected and got; ``wording`` is its kinds of errors in other words.

    ``hidden`` keeps the value out of the message, as does a name such as "password" or "url".
    """
    context = detail.get("ctx", {})
    value = context.get("got", detail["input"])
    if written := {**_EXPECTED, **(wording or {})}.get(detail["type"]):
        limits = {name: _number(limit) for name, limit in context.items()}
        expected = "expected " + written.format(**limits).replace("'", '"')
        value = _number(value) if limits.keys() & {"gt", "ge", "lt", "le"} else value
    else:
        expected = detail["msg"].removeprefix("Value error, ").removeprefix("Assertion failed, ")
        expected = re.sub("^Input should be ", "expected ", expected)
    # Beside the whole of the parameters there is nothing to show.
    if not detail["loc"] or hidden or any(_SECRET_NAME.search(str(key)) for key in detail["loc"]):
        return expected
    return f"{expected} (got {shown(value)})"


def shown(value: Any) -> str:
    """Return a value as a message may show it: short, printable, and without what it contains."""
    match value:
        case Mapping():
            return "a table"
        case list() | tuple() | set() | frozenset():
            return "a list" if value else "an empty list"
        case date() | time():
            return f"the TOML date or time {value.isoformat()}"
        case str() if _SECRET_TEXT.match(value):
            return "text that may hold a password, so it is not shown"
    text = json.dumps(value, ensure_ascii=False, default=repr)
    text = {"NaN": "nan", "Infinity": "inf", "-Infinity": "-inf", "null": "nothing"}.get(text, text)
    return printable(text if len(text) <= LONGEST else f"{text[:LONGEST]}...")


def told(details: Sequence[Any], fields: Callable[[Any], Iterable[str]]) -> Iterator[Any]:
    """Yield what pydantic found, less what is missing since it was misspelt.

    ``fields`` returns the names that are known beside a place.
    """
    meant = {
        (*place[:-1], nearest(str(place[-1]), fields(place)))
        for place in (detail["loc"] for detail in details if detail["type"] == "extra_forbidden")
    }
    yield from (
        detail
        for detail in details
        if detail["type"] not in {"missing", "too_short"} or detail["loc"] not in meant
    )


def unknown(what: str, name: str, known: Iterable[str], none: str = "there are none") -> str:
    """Say that a name is unknown, which one may be meant, and which there are."""
    known = list(known)
    guess = nearest(name, known)
    meant = f'; did you mean "{guess}"?' if guess else ""
    return f"unknown {what}{meant} (known: {', '.join(known) or none})"


def nearest(name: str, known: Iterable[str]) -> str | None:
    """Return the known name that may be meant by another one, if there is one."""
    by_lower = {each.lower(): each for each in known}
    found = get_close_matches(name.lower(), by_lower, 1, 0.6)
    return by_lower[found[0]] if found else None


def writable(value: Any) -> Any:
    """Return text that UTF-8 can hold: what is no character is spelt out."""
    return value.encode(errors="backslashreplace").decode() if isinstance(value, str) else value


def printable(text: str, keep: str = "") -> str:
    """Spell out what steers a terminal: control characters, and those that turn the direction.

    Line ends are among them; ``keep`` names those characters that stay.
    """
    return "".join(
        each if each.isprintable() or each in keep else ascii(each)[1:-1] for each in text
    )


def _number(value: Any) -> Any:
    whole = isinstance(value, float) and value.is_integer() and abs(value) < 10**15
    return int(value) if whole else value
