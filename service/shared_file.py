"""A file in memory that a parent and its child share: for what is too large for a pipe.

A pipe would cost five copies: to pickle, to write, to read, to put together and to unpickle it.
"""

from __future__ import annotations

import os
from collections.abc import Iterable
from multiprocessing import reduction
from typing import Any

import numpy as np

from service.slots import unnamed_file


class SharedFile:
    """One thing at a time that one side puts in and the other takes out, told by other means.

    It is made by the parent and handed to the child at its start. It takes memory from ``put`` to
    ``take`` only, and is to be closed.
    """

    def __init__(self) -> None:
        """Raise OSError where there is no file to be had."""
        self._file = unnamed_file()

    def put(self, pieces: Iterable[bytes | memoryview]) -> None:
        """Put in the pieces, one behind the other, in place of what is there; raises OSError."""
        os.ftruncate(self._file, 0)
        end = 0
        for piece in pieces:
            view = memoryview(piece)
            while view:
                written = os.pwrite(self._file, view, end)
                view, end = view[written:], end + written

    def take(self) -> memoryview:
        """Take out what is there, and leave nothing."""
        # NumPy asks for large pages, which the system has ready in a fraction of the time.
        data = np.empty(os.fstat(self._file).st_size, np.uint8).data
        end = 0
        while end < len(data):
            end += os.preadv(self._file, [data[end:]], end)
        os.ftruncate(self._file, 0)
        return data.toreadonly()

    @property
    def empty(self) -> bool:
        """Say whether nothing is there to be taken out."""
        return not os.fstat(self._file).st_size

    def close(self) -> None:
        """Let go of the file; it goes when the other side does so too."""
        os.close(self._file)

    def __getstate__(self) -> Any:
        # Only while a child is started: the file goes along with what is pickled.
        return reduction.DupFd(self._file)

    def __setstate__(self, file: Any) -> None:
        self._file = file.detach()
