"""Free space on the disk: below the reserve nothing new is accepted, and what was still drains."""

from __future__ import annotations

import os
from pathlib import Path

from service.errors import PipelineFailed, StorageFull


class FreeSpace:
    """Watches the disk of one directory."""

    def __init__(self, directory: Path, reserve: int) -> None:
        """Want at least ``reserve`` bytes free; 0 asks for nothing."""
        self._directory = directory
        self._reserve = reserve

    def check(self) -> None:
        """Raise StorageFull below the reserve, PipelineFailed where the directory is gone."""
        if not self._reserve:
            return
        try:
            status = os.statvfs(self._directory)
        except FileNotFoundError:
            message = (
                f"{self._directory}: the state directory is gone: put it back and start again; "
                "without it a start begins anew, and what was accepted and not emitted is lost, as "
                "are the memory and the dead letters"
            )
            raise PipelineFailed(message) from None
        free = status.f_bavail * status.f_frsize
        if free < self._reserve:
            message = (
                f"{self._directory}: only {free} bytes are free on its disk, less than the reserve "
                f"of {self._reserve}: nothing new is accepted until there is room; "
                "make some, or lower state.reserve"
            )
            raise StorageFull(message)
