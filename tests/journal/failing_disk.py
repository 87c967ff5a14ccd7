"""A disk that fails when it is told to, for every SQLite file opened meanwhile."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from uuid import uuid4

import apsw


@dataclass
class Fault:
    """What happens from the ``after``-th call on, of writes or of syncs, to ``times`` of them.

    ``name``: only to files whose name ends so.
    """

    call: str
    error: type[apsw.Error]
    after: int = 0
    times: int = 1_000_000
    name: str = ""

    def strike(self, call: str, name: str) -> None:
        """Fail if it is time to."""
        if call == self.call and name.endswith(self.name):
            self.after -= 1
            if self.after < 0 < self.times:
                self.times -= 1
                raise self.error(f"the disk fails at {call}")


class FailingDisk(apsw.VFS):
    """SQLite's way to the disk, with a fault in it, or none."""

    def __init__(self) -> None:
        self.name = f"failing {uuid4().hex}"
        self.fault: Fault | None = None
        super().__init__(self.name, base="unix", makedefault=True)

    def xOpen(  # noqa: N802 - apsw's name
        self, name: str | apsw.URIFilename | None, flags: list[int]
    ) -> apsw.VFSFile:
        """Open a file that fails with this disk."""
        return _File(self, name, flags)


class _File(apsw.VFSFile):
    def __init__(
        self, disk: FailingDisk, name: str | apsw.URIFilename | None, flags: list[int]
    ) -> None:
        self._disk = disk
        self._name = name.filename() if isinstance(name, apsw.URIFilename) else name or ""
        super().__init__("unix", name, flags)

    def xWrite(self, data: bytes, offset: int) -> None:  # noqa: N802 - apsw's name
        if self._disk.fault:
            self._disk.fault.strike("write", self._name)
        super().xWrite(data, offset)

    def xSync(self, flags: int) -> None:  # noqa: N802 - apsw's name
        if self._disk.fault:
            self._disk.fault.strike("sync", self._name)
        super().xSync(flags)


@contextmanager
def failing_disk() -> Iterator[FailingDisk]:
    """Let SQLite use such a disk, and its own again afterwards."""
    disk = FailingDisk()
    try:
        yield disk
    finally:
        disk.unregister()
