"""What is wrong with a line, in the words of whoever wrote it."""

from __future__ import annotations

import codecs
from itertools import islice
from typing import Any, Final

LIKELY: Final = 1e8
"""Seconds since the epoch, in 1973: few events are older."""

FIELDS_NAMED: Final = 5
"""Fields of an event without a point that a reason names."""

_UNITS: Final = {1e3: "milliseconds", 1e6: "microseconds", 1e9: "nanoseconds"}
_UTF_16: Final = "it looks like UTF-16, save it as UTF-8"
_OTHERS: Final = {
    b"\x1f\x8b": ": it is compressed, unpack it first",
    codecs.BOM_UTF16_LE: f": {_UTF_16}",
    codecs.BOM_UTF16_BE: f": {_UTF_16}",
}
"""How a line begins that is of another kind, and what to say of it."""

ONE_A_LINE: Final = "each event is one JSON object on a line of its own"


def other_kind(line: bytes) -> str:
    """Say of what other kind a line that is no text seems to be; empty if that cannot be told."""
    return next((what for head, what in _OTHERS.items() if line.startswith(head)), "")


def no_field(name: str, setting: str, event: dict[str, Any]) -> str:
    """Say which field is not there, and which ones are, as one of them may be it."""
    fields = ", ".join(f'"{each[:40]}"' for each in islice(event, FIELDS_NAMED))
    more = ", ..." if len(event) > FIELDS_NAMED else ""
    there = f" (it has {fields}{more}; [event] {setting} names the field)" if fields else ""
    return f'no "{name}"{there}'


def no_json(line: bytes, error: Exception) -> str:
    """Say what makes a line no JSON, and what may be meant."""
    if line.startswith(b"\xef\xbb\xbf"):
        return "not JSON: it begins with a byte order mark; save the file without"
    if b"\0" in line[:4]:
        return f"not JSON: {_UTF_16}"
    return f"not JSON: {str(error).removeprefix('JSON is malformed: ')}; {ONE_A_LINE}"


def ahead(moment: float, limit: float) -> str:
    """Say how far a time is too far ahead, and which unit it may be in."""
    text = f"{moment - limit:.0f} s further ahead than max_future allows"
    for factor, unit in _UNITS.items():
        if LIKELY <= moment / factor <= limit:
            return f"{text}: it looks like {unit}, and is read as seconds"
    return text
