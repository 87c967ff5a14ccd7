"""Child processes: forked from a clean server, named, deaf to signals, gone when the daemon is.

The server is a process of one thread that has imported what all children need, once: so a child is
there in milliseconds, where a new interpreter takes a fifth of a second of a core. It is started
ahead of need, and again should it die. Its children live on then, but nobody hears of their end
any more: they count as dead, are killed, and replaced.
"""

from __future__ import annotations

import contextlib
import importlib
import io
import os
import shutil
import signal
import sys
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from multiprocessing import (
    connection,
    current_process,
    forkserver,
    get_context,
    parent_process,
    resource_tracker,
)
from multiprocessing.connection import Connection
from pathlib import Path
from threading import Lock, Thread
from typing import TYPE_CHECKING, Any
from weakref import WeakKeyDictionary

from service.allocator import keep_freed_memory
from service.child_output import ChildOutput
from service.progress import Progress
from service.signals import HEARD
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

_SERVER: Any = forkserver._forkserver  # noqa: SLF001 - only there is its address
_held: list[int] = []
"""The descriptor of the server's socket."""


_OUTPUTS: WeakKeyDictionary[ForkServerProcess, ChildOutput] = WeakKeyDictionary()
_STARTING = Lock()
"""Held while the server is started: what it inherits is set for that moment."""


def prepare_children() -> None:
    """Start the server that children are forked from, without waiting for its imports.

    It is reached through a descriptor. Its socket has no place in the file system, so nobody can
    remove it, and nothing is left behind when this process is killed with all its children.
    """
    # numpy's linear algebra is not used; its threads would only take memory, and forbid to fork.
    os.environ.setdefault("OPENBLAS_NUM_THREADS", "1")
    forkserver.set_forkserver_preload(["service.preload"])
    # multiprocessing looks for the server, too, and starts one itself: then let it be started here.
    _SERVER.ensure_running = prepare_children
    # Else each child would run the script that was started here, and import what that does.
    vars(sys.modules["__main__"]).pop("__file__", None)
    _leave_a_lost_folder()
    with _STARTING, _safe_path():
        # Until they ignore signals, they must not meet one: they inherit the mask of this thread.
        with deaf():
            resource_tracker.ensure_running()  # now, since starting it undoes the mask
        with deaf():
            if _server_is_gone():
                _start_server()


@contextmanager
def deaf() -> Iterator[None]:
    """Let signals that stop a process wait meanwhile, as far as this thread is concerned."""
    before = signal.pthread_sigmask(signal.SIG_BLOCK, HEARD)
    try:
        yield
    finally:
        signal.pthread_sigmask(signal.SIG_SETMASK, before)


@contextmanager
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


def _server_is_gone() -> bool:
    pid = _SERVER._forkserver_pid  # noqa: SLF001 - see above
    options = os.WEXITED | os.WNOHANG | os.WNOWAIT  # who starts the next one takes its exit code
    return pid is None or os.waitid(os.P_PID, pid, options) is not None


def _start_server() -> None:
    """Start the server, hold its socket by a descriptor, and remove its file and folder."""
    if not Path("/proc/self/fd").is_dir():
        forkserver.ensure_running()
        return
    config = current_process()._config  # type: ignore[attr-defined] # noqa: SLF001 - see above
    with tempfile.TemporaryDirectory(prefix="penstock-", ignore_cleanup_errors=True) as folder:
        config["tempdir"] = folder
        try:
            forkserver.ensure_running()
        finally:
            config["tempdir"] = None
        if _held:
            os.close(_held.pop())
        _held.append(os.open(_SERVER._forkserver_address, os.O_PATH))  # noqa: SLF001 - see above
        _SERVER._forkserver_address = f"/proc/self/fd/{_held[0]}"  # noqa: SLF001 - see above


def end_server() -> None:
    """End the server at once: it would go by itself, but only after all of its imports."""
    if _SERVER._forkserver_pid is not None:  # noqa: SLF001 - see above
        with contextlib.suppress(ProcessLookupError):
            os.kill(_SERVER._forkserver_pid, signal.SIGKILL)  # noqa: SLF001 - see above


def _leave_a_lost_folder() -> None:
    """Have a working folder: a child begins in its parent's, and would not where that is gone.

    In /proc nothing can be made: a relative path still leads nowhere, and not elsewhere.
    """
    try:
        Path.cwd()
    except FileNotFoundError:
        os.chdir("/proc" if Path("/proc").is_dir() else "/")


def start_child(
    title: str, folder: Path | None, target: str, *shared: Progress | Slots | SharedFile
) -> tuple[ForkServerProcess, Connection]:
    """Start a child and return it with our end of its pipe.

    ``title`` (15 characters at most) is its name in ps, ``target`` the "module:function" that gets
    the other end of the pipe and what is ``shared``, and says whether it ended since it was told
    to. When the daemon dies the child goes within moments, and removes ``folder``, if there is one:
    nobody else is left to do it. What it prints is logged, line by line. Raises OSError when there
    is no child to be had now.
    """
    # Never forked from here: a fork beside threads may copy a lock that nobody will ever open.
    prepare_children()
    context = get_context("forkserver")
    ours, theirs = context.Pipe()
    output, printed = context.Pipe(duplex=False)
    process = context.Process(
        target=_run_child,
        args=(title, str(folder) if folder else "", target, theirs, printed, *shared),
        name=title,
        daemon=True,
    )
    try:
        process.start()
    except EOFError as error:  # at the next attempt there is another server
        raise OSError("the server that children are forked from is gone") from error
    finally:
        theirs.close()
        printed.close()
    _OUTPUTS[process] = ChildOutput(f"{title} {process.pid}", output)
    return process, ours


def end_child(process: ForkServerProcess) -> None:
    """Kill a child, if it still lives, and wait until it is gone."""
    process.kill()
    process.join()
    if process.exitcode == UNHEARD_OF and process.pid is not None:
        with contextlib.suppress(ProcessLookupError):
            os.kill(process.pid, signal.SIGKILL)
    if output := _OUTPUTS.pop(process, None):
        output.finish()


def _run_child(
    title: str,
    folder: str,
    target: str,
    pipe: Connection,
    output: Connection,
    *shared: Progress | Slots | SharedFile,
) -> None:
    """Settle in, before anything heavy is imported, and run the target."""
    for number in HEARD:
        signal.signal(number, signal.SIG_IGN)
    signal.pthread_sigmask(signal.SIG_UNBLOCK, HEARD)
    # Standard output is data, and the daemon's alone: what a middleware prints is a message, and
    # is on its way at the end of each line, since a process that is killed flushes nothing.
    for stream in (1, 2):
        os.dup2(output.fileno(), stream)
    output.close()
    if isinstance(sys.stdout, io.TextIOWrapper):
        sys.stdout.reconfigure(line_buffering=True)
    comm = Path("/proc/self/comm")
    if comm.exists():
        comm.write_text(title)
    watch = Thread(target=_die_with_parent, args=(folder,), name="parent-watch", daemon=True)
    watch.start()
    keep_freed_memory()
    module, _, function = target.partition(":")
    told = getattr(importlib.import_module(module), function)(pipe, *shared)
    parent = parent_process()
    if not told and parent is not None and connection.wait([parent.sentinel], LAST_LOOK):
        watch.join()  # it ended since the daemon died: the folder is still to be removed


def _die_with_parent(folder: str) -> None:
    parent = parent_process()
    if parent is None:
        return
    connection.wait([parent.sentinel])
    if folder:
        shutil.rmtree(folder, ignore_errors=True)
    os._exit(ORPHANED)
