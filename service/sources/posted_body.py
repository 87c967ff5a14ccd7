"""The body of a post: an object, an array or NDJSON, as lines with the events' own bytes.

It is never decoded into objects, which can take a hundred times the memory of the body.
"""

from __future__ import annotations

import re
from typing import Final

import msgspec

MOST_BAD: Final = 10_000
"""Lines of a post that may be no events: a dead letter each, which one worker has to write."""

SHORTEST: Final = 7
"""Bytes of a line on average, even if each event is the shortest one with a blank line after it."""

PIECE: Final = 2**18
"""Bytes of an array that are taken apart at once."""

TOO_MANY_BAD: Final = f"more than {MOST_BAD} lines are no events: none is accepted"

_OBJECTS: Final = re.compile(rb"\}(?=\s*,\s*\{)")
_TOKEN: Final = re.compile(rb'"(?:[^"\\]++|\\.)*+"?|[][{},]', re.DOTALL)


class BodyError(Exception):
    """Nothing in the body can be read as events; ``more`` goes into the answer."""

    def __init__(self, detail: str, **more: object) -> None:
        super().__init__(detail)
        self.more = more


def as_lines(body: bytes) -> bytes:
    """Return a body as NDJSON with the events' own bytes; raises BodyError.

    An element of an array, or a single object, that spans several lines is put on one. A body with
    more lines than events and bad lines can make up is refused before anyone looks at each.
    """
    text = body.strip()
    if not text:
        raise BodyError("the body is empty; post a JSON object, a JSON array or NDJSON")
    lines = None
    if text.startswith(b"["):
        lines = _of_array(text)
    elif b"\n" in text and not _is_json(text[: text.index(b"\n")]) and _is_json(text):
        lines = _on_one_line(text) + b"\n"
    if lines is None:  # then it is NDJSON, in which each line speaks for itself
        lines = body if body.endswith(b"\n") else body + b"\n"
    if lines.count(b"\n") > MOST_BAD + len(lines) // SHORTEST:
        raise BodyError(TOO_MANY_BAD)
    return lines


def _of_array(text: bytes) -> bytes | None:
    """Return an array's elements on a line each, None if it is no array; raises BodyError."""
    if not text.endswith(b"]"):
        return None
    pieces: list[bytes] = []
    bad = 0
    start = 1
    while start < len(text):
        elements, start = _piece(text, start)
        if elements is None:
            return None
        if not elements:  # it is empty, or there is nothing between two commas
            return None if pieces or start < len(text) else b"\n"
        lines = b"\n".join(elements) + b"\n"
        bad += len(elements) - lines.startswith(b"{") - lines.count(b"\n{")
        if bad > MOST_BAD:
            raise BodyError(TOO_MANY_BAD)
        pieces.append(lines)
    return b"".join(pieces)


def _piece(text: bytes, start: int) -> tuple[list[bytes] | None, int]:
    """Return some of the elements, from ``start`` on, and where the others begin.

    Where one object ends and another one begins is mostly the end of an element. Where it is not,
    what comes before is no list of elements, and their end is looked for token by token.
    """
    guess = _OBJECTS.search(text, start + PIECE)
    if guess is not None:
        stop = text.index(b",", guess.end())
        elements = _elements(text[start:stop])
        if elements is not None:
            return elements, stop + 1
    stop = _end_of_piece(text, start)
    return _elements(text[start:stop]), stop + 1


def _end_of_piece(text: bytes, start: int) -> int:
    """Return the place of the comma after a piece of elements, or of the array's last byte."""
    if start + PIECE < len(text):
        depth = 0
        for token in _TOKEN.finditer(text, start):
            place = token.start()
            byte = text[place : place + 1]
            if byte == b"," and not depth and place >= start + PIECE:
                return place
            depth += (byte in {b"[", b"{"}) - (byte in {b"]", b"}"})
    return len(text) - 1


def _elements(inside: bytes) -> list[bytes] | None:
    """Return the elements of an array, each on one line, by what stands between its brackets."""
    try:
        found = msgspec.json.decode(b"[" + inside + b"]", type=list[msgspec.Raw])
    except (msgspec.DecodeError, RecursionError):
        return None
    elements = list(map(bytes, found))
    return list(map(_on_one_line, elements)) if b"\n" in inside else elements


def _on_one_line(text: bytes) -> bytes:
    return msgspec.json.format(text, indent=-1) if b"\n" in text else text


def _is_json(text: bytes) -> bool:
    # As raw bytes, since of texts that are no UTF-8 a reader would raise something else.
    try:
        msgspec.json.decode(text, type=msgspec.Raw)
    except (msgspec.DecodeError, RecursionError):
        return False
    return True
