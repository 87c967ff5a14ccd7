"""A disk that tells what a loss of power may leave: every change is recorded, and every sync.

Until a file is synced, any of the changes since may be there or not, a write also in part. Names
(made, changed, removed) are there in their order, up to any one of those since their folder was
synced. Changes by SQLite are seen through a VFS; its shared index never survives and is left out.
"""

from __future__ import annotations

import os
import random
import shutil
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Final, NamedTuple
from unittest.mock import patch

import apsw

SECTOR: Final = 512
"""A write is torn at a multiple of so many bytes."""


class Write(NamedTuple):
    """Bytes at a place in a file."""

    file: int
    place: int
    data: bytes


class Cut(NamedTuple):
    """A file made shorter, or longer."""

    file: int
    length: int


class Sync(NamedTuple):
    """Everything in a file survives from here on."""

    file: int


class Names(NamedTuple):
    """Names in one folder, changed at once: each now means a file; None: it is gone."""

    folder: Path
    meanings: dict[Path, int | None]


class SyncFolder(NamedTuple):
    """Every name in a folder survives from here on."""

    folder: Path


Change = Write | Cut | Sync | Names | SyncFolder


@dataclass
class RecordedDisk:
    """What happens to the files below ``root``, from ``recording`` on."""

    root: Path
    changes: list[Change] = field(default_factory=list)
    _files: dict[Path, int] = field(default_factory=dict)
    _contents: dict[int, bytes] = field(default_factory=dict)

    @contextmanager
    def recording(self) -> Iterator[None]:
        """Record; what is there at the beginning survives."""
        for path in self.root.rglob("*"):
            if path.is_file() and not path.name.endswith("-shm"):
                self._contents[self._file(path)] = path.read_bytes()
        self._before = dict(self._files)
        vfs = _RecordingVfs(self)
        try:
            with (
                patch("os.open", self._open),
                patch("os.write", self._write),
                patch("os.pwrite", self._pwrite),
                patch("os.ftruncate", self._ftruncate),
                patch("os.truncate", self._truncate),
                patch("os.fsync", self._fsync),
                patch("os.rename", self._rename),
                patch("os.unlink", self._unlink),
            ):
                yield
        finally:
            vfs.unregister()

    def lose_power(self, at: int, choice: random.Random) -> None:
        """Put below ``root`` what may be there if the power goes after ``at`` changes."""
        names, contents = self._survivors(self.changes[:at], choice)
        folders = [path for path in self.root.rglob("*") if path.is_dir()]
        shutil.rmtree(self.root)
        for folder in (self.root, *folders):
            folder.mkdir(parents=True, exist_ok=True)
        for path, file in names.items():
            path.write_bytes(contents[file])

    def _survivors(
        self, changes: list[Change], choice: random.Random
    ) -> tuple[dict[Path, int], dict[int, bytes]]:
        contents = dict(self._contents)
        names: dict[Path, int] = dict(self._before)
        pending: dict[int, list[Write | Cut]] = {}
        unsure: dict[Path, list[Names]] = {}
        for change in changes:
            match change:
                case Write(file) | Cut(file):
                    pending.setdefault(file, []).append(change)
                case Sync(file):
                    _change_all(contents, pending.pop(file, []))
                case Names(folder):
                    unsure.setdefault(folder, []).append(change)
                case SyncFolder(folder):
                    _rename_all(names, unsure.pop(folder, []))
        share = choice.choice([0.0, 0.5, 1.0])  # how likely it is that what is not synced is there
        for waiting in pending.values():
            there = [each for each in waiting if choice.random() < share]
            _change_all(contents, [_torn(each, choice) if share < 1 else each for each in there])
        for renamed in unsure.values():
            _rename_all(names, renamed[: round(len(renamed) * choice.random())])
        return names, {file: contents.get(file, b"") for file in names.values()}

    # ---- what is recorded

    def inside(self, path: str | Path) -> bool:
        return Path(path).is_relative_to(self.root)

    def made(self, path: str | Path) -> None:
        """Take note of a new file."""
        file = len(self._contents) + len(self.changes) + 1
        self._files[Path(path)] = file
        self.changes.append(Names(Path(path).parent, {Path(path): file}))

    def removed(self, path: str | Path) -> None:
        """Take note of a file that is gone."""
        if self._files.pop(Path(path), None) is not None:
            self.changes.append(Names(Path(path).parent, {Path(path): None}))

    def wrote(self, path: str | Path, place: int, data: bytes) -> None:
        """Take note of a write."""
        self.changes.append(Write(self._file(Path(path)), place, bytes(data)))

    def cut(self, path: str | Path, length: int) -> None:
        """Take note of another length."""
        self.changes.append(Cut(self._file(Path(path)), length))

    def synced(self, path: str | Path) -> None:
        """Take note of a sync of a file or a folder."""
        path = Path(path)
        self.changes.append(SyncFolder(path) if path.is_dir() else Sync(self._file(path)))

    def _file(self, path: Path) -> int:
        if path not in self._files:
            self._files[path] = -len(self._files) - 1
        return self._files[path]

    # ---- in place of the system's calls

    def _open(self, path: Any, flags: int, *rest: Any, **more: Any) -> int:
        new = self.inside(path) and not Path(path).exists()
        descriptor: int = _REAL["open"](path, flags, *rest, **more)
        if new:
            self.made(path)
        elif flags & os.O_TRUNC and self.inside(path):
            self.cut(path, 0)
        return descriptor

    def _write(self, descriptor: int, data: bytes) -> int:
        path = _path(descriptor)
        end = Path(path).stat().st_size if self.inside(path) else 0
        written: int = _REAL["write"](descriptor, data)
        if self.inside(path):
            self.wrote(path, end, bytes(data)[:written])  # every file here is only appended to
        return written

    def _pwrite(self, descriptor: int, data: bytes, place: int) -> int:
        written: int = _REAL["pwrite"](descriptor, data, place)
        if self.inside(path := _path(descriptor)):
            self.wrote(path, place, bytes(data)[:written])
        return written

    def _ftruncate(self, descriptor: int, length: int) -> None:
        _REAL["ftruncate"](descriptor, length)
        if self.inside(path := _path(descriptor)):
            self.cut(path, length)

    def _truncate(self, path: Any, length: int) -> None:
        _REAL["truncate"](path, length)
        if self.inside(path):
            self.cut(path, length)

    def _fsync(self, descriptor: int) -> None:
        if self.inside(path := _path(descriptor)):
            self.synced(path)
        else:
            _REAL["fsync"](descriptor)

    def _rename(self, before: Any, after: Any) -> None:
        _REAL["rename"](before, after)
        if self.inside(before):
            file = self._files.pop(Path(before))
            self._files[Path(after)] = file
            meanings = {Path(after): file, Path(before): None}
            self.changes.append(Names(Path(after).parent, meanings))

    def _unlink(self, path: Any, **more: Any) -> None:
        _REAL["unlink"](path, **more)
        if self.inside(path):
            self.removed(path)


