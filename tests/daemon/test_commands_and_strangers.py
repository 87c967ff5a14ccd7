"""What others wrote steers neither what a command runs nor the terminal it prints to."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from middleware.wording import printable
from tests.conftest import Command, StartDaemon
from tests.daemon.running import write_configuration

pytestmark = pytest.mark.timeout(60)

HOSTILE = "\x1b]0;owned\x07 \x9b31m \x7f \u202egnp.exe"
STEERING = ("\x1b", "\x9b", "\x07", "\x7f", "\u202e")
SHADOWED = ("numpy", "pydantic", "click", "signal", "msgspec", "json")
CONFIG = ("--config", "penstock.toml")


@pytest.fixture
def _shadows(tmp_path: Path) -> None:
    """Lay files into the working folder that are called like what Penstock imports."""
    for name in SHADOWED:
        (tmp_path / f"{name}.py").write_text(f"open('imported-{name}', 'w')\nraise SystemExit(9)\n")


@pytest.mark.usefixtures("_shadows")
def test_no_command_runs_what_lies_in_the_working_folder(penstock: Command, tmp_path: Path) -> None:
    (tmp_path / "mine.py").write_text(
        "from middleware import Middleware\n\n\n"
        "class Mine(Middleware):\n    def handle(self, event):\n        return event\n"
    )
    write_configuration(tmp_path, middleware=[{"name": "mine", "use": "mine:Mine"}])
    (tmp_path / "in.ndjson").write_text('{"cid": 1, "time": 1}\n')
    assert penstock("dead", "list", "--url", "127.0.0.1:1").returncode == 1
    assert penstock("check", *CONFIG).returncode == 0, "a class of one's own is found"
    done = penstock("process", "in.ndjson", "--output", "out.ndjson", *CONFIG)
    assert done.returncode == 0, done.stderr
    assert list(tmp_path.glob("imported-*")) == []


def test_what_others_wrote_reaches_no_terminal_raw(
    start_daemon: StartDaemon, penstock: Command
) -> None:
    step = {"name": "blocked", "use": "blocklist", "params": {"cids": [7]}}
    daemon = start_daemon(middleware=[step])
    told = daemon.switch("blocked", mode="shadow", reason=HOSTILE)
    good = json.dumps({"cid": 7, "time": 1, "x": HOSTILE}, ensure_ascii=False)
    daemon.accept(f'{good}\n{{"cid": 1, "time": 1, \x1b}}\n')
    daemon.settle()
    url = ("--url", daemon.url.removeprefix("http://"))
    said = [
        penstock("middleware", "show", "blocked", *url).stdout,
        penstock("middleware", "list", *url).stdout,
        penstock("middleware", "disable", "blocked", "--reason", HOSTILE, *url).stdout,
        penstock("middleware", "show", "\x1b[2J", *url).stderr,
        penstock("dead", "list", *url).stdout,
        penstock("replay", *CONFIG).stdout,
    ]
    assert said[0].decode().splitlines()[-1].endswith(printable(HOSTILE))
    for each in said:
        assert each.strip()
        assert not [character for character in STEERING if character in each.decode()], each
    listed = penstock("middleware", "show", "blocked", "--json", *url).stdout
    assert json.loads(listed)["reason"] == told["reason"] == HOSTILE
