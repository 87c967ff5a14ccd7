"""Standard output is data: what else prints there, a class of the user's own say, is a message."""

from __future__ import annotations

import os
import sys

_data: int | None = None


def keep_for_data() -> None:
    """From now on only ``descriptor`` leads to standard output; what prints is an error message."""
    global _data  # noqa: PLW0603 - there is one standard output in a process
    if _data is None:
        sys.stdout.flush()
        _data = os.dup(1)
        os.dup2(2, 1)


def descriptor() -> int:
    """Return where data is to be written."""
    return sys.stdout.fileno() if _data is None else _data