_REAL: Final[dict[str, Callable[..., Any]]] = {
    name: getattr(os, name)
    for name in ("open", "write", "pwrite", "ftruncate", "truncate", "fsync", "rename", "unlink")
}


class _RecordingVfs(apsw.VFS):
    """SQLite's own VFS for this system, listened to."""

    def __init__(self, disk: RecordedDisk) -> None:
        super().__init__("recorded", "unix", makedefault=True)
        self.disk = disk

    def xOpen(  # noqa: N802 - SQLite's name
        self, name: str | apsw.URIFilename | None, flags: list[int]
    ) -> apsw.VFSFile:
        return _RecordingFile(self.disk, name, flags)

    def xDelete(self, filename: str, syncdir: bool) -> None:  # noqa: N802 - as above
        super().xDelete(filename, syncdir)
        self.disk.removed(filename)
        if syncdir:
            self.disk.synced(Path(filename).parent)


class _RecordingFile(apsw.VFSFile):
    def __init__(
        self, disk: RecordedDisk, name: str | apsw.URIFilename | None, flags: list[int]
    ) -> None:
        path = name.filename() if isinstance(name, apsw.URIFilename) else name
        new = path is not None and disk.inside(path) and not Path(path).exists()
        super().__init__("unix", name, flags)
        self._disk = disk
        self._path = path or ""
        # SQLite syncs the folder, too, when it first syncs a log that it may have made.
        logs = apsw.SQLITE_OPEN_WAL | apsw.SQLITE_OPEN_MAIN_JOURNAL
        self._folder_due = bool(flags[0] & logs and flags[0] & apsw.SQLITE_OPEN_CREATE)
        if new:
            disk.made(self._path)

    def xWrite(self, data: bytes, offset: int) -> None:  # noqa: N802 - as above
        super().xWrite(data, offset)
        self._disk.wrote(self._path, offset, data)

    def xTruncate(self, newsize: int) -> None:  # noqa: N802 - as above
        super().xTruncate(newsize)
        self._disk.cut(self._path, newsize)

    def xSync(self, flags: int) -> None:  # noqa: N802 - as above
        self._disk.synced(self._path)
        if self._folder_due:
            self._disk.synced(Path(self._path).parent)
            self._folder_due = False
        del flags


def _path(descriptor: int) -> str:
    return str(Path(f"/proc/self/fd/{descriptor}").readlink())


def _change_all(contents: dict[int, bytes], changes: list[Write | Cut]) -> None:
    for change in changes:
        contents[change.file] = _changed(contents.get(change.file, b""), change)


def _changed(content: bytes, change: Write | Cut) -> bytes:
    if isinstance(change, Cut):
        return content[: change.length].ljust(change.length, b"\0")
    before = content[: change.place].ljust(change.place, b"\0")
    return before + change.data + content[change.place + len(change.data) :]


def _torn(change: Write | Cut, choice: random.Random) -> Write | Cut:
    if isinstance(change, Cut) or choice.random() < 0.7:
        return change
    sectors = choice.randrange(len(change.data) // SECTOR + 1)
    return change._replace(data=change.data[: sectors * SECTOR])


def _rename_all(names: dict[Path, int], changes: list[Names]) -> None:
    for change in changes:
        for path, file in change.meanings.items():
            if file is not None:
                names[path] = file
            else:
                names.pop(path, None)
