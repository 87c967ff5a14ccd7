"""What is wrong with a line, in the words of whoever wrote it."""

from __future__ import annotations

import codecs
from itertools import islice
from typing import Any, Final

import msgspec

from middleware.contract import CID_RANGE
from service.settings import EventSettings

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

_ONE_A_LINE: Final = "each event is one JSON object on a line of its own"


def reason(line: bytes, error: Exception, settings: EventSettings) -> str:
    """Say in the producer's words why a line could not be decoded."""
    if isinstance(error, RecursionError):
        return "nested too deeply"
    try:
        event = msgspec.json.decode(line)
    except (msgspec.DecodeError, RecursionError) as malformed:
        if "out of range" in str(error):
            return f'"{settings.time}" is not finite, or another number is out of range'
        return _no_json(line, malformed)
    if not isinstance(event, dict):
        return f"not a JSON object; {_ONE_A_LINE}"
    for name in (settings.cid, settings.time):
        if name not in event:
            return _no_field(name, "cid" if name == settings.cid else "time", event)
    cid = event[settings.cid]
    if type(cid) is int and not CID_RANGE[0] <= cid <= CID_RANGE[1]:
        return f'"{settings.cid}" does not fit 64 bits'
    # Of two equal keys the first may be the wrong one: the path in the error tells.
    if type(cid) is not int or f"`$.{settings.cid}`" in str(error):
        return f'"{settings.cid}" is not an integer'
    if settings.time_format == "rfc3339":
        return f'"{settings.time}" is not an RFC 3339 time with its offset from UTC'
    return f'"{settings.time}" is not a number'


def other_kind(line: bytes) -> str:
    """Say of what other kind a line that is no text seems to be; empty if that cannot be told."""
    return next((what for head, what in _OTHERS.items() if line.startswith(head)), "")


def _no_field(name: str, setting: str, event: dict[str, Any]) -> str:
    """Say which field is not there, and which ones are, as one of them may be it."""
    fields = ", ".join(f'"{each[:40]}"' for each in islice(event, FIELDS_NAMED))
    more = ", ..." if len(event) > FIELDS_NAMED else ""
    there = f" (it has {fields}{more}; [event] {setting} names the field)" if fields else ""
    return f'no "{name}"{there}'


def _no_json(line: bytes, error: Exception) -> str:
    """Say what makes a line no JSON, and what may be meant."""
    if line.startswith(b"\xef\xbb\xbf"):
        return "not JSON: it begins with a byte order mark; save the file without"
    if b"\0" in line[:4]:
        return f"not JSON: {_UTF_16}"
    return f"not JSON: {str(error).removeprefix('JSON is malformed: ')}; {_ONE_A_LINE}"


def ahead(moment: float, limit: float) -> str:
    """Say how far a time is too far ahead, and which unit it may be in."""
    text = f"{moment - limit:.0f} s further ahead than max_future allows"
    for factor, unit in _UNITS.items():
        if LIKELY <= moment / factor <= limit:
            return f"{text}: it looks like {unit}, and is read as seconds"
    return text
