"""A class that hangs, or ends its process, as it is checked is named; nothing else happens."""

from __future__ import annotations

import os
import signal
import time
from pathlib import Path
from typing import Any
from unittest.mock import patch

import pytest

from middleware.errors import ConfigurationError
from service.class_trial import try_out_classes
from service.configured import checked_settings
from tests.conftest import Command, StartDaemon
from tests.daemon.running import eventually, write_configuration

pytestmark = pytest.mark.timeout(60)

ODD = """
import os
import sys
import time
from pathlib import Path
from middleware import Middleware, SharedMiddleware
from service.sinks.sink import Sink
from service.sources.source import Source

def be_odd(odd):
    if odd == "raises":
        raise RuntimeError("no such file")
    if odd == "exits":
        sys.exit(3)
    if odd == "ends":
        os._exit(3)
    if odd == "hangs":
        time.sleep(3600)
    return {"is None": None, "is a number": [1]}[odd]

class OddSource(Source):
    class Params(Source.Params):
        odd: str

    def start(self):
        pass

    def reads(self):
        return be_odd(self.params.odd)

class OddSink(Sink):
    class Params(Sink.Params):
        odd: str

    def write(self, emission):
        pass

    def writes(self):
        return be_odd(self.params.odd)

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


CLAIMS = {
    "raises": "raised RuntimeError: no such file (",
    "exits": "raised SystemExit: 3 (",
    "is None": "raised TypeError: ",
    "is a number": "raised TypeError: expected paths, or the name of a stream, got 1 (",
}


@pytest.mark.parametrize("odd", CLAIMS)
@pytest.mark.parametrize(
    ("kind", "method"), [("source", "OddSource.reads"), ("sink", "OddSink.writes")]
)
def test_a_class_that_cannot_say_what_it_reads_or_writes_is_named_with_a_way_on(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, kind: str, method: str, odd: str
) -> None:
    monkeypatch.syspath_prepend(tmp_path)
    monkeypatch.chdir(tmp_path)
    path = claiming(tmp_path, kind, odd)
    with pytest.raises(ConfigurationError) as refused:
        checked_settings(path)
    (told,) = str(refused.value).splitlines()
    assert told.startswith(f'{path}: {kind}[0] "odd": {method} {CLAIMS[odd]}')
    assert "penstock run --without odd" in told


@pytest.mark.parametrize("odd", ["ends", "hangs"])
@pytest.mark.parametrize("kind", ["source", "sink"])
def test_a_class_that_ends_or_hangs_as_it_says_so_is_the_one_that_is_named(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, kind: str, odd: str
) -> None:
    monkeypatch.syspath_prepend(tmp_path)
    monkeypatch.chdir(tmp_path)
    with (
        patch("service.class_trial.SLOW", 1.0),
        patch("service.class_trial.LIMIT", 2.0),
        pytest.raises(ConfigurationError, match=r'"odd" (ended|did not come to an end)'),
    ):
        try_out_classes(claiming(tmp_path, kind, odd), ())


def claiming(directory: Path, kind: str, odd: str) -> Path:
    """Write a configuration whose first source or sink is odd; others follow."""
    use = {"source": "odd_classes:OddSource", "sink": "odd_classes:OddSink"}[kind]
    others: dict[str, Any] = {
        "source": [{"name": "push", "use": "http"}],
        "sink": [{"name": "out", "use": "stdout"}],
    }
    others[kind].insert(0, {"name": "odd", "use": use, "params": {"odd": odd}})
    return write_configuration(directory, **others)


def test_a_signal_ends_a_start_whose_class_hangs(start_daemon: StartDaemon, tmp_path: Path) -> None:
    daemon = start_daemon(ready=False, middleware=[{"name": "odd", "use": "odd_classes:Hangs"}])
    eventually((tmp_path / "hangs").exists, "it hangs")
    os.kill(daemon.process.pid, signal.SIGTERM)
    began = time.monotonic()
    assert daemon.wait() == 128 + signal.SIGTERM
    assert time.monotonic() - began < 5
