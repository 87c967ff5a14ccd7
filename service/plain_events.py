"""Plain events: a point and a time, compactly written, read as columns without an object each.

``{"cid":123456,"time":1700000000.123}``, in either order of the two, or with the one space that
Python writes after ":" and ",". All lines of a block are read together, eight digits in three
multiplications, as simdjson and fast_float do it (Langdale and Lemire 2019, Lemire 2021).

Invariants:

- Every byte of every line is accounted for: it is a digit of one of the two numbers, the sign of
  the point, the decimal point of the time, or what stands there in every line. A block with any
  other byte, or a time whose nearest float64 is in doubt, is not read here at all.
- A time is the float64 nearest to the number written, as with every correct reader.
"""

from __future__ import annotations

import re
from itertools import pairwise
from typing import ClassVar, Final, NamedTuple

import msgspec
import numpy as np
from numpy.typing import NDArray

from service.scan import places
from service.settings import EventSettings

Bytes = NDArray[np.uint8]
Integers = NDArray[np.int64]
Times = NDArray[np.float64]
Words = NDArray[np.uint64]
"""Eight characters each, the first one in the lowest byte."""

MOST_DIGITS: Final = 19
"""As many as always fit 64 bits."""

MOST_DECIMALS: Final = 7
"""So a decimal point is always among a number's last eight characters."""

LONGEST_TEXT: Final = 40
"""Bytes that may stand between two numbers."""

_WORD: Final = 8  # characters
_MARGIN: Final = 64  # bytes before the payload, read in one piece with its first number
_COMMA, _MINUS, _ZERO, _POINT = b",-0."
_LARGEST_CID: Final = np.uint64(2**63 - 1)
_EXACT: Final = np.uint64(2**53)
"""Below it every whole number is a float64."""
_POWERS: Final = 10 ** np.arange(MOST_DIGITS, dtype=np.uint64)
_FLOAT_POWERS: Final = _POWERS.astype(np.float64)
_CID = rb"-?(?:0|[1-9][0-9]*)"
_TIME = rb"(?:0|[1-9][0-9]*)(?:\.[0-9]{1,%d})?" % MOST_DECIMALS


def _each(byte: int) -> np.uint64:
    """Return a word of eight equal bytes."""
    return np.uint64(int.from_bytes(bytes([byte]) * 8, "little"))


_ZEROS, _ONES, _HIGHEST_BITS = _each(_ZERO), _each(1), _each(0x80)
_POINTS = _each(_POINT ^ _ZERO)
_NOTHING: Final = np.zeros(1, np.uint64)
_TEN_OVERFLOWS = _each(0x80 - 10)
"""Added to a byte of ten or more, it sets the highest bit."""
_EACH_OTHER_PAIR = np.uint64(0xFF << 32 | 0xFF)
_ODD_PLACES = np.uint64(1_000_000 << 32 | 100)
_EVEN_PLACES = np.uint64(10_000 << 32 | 1)


class _Shape(NamedTuple):
    """What stands before the two numbers of every line, and whether the first is the point."""

    before: bytes
    between: bytes
    begins_with_cid: bool

    @property
    def behind(self) -> bytes:
        """What stands behind the second number, up to the first one of the next line."""
        return b"}\n" + self.before

    def begins(self, payload: bytes) -> bool:
        """Say whether the first line has this shape."""
        one, other = (_CID, _TIME) if self.begins_with_cid else (_TIME, _CID)
        line = (re.escape(self.before), one, re.escape(self.between), other)
        return re.match(b"%b%b%b%b}\n" % line, payload) is not None


class _Column(NamedTuple):
    """One number of each line: its first character, its length, and the words up to its end.

    The last word comes first. The longest number is whole in them; what they hold before a shorter
    one means nothing.
    """

    first: Bytes
    length: Integers
    words: list[Words]


