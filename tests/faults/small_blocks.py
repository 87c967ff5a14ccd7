"""A small daemon for fault tests: many blocks and checkpoints out of few events."""

from __future__ import annotations

import random
from typing import Final

from tests.sequential import sequential

ADJACENT: Final = {"name": "adjacent", "use": "adjacent"}
SMALL: Final = {
    "block": {"bytes": "16KiB"},
    "event": {"max_event_bytes": "4KiB"},
    "state": {"checkpoint_bytes": "24KiB", "reserve": 1},
}
EVENTS: Final = 100
"""Events in one body."""


def bodies(number: int, seed: int) -> list[bytes]:
    """Return bodies of events, a second for every twenty of them."""
    choice = random.Random(seed)
    made = []
    for body in range(number):
        start = body * EVENTS
        cids = [choice.randrange(4_000) for _ in range(EVENTS)]
        lines = [
            b'{"cid":%d,"time":%.3f,"n":%d}\n' % (cid, (start + row) / 20, start + row)
            for row, cid in enumerate(cids)
        ]
        made.append(b"".join(lines))
    return made


def suppressed(confirmed: bytes) -> bytes:
    """Return what the suppressor keeps of what was confirmed."""
    return sequential(confirmed.splitlines(keepends=True))
