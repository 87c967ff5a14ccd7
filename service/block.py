"""Blocks of events, the unit of transport, and offsets, the places of events in the total order."""

from __future__ import annotations

import os
import time
import zlib
from dataclasses import dataclass
from typing import Final, NamedTuple

from service.chain import ChainVersion
from service.errors import InputGone
from service.limits import LARGEST

HEAD: Final = 1024
"""The bytes at its beginning that a file is known by."""

LONGEST_NAME: Final = 255
"""Characters of what a source calls itself, and of an idempotency key."""

_LATEST: Final = 253_402_300_800
"""The end of the year 9999, in seconds since the epoch."""


class Offset(NamedTuple):
    """An event's place in the total order: its block's number and its line within the block.

    Written ``1234.17``, so that nobody must count lines before a worker has read them.
    """

    block: int
    row: int

    def __str__(self) -> str:
        return f"{self.block}.{self.row}"

    @classmethod
    def parse(cls, text: str) -> Offset:
        """Return the offset written as ``text``; raises ValueError."""
        block, _, row = text.partition(".")
        return cls(int(block), int(row))


class FileIdentity(NamedTuple):
    """What a file is known by, when another one may bear its name: how it begins, and its inode."""

    inode: int
    head: int
    """The bytes at its beginning that ``crc`` is of."""
    crc: int

    @classmethod
    def of(cls, descriptor: int, head: int = HEAD) -> FileIdentity:
        """Return the identity of an open file, by ``head`` bytes or as many as there are."""
        data = os.pread(descriptor, head, 0)
        return cls(os.fstat(descriptor).st_ino, len(data), zlib.crc32(data))

    def begins_alike(self, descriptor: int) -> bool:
        """Say whether an open file begins as this one did."""
        return FileIdentity.of(descriptor, self.head)[1:] == self[1:]


class FileRange(NamedTuple):
    """Bytes of a file that stays where it is: a block by reference instead of by copy."""

    path: str
    start: int
    stop: int
    identity: FileIdentity | None = None
    """Of which file; None where an earlier version did not remember it."""

    def read(self) -> bytes:
        """Return the bytes, always ending in a line end.

        Raises InputGone when the file no longer holds them: an input must not change until its
        events are emitted.
        """
        wanted = self.stop - self.start
        try:
            descriptor = os.open(self.path, os.O_RDONLY)
            try:
                same = self.identity is None or self.identity.begins_alike(descriptor)
                data = os.pread(descriptor, wanted, self.start) if same else b""
            finally:
                os.close(descriptor)
        except OSError as error:
            message = (
                f"{self.path}: cannot be read any more: {error.strerror} "
                f"(bytes {self.start} to {self.stop})"
            )
            raise InputGone(message) from error
        if len(data) != wanted:
            message = (
                f"{self.path}: bytes {self.start} to {self.stop} are gone; "
                "an input must not be cut or replaced before its events are emitted"
            )
            raise InputGone(message)
        return data if data.endswith(b"\n") else data + b"\n"


@dataclass(frozen=True, slots=True)
class Submission:
    """Lines that a source offers, all together, to the queue.

    ``payload`` is NDJSON, every line ended by a line end, or a reference to such lines;
    ``lines`` is their number, None where only a worker will know: of a reference; ``first_line`` is
    the number of the first one as the producer counts, None where the emitter counts along a file.

    To make one that is anything else raises TypeError or ValueError: what is accepted is written
    to the journal, and must be read again.
    """

    source: str
    payload: bytes | FileRange
    lines: int | None
    first_line: int | None
    received: float
    """When it was received, seconds since the epoch; ``max_future`` is measured from here."""
    key: str | None = None
    """The producer's idempotency key: lines that come again under it are not accepted again."""
    patient: bool = True
    """Its source waits as long as the disk is full; otherwise it is told so, and comes again."""
    counted: bool = False
    """Whoever made it has counted its lines; otherwise that is done here."""

    def __post_init__(self) -> None:
        _check_text("source", self.source)
        if not self.source.isprintable():
            raise ValueError(f"source: {self.source!r} has characters that cannot be printed")
        if self.key is not None:
            _check_text("key", self.key)
        payload, lines, first = self.payload, self.lines, self.first_line
        if type(payload) is bytes:
            if type(lines) is not int or not (
                payload.endswith(b"\n")
                and len(payload) <= LARGEST
                and 0 < lines <= len(payload)
                and (self.counted or payload.count(b"\n") == lines)
            ):
                _refuse_payload(payload, lines)
        elif lines is not None or not _is_range(payload):
            raise TypeError("payload: expected bytes with their lines counted, or a FileRange")
        if first is not None and (type(first) is not int or not 0 <= first < 2**63):
            raise ValueError(f"first_line: {first!r} is no line number")
        if not isinstance(self.received, float | int) or not 0 <= self.received < _LATEST:
            raise ValueError(f"received: {self.received!r} is no time in seconds since the epoch")

    @property
    def size(self) -> int:
        """The bytes of the payload, or those that the reference stands for."""
        return size_of(self.payload)

    @classmethod
    def of_lines(
        cls,
        source: str,
        payload: bytes | bytearray | memoryview,
        first_line: int = 1,
        *,
        key: str | None = None,
        patient: bool = True,
    ) -> Submission:
        """Return a submission of complete lines, received now; raises TypeError, ValueError."""
        if not isinstance(payload, bytes | bytearray | memoryview):
            raise TypeError(f"lines: expected bytes, not {type(payload).__name__}")
        data = bytes(payload)
        if not data.endswith(b"\n"):
            data += b"\n"
        now = time.time()
        return cls(source, data, data.count(b"\n"), first_line, now, key, patient, counted=True)


