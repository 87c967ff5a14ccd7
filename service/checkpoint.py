"""The checkpoint on disk: everything a start needs to go on right after one block.

Invariants:

1. A checkpoint file is whole or it is not there under its name: it is written beside, synced, and
   renamed. What a disk did to it later shows in its CRC.
2. Two are kept, and the journal from the older one on: if the newest cannot be read, the one before
   it leads to the same state by a longer replay.
3. It is plain data (msgpack), never code.
"""

from __future__ import annotations

import logging
import os
import struct
import zlib
from pathlib import Path
from typing import Any, Final

import msgspec

from service.chain import ChainVersion
from service.disk import write_all
from service.errors import OutcomeUnknown, PipelineFailed
from service.journal.entry import Configuration
from service.privacy import make_file, make_folder

log = logging.getLogger(__name__)

MAGIC: Final = b"penstock checkpoint 2\n"
KEPT: Final = 2
_CRC: Final = struct.Struct("<I")
"""Of all that follows."""

_LENGTH: Final = struct.Struct("<Q")
"""Of the checkpoint without its memory, which comes last."""


class Checkpoint(msgspec.Struct, frozen=True):
    """The state right after ``block``, whose entry in the journal is ``sequence``.

    ``memory`` is what the sequencer's shared steps remember, encoded; ``sinks`` are their positions
    by name, ``origins`` those of the sources; ``statistics`` the counts up to the block.
    """

    block: int
    sequence: int
    chain: ChainVersion
    configuration: Configuration
    memory: memoryview | None
    sinks: dict[str, Any]
    dead_letters: Any
    origins: dict[str, Any]
    statistics: dict[str, Any]
    folder: tuple[int, int] | None = None
    """The device and inode of the folder that its file was written to; only there."""


class CheckpointFiles:
    """The checkpoints of one state directory."""

    def __init__(self, directory: Path) -> None:
        self._directory = directory
        self._kept: dict[int, int] = {}
        """By block, in rising order: the place in the journal of each checkpoint kept."""
        self.copied = False
        """Whether what was loaded had been written to another folder, and copied here."""

    def load(self) -> Checkpoint | None:
        """Return the newest checkpoint that can be read, None if there never was one.

        Raises PipelineFailed when there are some and none can be read.
        """
        for unfinished in self._directory.glob("*.unfinished"):
            unfinished.unlink()
        found = self._files()
        problems = []
        readable = []
        for path in found:
            try:
                readable.append(read_checkpoint(path))
            except PipelineFailed as error:
                problems.append(str(error))
        self._kept = {checkpoint.block: checkpoint.sequence for checkpoint in readable}
        if readable:
            for problem in problems:
                log.error("%s; another checkpoint is used, nothing is lost", problem)
            newest = readable[-1]
            self.copied = newest.folder not in {None, self._folder()}
            return msgspec.structs.replace(newest, folder=None)
        if problems:
            problems.append(
                "no checkpoint can be read: start the version of penstock that wrote them, or move "
                "the whole state directory away to start anew"
            )
            raise PipelineFailed("\n".join(problems))
        return None

    def save(self, checkpoint: Checkpoint) -> None:
        """Keep a checkpoint, in this order.

        1. It is written beside and synced: what has the name is whole.
        2. It gets its name, and the folder is synced: from now on a start begins here.
        3. Only then do older ones go, but for the one before it.

        Raises OSError, with the checkpoints as they were, and OutcomeUnknown.
        """
        if not self._directory.is_dir():  # only now: a start that is refused makes nothing
            make_folder(self._directory)
            _sync_directory(self._directory.parent)
        path = self._directory / f"{checkpoint.block:016d}.checkpoint"
        unfinished = path.with_suffix(".unfinished")
        plain = msgspec.structs.replace(checkpoint, memory=None, folder=self._folder())
        head = msgspec.msgpack.encode(plain)
        memory = checkpoint.memory or b""  # encoded, it is never empty
        length = _LENGTH.pack(len(head))
        crc = zlib.crc32(memory, zlib.crc32(length + head))
        make_file(unfinished)
        descriptor = os.open(unfinished, os.O_WRONLY | os.O_TRUNC | os.O_CLOEXEC)
        try:
            for piece in (MAGIC, _CRC.pack(crc), length, head, memory):
                write_all(descriptor, piece)
            _sync(descriptor, unfinished)
        except OSError:
            unfinished.unlink(missing_ok=True)  # it takes room that is wanting
            raise
        finally:
            os.close(descriptor)
        unfinished.rename(path)
        _sync_directory(self._directory)
        for older in self._files()[:-KEPT]:
            older.unlink()
        kept = self._kept | {checkpoint.block: checkpoint.sequence}
        self._kept = dict(sorted(kept.items())[-KEPT:])

    @property
    def needed(self) -> int:
        """The journal's entries after this one are needed to start, from any checkpoint kept."""
        return min(self._kept.values(), default=0)

    @property
    def oldest_block(self) -> int:
        """No block up to this one ever comes again."""
        return min(self._kept, default=0)

    def _folder(self) -> tuple[int, int]:
        status = self._directory.stat()
        return status.st_dev, status.st_ino

    def _files(self) -> list[Path]:
        return checkpoints_in(self._directory)


def checkpoints_in(directory: Path) -> list[Path]:
    """Return the files of the checkpoints in a folder, the oldest first."""
    return sorted(directory.glob("*.checkpoint"))


def read_checkpoint(path: Path) -> Checkpoint:
    """Return the checkpoint in a file; raises PipelineFailed when it is damaged."""
    try:
        data = memoryview(path.read_bytes())
    except OSError as error:
        raise PipelineFailed(f"{path}: cannot be read: {error.strerror}") from error
    if bytes(data[: len(MAGIC)]) != MAGIC:
        raise PipelineFailed(f"{path}: is no checkpoint of this version of penstock, or is damaged")
    crc, body = data[len(MAGIC) :][: _CRC.size], data[len(MAGIC) + _CRC.size :]
    if len(body) < _LENGTH.size or _CRC.unpack(crc)[0] != zlib.crc32(body):
        raise PipelineFailed(f"{path}: this checkpoint is damaged (its CRC is wrong)")
    start = _LENGTH.size + _LENGTH.unpack_from(body)[0]
    try:
        checkpoint = msgspec.msgpack.decode(body[_LENGTH.size : start], type=Checkpoint)
    except msgspec.DecodeError as error:
        message = f"{path}: this checkpoint is of another version of penstock: {error}"
        raise PipelineFailed(message) from error
    return msgspec.structs.replace(checkpoint, memory=body[start:] or None)


def _sync_directory(directory: Path) -> None:
    """Return when the names in a directory will survive a loss of power; raises OutcomeUnknown."""
    descriptor = os.open(directory, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
    try:
        _sync(descriptor, directory)
    finally:
        os.close(descriptor)


def _sync(descriptor: int, path: Path) -> None:
    try:
        os.fsync(descriptor)
    except OSError as error:
        message = (
            f"{path}: the disk does not say whether it kept what was written ({error.strerror}); "
            "the daemon stops, and its next start goes on from what is there"
        )
        raise OutcomeUnknown(message) from error
