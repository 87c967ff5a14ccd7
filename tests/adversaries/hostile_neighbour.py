"""A neighbour that holds on to files of a daemon's state directory: ``HOW PATH [HOW PATH ...]``.

Says of each, on a line, whether it is ``held`` or ``refused``, then holds them until its standard
input ends. Knows nothing of the daemon but its files.
"""

from __future__ import annotations

import fcntl
import os
import sqlite3
import sys
from collections.abc import Callable
from typing import Final

FLAGS: Final = {
    "shared": fcntl.LOCK_SH | fcntl.LOCK_NB,
    "exclusive": fcntl.LOCK_EX | fcntl.LOCK_NB,
}
TRANSACTIONS: Final = {
    "reads": "BEGIN; SELECT count(*) FROM sqlite_master",
    "writes": "BEGIN IMMEDIATE",
    "excludes": "BEGIN EXCLUSIVE",
}


def hold(how: str, path: str) -> object:
    """Take a hold of one file; raises OSError or sqlite3.Error."""
    if how in TRANSACTIONS:
        connection = sqlite3.connect(path, isolation_level=None, timeout=0.2)
        for statement in TRANSACTIONS[how].split(";"):
            connection.execute(statement).fetchall()
        return connection
    kind, _, flags = how.partition("-")
    lock: Callable[[int, int], None] = fcntl.flock if kind == "flock" else fcntl.lockf
    writes = kind == "lockf" and flags == "exclusive"
    descriptor = os.open(path, os.O_RDWR if writes else os.O_RDONLY)
    lock(descriptor, FLAGS[flags])
    return descriptor


def main(arguments: list[str]) -> None:
    """Hold what is asked for."""
    held = []
    for how, path in zip(arguments[::2], arguments[1::2], strict=True):
        try:
            held.append(hold(how, path))
            answer = "held"
        except (OSError, sqlite3.Error):
            answer = "refused"
        sys.stdout.write(f"{answer}\n")
        sys.stdout.flush()
    sys.stdin.read()


if __name__ == "__main__":
    main(sys.argv[1:])