@dataclass(frozen=True, slots=True)
class Receipt:
    """Where accepted lines are: ``lines`` rows of a block from ``first`` on (None: not counted).

    ``repeated``: they came again under their idempotency key; this is where they were put then,
    ``received`` when.
    """

    first: Offset
    lines: int | None
    received: float
    repeated: bool = False


@dataclass(frozen=True, slots=True)
class Part:
    """The lines of a block that came together, from one source at one moment."""

    source: str
    lines: int | None
    first_line: int | None
    received: float


@dataclass(frozen=True, slots=True)
class Block:
    """Consecutive accepted lines, in their place in the total order; never changes.

    ``chain`` holds from this block's first event on, for all workers. At a ``barrier`` every shared
    middleware takes a snapshot right after this block.
    """

    number: int
    payload: bytes | FileRange
    parts: tuple[Part, ...]
    chain: ChainVersion
    barrier: bool
    sequence: int = 0
    """Its entry in the journal."""

    @property
    def size(self) -> int:
        """The bytes of the payload, or those that the reference stands for."""
        return size_of(self.payload)

    @property
    def held(self) -> int:
        """The bytes of the payload that are in memory: none where it is a reference."""
        return 0 if isinstance(self.payload, FileRange) else len(self.payload)

    @property
    def lines(self) -> int | None:
        """The number of lines, None where only a worker will know."""
        counted = [part.lines for part in self.parts]
        return None if None in counted else sum(lines or 0 for lines in counted)

    def read(self) -> bytes:
        """Return the lines."""
        return self.payload.read() if isinstance(self.payload, FileRange) else self.payload


def size_of(payload: bytes | FileRange) -> int:
    """Return the bytes of a payload, or those that a reference stands for."""
    if isinstance(payload, FileRange):
        return payload.stop - payload.start
    return len(payload)


def _check_text(what: str, text: object) -> None:
    if type(text) is not str:
        raise TypeError(f"{what}: expected text, not {type(text).__name__}")
    if not 0 < len(text) <= LONGEST_NAME:
        raise ValueError(f"{what}: expected 1 to {LONGEST_NAME} characters, not {len(text)}")
    if not _is_utf8(text):
        raise ValueError(f"{what}: {text!r} is no text that UTF-8 can hold")


def _is_utf8(text: str) -> bool:
    return text.isascii() or text.encode(errors="replace").decode() == text


def _refuse_payload(payload: bytes, lines: object) -> None:
    if len(payload) > LARGEST:
        raise ValueError(f"payload: more than {LARGEST} bytes; hand them in in several pieces")
    if not payload.endswith(b"\n"):
        raise ValueError("payload: its last line has no line end")
    raise ValueError(f"lines: {lines!r} is not the number of lines of the payload")


def _is_range(payload: object) -> bool:
    return (
        isinstance(payload, FileRange)
        and type(payload.path) is str
        and type(payload.start) is type(payload.stop) is int
        and 0 <= payload.start < payload.stop < 2**63
        and _is_utf8(payload.path)
    )


def together(submissions: list[Submission]) -> bytes | FileRange:
    """Return what the submissions of one block hold."""
    if len(submissions) == 1:
        return submissions[0].payload
    return b"".join(each.payload for each in submissions if isinstance(each.payload, bytes))
