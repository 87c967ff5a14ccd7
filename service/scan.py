"""Scans a block's bytes before any JSON is read: where its lines end, how deeply they nest.

NumPy compares many bytes in one step, but takes a step for each byte whose place it returns. So
whatever can be said of eight bytes together, or of a thousand, is asked of them first.
"""

from __future__ import annotations

import re
from typing import Final

import numpy as np
from numpy.typing import NDArray

Bytes = NDArray[np.uint8]
Integers = NDArray[np.int64]

NESTING: Final = 100
"""Levels of objects and lists in an event: far fewer than any reader, or pickle, can follow."""

LEAST_BYTES: Final = 2**15
"""In a block of less than this, words are not worth their fixed cost."""

(_OPEN,) = b"{"
_BIT: Final = np.uint8(32)
"""Without it "{" is "["."""

_WORD: Final = 8  # bytes
_PIECE: Final = 128  # words, fewer than a byte can count
_ESCAPED = re.compile(rb"\\.", re.DOTALL)
_NO_BRACKETS: Final = bytes(set(range(256)) - set(b"[]{}"))
_CLOSES: Final = np.uint8(4)
"""A bit that "]" and "}" have, and "[" and "{" have not."""


def places(view: Bytes, byte: int) -> Integers:
    """Return all places of ``byte``, int64[places], in ``view``, uint8[bytes]."""
    if len(view) < LEAST_BYTES:
        return np.flatnonzero(view == byte)
    words = _found(view, byte, _WORD).view("<u8")
    holding = np.flatnonzero(words != 0)
    words = words[holding]
    below = words - 1  # all bits below the lowest one set
    if (words & below).any():  # two places in one word
        return np.flatnonzero(view == byte)
    found: Integers = holding * _WORD + (np.bitwise_count(below) >> 3)
    return found


def is_flat(view: Bytes, starts: Integers, stops: Integers) -> bool:
    """Say whether no line is nested too deeply; of one that is no JSON it may say so wrongly.

    ``view`` is uint8[bytes]; ``starts`` and ``stops`` are int64[lines], the places of its lines,
    each of which begins with "{".
    """
    longest = int((stops - starts).max(initial=0))
    if longest <= 2 * NESTING:
        return True  # what is opened must be closed again
    if len(view) < LEAST_BYTES:
        brackets = np.bitwise_or(view, _BIT) == _OPEN
        if np.count_nonzero(brackets) < len(stops) + NESTING:
            return True  # each line has one, and no line has NESTING more
    size = _PIECE * _WORD
    brackets = _found(np.bitwise_or(view, _BIT), _OPEN, size)
    # Each byte of a piece's sum counts the brackets in one byte of its words.
    sums = brackets.view(np.uint64).reshape(-1, _PIECE).sum(axis=1)
    counted = np.zeros(len(sums) + 1, np.int64)
    sums.view(np.uint8).reshape(-1, _WORD).sum(axis=1, dtype=np.int64).cumsum(out=counted[1:])
    touched = min(longest // size + 2, len(sums))  # pieces, by any one line
    if (counted[touched:] - counted[:-touched]).max() <= NESTING:
        return True
    opened = np.flatnonzero(brackets)
    row = np.searchsorted(stops, opened)
    suspects = np.unique(row[NESTING:][row[NESTING:] == row[:-NESTING]]).tolist()
    return all(depth(view[starts[each] : stops[each]].tobytes()) <= NESTING for each in suspects)


def depth(line: bytes) -> int:
    """Return how many levels of objects and lists a line has, or 0 if it cannot be too many.

    Of a line that is no JSON the number means nothing.
    """
    if line.count(b"{") + line.count(b"[") <= NESTING:
        return 0  # not worth counting
    if b"\\" in line:
        line = _ESCAPED.sub(b"", line)
    outside = b"".join(line.split(b'"')[::2])  # of all texts
    brackets = np.frombuffer(outside.translate(None, _NO_BRACKETS), np.uint8)
    steps = np.where(brackets & _CLOSES, -1, 1)
    return int(steps.cumsum().max(initial=0))


def _found(view: Bytes, byte: int, unit: int) -> NDArray[np.bool_]:
    """Return where ``byte`` is, filled up with False to a multiple of ``unit`` bytes."""
    found = np.empty(-(-len(view) // unit) * unit, np.bool_)
    found[len(view) :] = False
    np.equal(view, byte, out=found[: len(view)])
    return found
