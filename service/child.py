"""Child processes: forked from a clean server, named, deaf to signals, gone when the daemon is.

The server is a process of one thread that has imported what all children need, once: so a child is
there in milliseconds, where a new interpreter takes a fifth of a second of a core. It is started
ahead of need, and again should it die. Its children live on then, but nobody hears of their end
any more: they count as dead, are killed, and replaced.
"""

from __future__ import annotations

import contextlib
import importlib
import os
import shutil
import signal
import sys
from collections.abc import Iterator
from multiprocessing import (
    connection,
    forkserver,
    get_context,
    parent_process,
    resource_tracker,
    util,
)
from multiprocessing.connection import Connection
from pathlib import Path
from threading import Lock, Thread
from typing import TYPE_CHECKING

from service.allocator import keep_freed_memory
from service.progress import Progress
from service.slots import Slots

if TYPE_CHECKING:
    from multiprocessing.context import ForkServerProcess

    from service.shared_file import SharedFile

ORPHANED = 75
"""Exit code of a child whose daemon died."""

LAST_LOOK = 0.02
"""Seconds a child waits at its end for a sign that the daemon is dead."""

UNHEARD_OF = 255
"""What multiprocessing tells of a child whose server is gone: it may still live."""


_STARTING = Lock()
"""Held while the server is started: what it inherits is set for that moment."""


def prepare_children() -> None:
    """Start the server that children are forked from, without waiting for its imports."""
    # numpy's linear algebra is not used; its threads would only take memory, and forbid to fork.
    os.environ.setdefault("OPENBLAS_NUM_THREADS", "1")
    forkserver.set_forkserver_preload(["service.preload"])
    # Else each child would run the script that was started here, and import what that does.
    vars(sys.modules["__main__"]).pop("__file__", None)
    with _STARTING, _safe_path():
        _ensure_running()


def _ensure_running() -> None:
    resource_tracker.ensure_running()  # now, since starting it undoes the mask
    # Until it ignores them, it must not meet a Ctrl-C or TERM: it inherits the mask of this thread.
    before = signal.pthread_sigmask(signal.SIG_BLOCK, {signal.SIGINT, signal.SIGTERM})
    try:
        forkserver.ensure_running()
    finally:
        signal.pthread_sigmask(signal.SIG_SETMASK, before)


@contextlib.contextmanager
def _safe_path() -> Iterator[None]:
    """Let what is started import what is installed, not what lies in the working folder."""
    before = os.environ.get("PYTHONSAFEPATH")
    os.environ["PYTHONSAFEPATH"] = "1"
    try:
        yield
    finally:
        del os.environ["PYTHONSAFEPATH"]
        if before is not None:
            os.environ["PYTHONSAFEPATH"] = before


def start_child(
    title: str, folder: Path, target: str, *shared: Progress | Slots | SharedFile
) -> tuple[ForkServerProcess, Connection]:
    """Start a child and return it with our end of its pipe.

    ``title`` (15 characters at most) is its name in ps, ``target`` the "module:function" that gets
    the other end of the pipe and what is ``shared``, and says whether it ended since it was told
    to. When the daemon dies the child goes within moments, and removes ``folder`` and that of the
    server's socket: nobody else is left to do it. Raises OSError when there is no child to be had
    now.
    """
    # Never forked from here: a fork beside threads may copy a lock that nobody will ever open.
    prepare_children()
    context = get_context("forkserver")
    ours, theirs = context.Pipe()
    process = context.Process(
        target=_run_child,
        args=(title, [str(folder), util.get_temp_dir()], target, theirs, *shared),
        name=title,
        daemon=True,
    )
    try:
        process.start()
    except EOFError as error:  # at the next attempt there is another server
        raise OSError("the server that children are forked from is gone") from error
    finally:
        theirs.close()
    return process, ours


def end_child(process: ForkServerProcess) -> None:
    """Kill a child, if it still lives, and wait until it is gone."""
    process.kill()
    process.join()
    if process.exitcode == UNHEARD_OF and process.pid is not None:
        with contextlib.suppress(ProcessLookupError):
            os.kill(process.pid, signal.SIGKILL)


def _run_child(
    title: str,
    folders: list[str],
    target: str,
    pipe: Connection,
    *shared: Progress | Slots | SharedFile,
) -> None:
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
    watch = Thread(target=_die_with_parent, args=(folders,), name="parent-watch", daemon=True)
    watch.start()
    keep_freed_memory()
    module, _, function = target.partition(":")
    told = getattr(importlib.import_module(module), function)(pipe, *shared)
    parent = parent_process()
    if not told and parent is not None and connection.wait([parent.sentinel], LAST_LOOK):
        watch.join()  # it ended since the daemon died: the folders are still to be removed


def _die_with_parent(folders: list[str]) -> None:
    parent = parent_process()
    if parent is None:
        return
    connection.wait([parent.sentinel])
    for folder in folders:
        shutil.rmtree(folder, ignore_errors=True)
    os._exit(ORPHANED)
