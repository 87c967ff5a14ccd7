"""Keeps freed memory with the process: columns of megabytes come and go many times a second.

Left alone, glibc gives each large array back to the system when it is freed and gets it page by
page, zeroed, for the next one: a fifth of the time it takes to read a block. It also keeps what one
thread freed from the others, so that each touches memory of its own; but where one lock lets a
single thread run at a time, they can as well share one heap.
"""

from __future__ import annotations

import contextlib
import ctypes
from typing import Final

_TRIM_THRESHOLD: Final = -1  # M_TRIM_THRESHOLD of <malloc.h>
_MMAP_THRESHOLD: Final = -3  # M_MMAP_THRESHOLD

_ARENA_MAX: Final = -8  # M_ARENA_MAX

KEPT: Final = 2**24
"""Bytes of freed memory at the end of the heap that stay with the process."""

LARGEST: Final = 2**25
"""Bytes up to which an array comes from the heap; the largest value glibc takes."""


def keep_freed_memory() -> None:
    """Set this process's allocator; where it is not glibc's, leave it as it is."""
    with contextlib.suppress(AttributeError, OSError):
        mallopt = ctypes.CDLL(None).mallopt
        mallopt(_MMAP_THRESHOLD, LARGEST)
        mallopt(_TRIM_THRESHOLD, KEPT)
        mallopt(_ARENA_MAX, 1)