class PlainEvents:
    """Reads blocks whose events have the two fields of ``[event]`` and nothing else."""

    FEW: ClassVar[int] = 2_000
    """Fewer lines than this are not read: columns are not worth their fixed cost."""

    def __init__(self, settings: EventSettings) -> None:
        """Read fields of these names, unless they are very long."""
        self._longest = settings.max_event_bytes
        cid, time = (msgspec.json.encode(name) for name in (settings.cid, settings.time))
        shapes = [
            _Shape(b"{%b:%b" % (one, space), b",%b%b:%b" % (space, other, space), one == cid)
            for space in (b"", b" ")
            for one, other in ((cid, time), (time, cid))
        ]
        texts = [text for shape in shapes for text in (shape.between, shape.behind)]
        self._shapes = shapes if max(map(len, texts)) <= LONGEST_TEXT else []

    def read(
        self, payload: bytes, view: Bytes, starts: Integers, stops: Integers
    ) -> tuple[Integers, Times] | None:
        """Return cid, int64[lines], and time, float64[lines]; None unless all lines are plain.

        ``view`` is uint8[bytes] of ``payload``; ``starts`` and ``stops`` are int64[lines], the
        places of its lines in it, without their line ends.
        """
        if len(stops) < self.FEW:
            return None
        shape = next((shape for shape in self._shapes if shape.begins(payload)), None)
        if shape is None or (stops - starts).max() > self._longest:
            return None
        commas, closes = places(view, _COMMA), stops - 1
        if len(commas) != len(stops):
            return None
        begins = starts + len(shape.before), commas + len(shape.between)
        # So each line has one of the commas, and room for a number on both sides of it.
        if (commas <= begins[0]).any() or (closes <= begins[1]).any():
            return None
        padded = bytes(_MARGIN) + payload + shape.before  # as if one more line began
        first = _column(padded, view[begins[0]], commas - begins[0], commas, shape.between)
        second = _column(padded, view[begins[1]], closes - begins[1], closes, shape.behind)
        if first is None or second is None:
            return None
        cid = _cids(first if shape.begins_with_cid else second)
        time = _times(second if shape.begins_with_cid else first)
        return None if cid is None or time is None else (cid, time)


