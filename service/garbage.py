"""The garbage collector, kept away from what stays for good: modules, classes, settings."""

from __future__ import annotations

import gc
from collections.abc import Iterator
from contextlib import contextmanager


@contextmanager
def importing() -> Iterator[None]:
    """Do not look for garbage meanwhile, and never again among all there is at the end.

    Imports make objects by the ten thousand, and nearly no garbage: looking through them again and
    again takes a tenth of a start. Later it would hold up all threads for some milliseconds; and
    processes forked from here would each get a copy of all that was looked at.
    """
    gc.disable()
    try:
        yield
    finally:
        gc.freeze()
        gc.enable()
