"""Child processes: spawned, named, deaf to signals, and gone when the daemon is."""

from __future__ import annotations

import importlib
import os
import shutil
import signal
from multiprocessing import connection, get_context, parent_process, resource_tracker
from multiprocessing.connection import Connection
from pathlib import Path
from threading import Thread
from typing import TYPE_CHECKING

from service.allocator import keep_freed_memory
from service.progress import Progress

if TYPE_CHECKING:
    from multiprocessing.context import SpawnProcess

ORPHANED = 75
"""Exit code of a child whose daemon died."""


def start_child(
    title: str, folder: Path, target: str, progress: Progress
) -> tuple[SpawnProcess, Connection]:
    """Start a child and return it with our end of its pipe.

    ``title`` (15 characters at most) is its name in ps, ``target`` the "module:function" that gets
    the other end of the pipe and ``progress``. When the daemon dies the child goes within moments,
    and removes ``folder``: nobody else is left to do it.
    """
    # Only spawned: a fork beside threads may copy a lock that nobody will ever open.
    context = get_context("spawn")
    ours, theirs = context.Pipe()
    process = context.Process(
        target=_run_child,
        args=(title, folder, target, theirs, progress),
        name=title,
        daemon=True,
    )
    # Until the child ignores it, it must not meet a Ctrl-C: it inherits the mask of this thread.
    resource_tracker.ensure_running()  # now, since starting it undoes the mask
    before = signal.pthread_sigmask(signal.SIG_BLOCK, {signal.SIGINT, signal.SIGTERM})
    try:
        process.start()
    finally:
        signal.pthread_sigmask(signal.SIG_SETMASK, before)
    theirs.close()
    return process, ours


def _run_child(title: str, folder: Path, target: str, pipe: Connection, progress: Progress) -> None:
    """Settle in, before anything heavy is imported, and run the target."""
    # The terminal's Ctrl-C and a service manager's TERM reach the whole group; the daemon decides.
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    signal.signal(signal.SIGTERM, signal.SIG_IGN)
    signal.pthread_sigmask(signal.SIG_UNBLOCK, {signal.SIGINT, signal.SIGTERM})
    # Standard output is data, and the daemon's alone: what a middleware prints is a message.
    os.dup2(2, 1)
    comm = Path("/proc/self/comm")
    if comm.exists():
        comm.write_text(title)
    Thread(target=_die_with_parent, args=(folder,), name="parent-watch", daemon=True).start()
    keep_freed_memory()
    module, _, function = target.partition(":")
    getattr(importlib.import_module(module), function)(pipe, progress)


def _die_with_parent(folder: Path) -> None:
    parent = parent_process()
    if parent is None:
        return
    connection.wait([parent.sentinel])
    shutil.rmtree(folder, ignore_errors=True)
    os._exit(ORPHANED)
