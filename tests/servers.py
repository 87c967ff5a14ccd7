"""A real PostgreSQL server for tests, in a folder of its own, which ends with them."""

from __future__ import annotations

import os
import shutil
import signal
import subprocess
import tempfile
from pathlib import Path
from typing import Final

import psycopg
import pytest

from tests.daemon.running import eventually

LIMIT: Final = 60
"""Seconds a server may take for anything."""

USER: Final = "postgres"
"""Whom the server runs as when the tests run as root, which it refuses to."""


class PostgresServer:
    """A server that listens on a socket in its folder only, and writes no disk through."""

    def __init__(self, programs: Path) -> None:
        """Make a cluster with the programs of one version; nothing runs yet."""
        self.folder = Path(tempfile.mkdtemp(prefix="penstock-postgres-"))
        self._programs = programs
        self._process: subprocess.Popen[bytes] | None = None
        # Whatever becomes of the tests, the server ends with them.
        self._with = ["setpriv", "--pdeathsig", "INT"]
        if os.getuid() == 0:
            shutil.chown(self.folder, USER, USER)
            self._with += [f"--reuid={USER}", f"--regid={USER}", "--init-groups"]
        options = ["-A", "trust", "-U", "penstock", "-E", "UTF8", "--locale=C", "--no-sync"]
        self._run("initdb", "-D", str(self.folder / "data"), *options)

    def start(self) -> None:
        """Start and wait until it answers."""
        settings = ["listen_addresses=", "fsync=off", "max_connections=20"]
        self._process = subprocess.Popen(
            [
                *self._with,
                str(self._programs / "postgres"),
                *("-D", str(self.folder / "data"), "-k", str(self.folder)),
                *(part for setting in settings for part in ("-c", setting)),
            ],
            cwd=self.folder,
            stderr=subprocess.DEVNULL,
        )
        eventually(self._answers, "PostgreSQL answers", limit=LIMIT)

    def stop(self) -> None:
        """Stop at once, cutting every connection, and wait for the end."""
        if self._process is not None:
            self._process.send_signal(signal.SIGINT)
            assert self._process.wait(timeout=LIMIT) == 0
            self._process = None

    def remove(self) -> None:
        """Stop and leave nothing behind."""
        self.stop()
        shutil.rmtree(self.folder)

    def url(self, database: str = "postgres") -> str:
        """Return the URL of a database, with a password that nobody asks for."""
        return f"postgresql://penstock:secret-word@/{database}?host={self.folder}"

    def connect(self, database: str = "postgres") -> psycopg.Connection[tuple[object, ...]]:
        """Return a connection where every statement is a transaction."""
        return psycopg.connect(
            host=str(self.folder), user="penstock", dbname=database, autocommit=True
        )

    def _answers(self) -> bool:
        assert self._process is not None
        assert self._process.poll() is None, "PostgreSQL ended while it was starting"
        try:
            self.connect().close()
        except psycopg.OperationalError:
            return False
        return True

    def _run(self, program: str, *arguments: str) -> None:
        command = [*self._with, str(self._programs / program), *arguments]
        done = subprocess.run(
            command, cwd=self.folder, capture_output=True, text=True, timeout=LIMIT, check=False
        )
        assert done.returncode == 0, done.stderr


def postgres_server() -> PostgresServer:
    """Return a server that runs; skips the test where PostgreSQL is not installed."""
    found = sorted(Path("/usr/lib/postgresql").glob("*/bin/postgres"))
    if not found or shutil.which("setpriv") is None:
        pytest.skip("PostgreSQL is not installed (make system-packages)")
    server = PostgresServer(max(found, key=lambda path: int(path.parts[-3])).parent)
    try:
        server.start()
    except BaseException:
        server.remove()
        raise
    return server