def _column(
    padded: bytes, first: Bytes, length: Integers, ends: Integers, text: bytes
) -> _Column | None:
    """Return the numbers that end at ``ends``, None unless ``text`` stands behind each of them.

    Number and text are read in one piece: from any byte on, that costs little more than a word.
    """
    most = int(length.max())
    if most > MOST_DIGITS + 1:
        return None
    count = -(-(len(text) + most) // _WORD)
    size = _WORD * count
    shape = (len(padded) - _MARGIN + 1,)
    pieces: NDArray[np.void] = np.ndarray(shape, f"V{size}", padded, _MARGIN - size, (1,))
    words = list(pieces[ends + len(text)].view("<u8").reshape(-1, count).T[::-1])
    expected = np.frombuffer(text.rjust(size, b"\0"), "<u8")[::-1]
    asked = np.frombuffer((b"\xff" * len(text)).rjust(size, b"\0"), "<u8")[::-1]
    for word, characters, mask in zip(words, expected, asked, strict=True):
        if mask and ((word ^ characters) & mask).max():
            return None
    skipped, shift = divmod(len(text), _WORD)
    words = words[skipped:]
    return _Column(first, length, _moved_up(words, np.uint64(8 * shift)) if shift else words)


def _moved_up(words: list[Words], bits: Words | np.uint64) -> list[Words]:
    """Return the words without their last characters, filled up from the word before each.

    NumPy defines a shift by all 64 bits: it leaves nothing.
    """
    down = np.uint64(64) - bits
    return [(word << bits) | (before >> down) for word, before in pairwise([*words, _NOTHING])]


def _cids(column: _Column) -> Integers | None:
    """Return the numbers as points, None if they are not all integers of 64 bits."""
    first, length, words = column
    usual = first.min() > _ZERO  # neither a zero nor a sign
    negative = first == _MINUS
    digits = length if usual else length - negative
    numbers = _numbers(words, digits)
    if numbers is None or numbers.max() > _LARGEST_CID:
        return None
    cid = numbers.view(np.int64)
    if usual:
        return cid
    if ((digits > 1) & (numbers < _POWERS[digits - 1])).any():
        return None  # a leading zero
    return np.where(negative, -cid, cid)


def _times(column: _Column) -> Times | None:
    """Return the numbers as times, None if not all of them are plain and sure to be exact."""
    first, length, words = column
    last = _cut(words[0] ^ _ZEROS, length) ^ _POINTS
    zero_bytes = (last - _ONES) & ~last & _HIGHEST_BITS  # the lowest one is flagged exactly
    point = zero_bytes & -zero_bytes
    has_point = (point != 0).astype(np.uint64)
    behind = ~((point << 1) - has_point)  # the bytes behind the point; all where there is none
    decimals = (np.bitwise_count(behind) >> 3) & MOST_DECIMALS
    digits = length - has_point.view(np.int64)
    if point.max() >> 63:
        return None  # nothing behind the point
    if first.min() <= _ZERO:
        whole = digits - decimals
        if (whole < 1).any() or ((whole > 1) & (first == _ZERO)).any():
            return None  # nothing before the point, or a leading zero
    without_point = _moved_up(words, has_point << 3)
    without_point[0] ^= (without_point[0] ^ words[0]) & behind
    numbers = _numbers(without_point, digits)
    return None if numbers is None else _divided(numbers, decimals)


def _numbers(words: list[Words], digits: Integers) -> Words | None:
    """Return the numbers that the last ``digits`` characters are, None if any is none."""
    most = int(digits.max())
    if digits.min() < 1 or most > MOST_DIGITS:
        return None
    numbers = np.zeros(len(digits), np.uint64)
    for place in range(0, most, _WORD):
        values = _cut(words[place // _WORD] ^ _ZEROS, digits - place)
        if np.bitwise_or.reduce(values | (values + _TEN_OVERFLOWS)) & _HIGHEST_BITS:
            return None
        numbers += _eight_digits(values) * _POWERS[place]
    return numbers


def _cut(words: Words, characters: Integers) -> Words:
    """Return the words with their last ``characters`` only, and zeros before these."""
    if characters.min() >= _WORD:
        return words
    surplus = np.clip(64 - 8 * characters, 0, 64).view(np.uint64)
    return words >> surplus << surplus


def _eight_digits(values: Words) -> Words:
    """Return the numbers whose digits have these values: joined to pairs, then all four pairs."""
    pairs = values * np.uint64(10) + (values >> 8)
    odd, even = pairs & _EACH_OTHER_PAIR, (pairs >> 16) & _EACH_OTHER_PAIR
    numbers: Words = odd * _ODD_PLACES + even * _EVEN_PLACES
    return numbers >> np.uint64(32)


def _divided(numbers: Words, decimals: Bytes) -> Times | None:
    """Return numbers / 10**decimals, each rounded correctly; None if one could be wrong.

    A number below 2**53 and the power are both exact, so that their quotient is rounded once
    (Clinger 1990). For a larger one, the whole part w is exact, and the fraction f is rounded
    before w + f is. That changes nothing, since w < 2**53, and 10**decimals <= w with so few
    decimals: f is either exactly halfway between two floats of w + f's size, or further from there
    than its own rounding error, 2**-54.
    """
    times: Times = numbers / _FLOAT_POWERS.take(decimals)
    if numbers.max() < _EXACT:
        return times
    powers = _POWERS.take(decimals)
    whole, rest = np.divmod(numbers, powers)
    if whole.max() >= _EXACT:
        return None
    return np.where(numbers < _EXACT, times, whole + rest / powers)
