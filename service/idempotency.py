"""Idempotency keys: what a producer sends again under the same key is not accepted again.

A key is in the journal together with the lines that came under it, so it is known exactly as long
as these are, also after a crash. The same key of another source is another key.
"""

from __future__ import annotations

import hashlib

from service.block import Offset, Receipt, Submission
from service.errors import KeyReused, NotAccepted
from service.event_queue import Waiting
from service.journal.journal import Journal, Key


def tell_apart(taken: list[Waiting], journal: Journal) -> tuple[list[Waiting], list[Waiting]]:
    """Return the submissions to accept, and those whose key came before, or earlier among them."""
    fresh, repeated = [], []
    keys: set[str] = set()
    for waiting in taken:
        key = _scoped(waiting.submission)
        if key is not None and (key in keys or _find(waiting.submission, journal) is not None):
            repeated.append(waiting)
            continue
        fresh.append(waiting)
        if key is not None:
            keys.add(key)
    return fresh, repeated


def keys_of(submissions: list[Submission]) -> tuple[Key, ...]:
    """Return the keys of submissions that become one block, to be kept with it."""
    keys = []
    row = 0
    for each in submissions:
        key = _scoped(each)
        if key is not None:
            keys.append(Key(key, row, each.lines or 0, each.received, _digest(each)))
        row += each.lines or 0
    return tuple(keys)


def first_receipt(submission: Submission, journal: Journal) -> Receipt | NotAccepted:
    """Return where the lines were put when they first came under their key."""
    found = _find(submission, journal)
    assert found is not None, "a key is in the journal before its lines are accepted"  # noqa: S101 - invariant
    block, key = found
    offset = Offset(block, key.row)
    if key.digest != _digest(submission):
        return KeyReused(
            f"the idempotency key {submission.key!r} came with other events before, at offset "
            f"{offset}: nothing was accepted; use a new key for new events"
        )
    return Receipt(offset, key.lines, key.received, repeated=True)


def _find(submission: Submission, journal: Journal) -> tuple[int, Key] | None:
    """Return the block and the key as it came first."""
    key = _scoped(submission)
    return None if key is None else journal.find(key)


def _scoped(submission: Submission) -> str | None:
    """Return a key as it is in the journal, one text for one source and one key.

    Where either has a space, where the source ends is told as well.
    """
    source, key = submission.source, submission.key
    if key is None:
        return None
    return f"{len(source)} {source} {key}" if " " in source or " " in key else f"{source} {key}"


def _digest(submission: Submission) -> bytes:
    payload = submission.payload if isinstance(submission.payload, bytes) else b""
    return hashlib.blake2b(payload, digest_size=16).digest()
