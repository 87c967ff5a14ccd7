"""Where the sockets of one run lie: a folder that only its user may enter.

It lies in the state directory, where nobody cleans up but the next start.
"""

from __future__ import annotations

import os
import shutil
import tempfile
from pathlib import Path
from typing import Final

from service.errors import PipelineFailed

PREFIX: Final = "run-"

LONGEST: Final = 107
"""Bytes that the path of a socket may have."""

_held: dict[Path, int] = {}


def new_runtime_directory(state: Path) -> tempfile.TemporaryDirectory[str]:
    """Return a new folder in the state directory, or where the system has such if there is none.

    Each run has one of its own: the children of one that was killed remove theirs a moment later.
    Raises PipelineFailed when none can be made.
    """
    kept = state.is_dir()
    try:
        return tempfile.TemporaryDirectory(
            prefix=PREFIX if kept else f"penstock-{PREFIX}",
            dir=state if kept else None,
            ignore_cleanup_errors=True,
        )
    except OSError as error:
        where = state if kept else "the temporary folder (TMPDIR)"
        message = (
            f"{where}: no folder can be made there for the sockets of this run: {error.strerror}; "
            "make room, or make it writable, then start again"
        )
        raise PipelineFailed(message) from error


def remove_earlier(parent: Path) -> None:
    """Remove what runs that were killed left behind in ``parent``, which must be locked."""
    for left in parent.glob(f"{PREFIX}*"):
        shutil.rmtree(left, ignore_errors=True)


def reachable(socket: str) -> str:
    """Return a path to a socket that is short enough, for this process alone; raises OSError."""
    if len(os.fsencode(socket)) <= LONGEST:
        return socket
    path = Path(socket)
    return f"/proc/self/fd/{_opened(path.parent)}/{path.name}"


def _opened(folder: Path) -> int:
    """Return a descriptor of the folder that has this path now."""
    held = _held.get(folder)
    if held is None or not os.path.samestat(os.fstat(held), folder.stat()):
        held = _held[folder] = os.open(folder, os.O_PATH | os.O_DIRECTORY)
    return held
