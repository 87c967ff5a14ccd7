"""A client that wants the daemon to fail only troubles itself."""

from __future__ import annotations

import subprocess
import sys
from collections.abc import Iterator
from contextlib import suppress
from pathlib import Path
from typing import Final

import psutil
import pytest

from tests.adversaries.hostile_client import ATTACKS
from tests.daemon.running import RunningDaemon, left_behind, totals_agree, write_configuration

pytestmark = pytest.mark.timeout(120)

CLIENT: Final = Path(__file__).with_name("hostile_client.py")

SECONDS: Final = 1.0
"""How long each attack goes on."""

ANSWER: Final = 10.0
"""Seconds in which an operator must be answered; on an idle machine it takes some milliseconds."""

MOST_MEMORY: Final = 400 * 2**20
"""Bytes that the daemon may take; without an attack it is about a quarter."""


@pytest.fixture(scope="module")
def daemon(tmp_path_factory: pytest.TempPathFactory) -> Iterator[RunningDaemon]:
    """One daemon, attacked in every way one after the other."""
    directory = tmp_path_factory.mktemp("attacked")
    steps = [{"name": "adjacent", "use": "adjacent"}]
    write_configuration(directory, middleware=steps, workers={"count": 1})
    daemon = RunningDaemon(directory)
    daemon.wait_until_ready()
    yield daemon
    assert daemon.stop() == 0
    daemon.end()
    assert left_behind(directory) == []


@pytest.mark.parametrize("attack", ATTACKS)
def test_operators_and_producers_are_answered_while_others_attack(
    daemon: RunningDaemon, attack: str
) -> None:
    host, port = daemon.address
    command = [sys.executable, str(CLIENT), attack, host, str(port), str(SECONDS)]
    memory = psutil.Process(daemon.process.pid)
    largest = 0
    with subprocess.Popen(command) as client:
        try:
            while client.poll() is None:
                for path in ("/livez", "/readyz"):
                    assert daemon.ask("GET", path, limit=ANSWER).status == 200
                largest = max(largest, memory.memory_info().rss)
                with suppress(subprocess.TimeoutExpired):  # the attack needs the processor, too
                    client.wait(0.02)
        finally:
            client.kill()
    assert client.returncode == 0, "the attack came to its end"
    assert largest < MOST_MEMORY
    assert daemon.ask("GET", "/api/v1/middleware", limit=ANSWER).status == 200
    assert daemon.accept('{"cid":7,"time":8}')["accepted"] == 1
    assert totals_agree(daemon.settle())
