"""What every child process does first: take a name, leave signals to its parent, die with it."""

from __future__ import annotations

import os
import shutil
import signal
from multiprocessing import connection, parent_process
from pathlib import Path
from threading import Thread

ORPHANED = 75
"""Exit code of a child whose daemon died."""


def settle_in(title: str, directory: Path | None = None) -> None:
    """Make this process a child of the daemon; ``title`` (15 characters at most) is its name in ps.

    When the daemon dies the child goes within moments, and removes ``directory`` first: nobody is
    left to do it.
    """
    # The terminal's Ctrl-C and a service manager's TERM reach the whole group; the daemon decides.
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    signal.signal(signal.SIGTERM, signal.SIG_IGN)
    comm = Path("/proc/self/comm")
    if comm.exists():
        comm.write_text(title)
    Thread(target=_die_with_parent, args=(directory,), name="parent-watch", daemon=True).start()


def _die_with_parent(directory: Path | None) -> None:
    parent = parent_process()
    if parent is None:
        return
    connection.wait([parent.sentinel])
    if directory is not None:
        shutil.rmtree(directory, ignore_errors=True)
    os._exit(ORPHANED)
