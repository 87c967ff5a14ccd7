"""Measures what a post with a new Idempotency-Key costs the journal, by its number of segments.

``python benchmarks/keys.py [SEGMENTS ...]``, by default 16 and 128.
"""

from __future__ import annotations

import sys
import tempfile
import time
from pathlib import Path
from statistics import median
from typing import Final

from service.block import Block, Part
from service.chain import ChainVersion
from service.journal.entry import block_entry
from service.journal.journal import Journal, Key

KEYS: Final = 2_000
"""Keys in each segment."""

LOOKS: Final = 2_000
"""New keys that are looked for."""

FILTERED: Final = 600.0
"""Seconds in which the filters must be made."""


def opened(directory: Path) -> Journal:
    """Return a journal whose segments end when they have their keys."""
    journal = Journal(
        directory, full=False, segment_bytes=1, retention_bytes=1 << 40, retention_seconds=1e9
    )
    journal.open(0)
    return journal


def fill(journal: Journal, segments: int) -> None:
    """Append a block to each segment, with all its keys."""
    chain = ChainVersion(1, ())
    for number in range(1, segments + 1):
        keys = tuple(Key(f"push key-{number}-{row}", row, 1, 1.0, bytes(16)) for row in range(KEYS))
        block = Block(number, b"", (Part("push", 0, 1, 1.0),), chain, barrier=False)
        journal.append(block_entry(block, keys))


def looks(journal: Journal, what: str) -> list[float]:
    """Return the milliseconds that each look took for a key that is nowhere."""
    took = []
    for number in range(LOOKS):
        key = f"push {what}-{number}"
        began = time.perf_counter()
        found = journal.find(key)
        took.append(1000 * (time.perf_counter() - began))
        if found is not None:
            raise AssertionError(key)
    return sorted(took)


def main(arguments: list[str]) -> None:
    """Print a line for each number of segments."""
    for segments in [int(each) for each in arguments] or [16, 128]:
        with tempfile.TemporaryDirectory(prefix="penstock-keys-") as folder:
            journal = opened(Path(folder))
            fill(journal, segments)
            journal.close()
            began = time.perf_counter()
            journal = opened(Path(folder))
            start = time.perf_counter() - began
            if not journal.filters.wait(FILTERED):
                raise TimeoutError("the filters are not there")
            made = time.perf_counter() - began
            took = looks(journal, "new")
            sys.stdout.write(
                f"{segments} segments of {KEYS:,} keys: a new key takes "
                f"{median(took):.3f} ms (p99 {took[LOOKS * 99 // 100]:.3f} ms); "
                f"open after {start:.2f} s, filters after {made:.2f} s, "
                f"{journal.filters.size:,} bytes\n"
            )
            journal.close()


if __name__ == "__main__":
    main(sys.argv[1:])
