"""A class that hangs, or ends its process, as it is checked is named; nothing else happens."""

from __future__ import annotations

import os
import signal
import time
from pathlib import Path
from unittest.mock import patch

import pytest

from middleware.errors import ConfigurationError
from service.class_trial import try_out_classes
from tests.conftest import Command, StartDaemon
from tests.daemon.running import eventually, write_configuration

pytestmark = pytest.mark.timeout(60)

ODD = """
import os
import sys
import time
from pathlib import Path
from middleware import Middleware, SharedMiddleware

class Exits(Middleware):
    def __init__(self, params):
        os._exit(3)

    def handle(self, event):
        return event

class Hangs(SharedMiddleware):
    def handle(self, event):
        return event

    def snapshot(self):
        Path("hangs").touch()
        time.sleep(3600)

    def restore(self, state):
        pass
"""


@pytest.fixture(autouse=True)
def _odd(tmp_path: Path) -> None:
    (tmp_path / "odd_classes.py").write_text(ODD)


def configured(directory: Path, name: str) -> Path:
    return write_configuration(
        directory, source=(), middleware=[{"name": "odd", "use": f"odd_classes:{name}"}]
    )


@pytest.mark.parametrize("command", ["check", "run"])
def test_a_class_that_ends_its_process_is_named_with_a_way_on(
    penstock: Command, tmp_path: Path, command: str
) -> None:
    configured(tmp_path, "Exits")
    done = penstock(command, "--config", "penstock.toml")
    told = done.stderr.decode()
    assert done.returncode == 78
    assert "odd" in told
    assert "ended its process (exit code 3) as its class was tried out" in told
    assert "penstock run --without odd" in told
    assert not (tmp_path / "var").exists()


def test_a_class_that_hangs_is_named_soon_and_refused_in_the_end(
    tmp_path: Path, caplog: pytest.LogCaptureFixture, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.syspath_prepend(tmp_path)
    monkeypatch.chdir(tmp_path)
    path = configured(tmp_path, "Hangs")
    with (
        patch("service.class_trial.SLOW", 1.0),
        patch("service.class_trial.LIMIT", 2.0),
        pytest.raises(ConfigurationError, match=r"did not come to an end within 2 s") as refused,
    ):
        try_out_classes(path, ())
    assert "penstock run --without odd" in str(refused.value)
    assert any("odd: 1 s have passed" in each for each in caplog.messages)
    try_out_classes(path, ["odd"])


def test_a_signal_ends_a_start_whose_class_hangs(start_daemon: StartDaemon, tmp_path: Path) -> None:
    daemon = start_daemon(ready=False, middleware=[{"name": "odd", "use": "odd_classes:Hangs"}])
    eventually((tmp_path / "hangs").exists, "it hangs")
    os.kill(daemon.process.pid, signal.SIGTERM)
    began = time.monotonic()
    assert daemon.wait() == 128 + signal.SIGTERM
    assert time.monotonic() - began < 5
