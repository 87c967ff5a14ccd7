"""A daemon that is killed and started again, at the same address and over the same state."""

from __future__ import annotations

import random
from collections.abc import Mapping
from pathlib import Path
from typing import Any, Final

import psutil

from tests.daemon.running import RunningDaemon, left_behind, totals_agree, write_configuration
from tests.faults.chaos import STATE, WORKER, children
from tests.faults.producers import Producers, free_port

DAEMON: Final = "penstock"


class MortalDaemon:
    """One daemon after the other in one directory."""

    def __init__(
        self, directory: Path, env: Mapping[str, str] | None = None, **tables: Any
    ) -> None:
        """Write the configuration with ``tables`` and start the first one, with ``env``."""
        self.directory = directory
        self.port = free_port()
        http = {"listen": f"127.0.0.1:{self.port}"}
        write_configuration(directory, http=http, **tables)
        self.lives = 1
        self.running = RunningDaemon(directory, env=env)

    def start_again(self) -> None:
        """Start the next one; the one before must have ended."""
        self.running = RunningDaemon(self.directory)
        self.lives += 1

    def kill(self, name: str, choice: random.Random) -> bool:
        """Kill the daemon, or one of its children; False when there is none to kill."""
        if name == DAEMON:
            self.running.process.kill()
            self.running.wait()
            self.start_again()
            return True
        victims = self.victims(name)
        if not victims:
            return False
        choice.choice(victims).kill()
        return True

    def victims(self, name: str) -> list[psutil.Process]:
        """Return the living children that are called so: WORKER or STATE."""
        assert name in {WORKER, STATE}
        return children(psutil.Process(self.running.process.pid), name)

    def finish(self, producers: Producers, expected_of: Any) -> Any:
        """Check that what came out is what was confirmed, and all accounted for; returns stats.

        ``expected_of`` gets what was confirmed, in order, and returns what is to come out.
        """
        stats = self.running.settle(60)
        confirmed = producers.in_order()
        assert self.running.kept() == expected_of(confirmed)
        assert totals_agree(stats)
        assert stats["accepted"] == confirmed.count(b"\n")
        return stats

    def end(self) -> None:
        """End the last one; nothing is left behind."""
        self.running.end()
        assert left_behind(self.directory) == []
