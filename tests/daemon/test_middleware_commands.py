"""``penstock middleware``: looking at the middleware of a running daemon, and switching them."""

from __future__ import annotations

import json
from collections.abc import Iterator
from http.server import BaseHTTPRequestHandler, HTTPServer
from pathlib import Path
from threading import Thread
from typing import Any

import pytest

from tests.conftest import Command
from tests.daemon.running import RunningDaemon, left_behind, write_configuration

pytestmark = pytest.mark.timeout(60)

ADJACENT = {"name": "adjacent", "use": "adjacent", "params": {"window": 300.0, "radius": 1}}
CONFIG = ("--config", "penstock.toml")
OK, FAILED, USAGE = 0, 1, 2


@pytest.fixture(scope="module")
def daemon(tmp_path_factory: pytest.TempPathFactory) -> Iterator[RunningDaemon]:
    directory = tmp_path_factory.mktemp("commands")
    blocked = {"name": "blocked", "use": "blocklist", "params": {"cids": [13]}}
    bare = {"name": "bare", "use": "adjacent"}
    write_configuration(directory, middleware=[ADJACENT, blocked, bare], workers={"count": 1})
    daemon = RunningDaemon(directory)
    daemon.wait_until_ready()
    yield daemon
    daemon.end()
    assert left_behind(directory) == []


def test_the_middleware_are_listed(penstock: Command, daemon: RunningDaemon) -> None:
    done = penstock("middleware", "list", "--url", daemon.url)
    assert done.returncode == OK
    first, second, _ = done.stdout.decode().splitlines()
    assert first.split()[:2] == ["adjacent", "enabled"]
    assert "window=300.0" in first
    assert second.split()[:2] == ["blocked", "enabled"]
    answer = penstock("middleware", "list", "--json", "--url", daemon.url)
    assert json.loads(answer.stdout) == daemon.get("/api/v1/middleware")


@pytest.mark.parametrize(
    ("arguments", "expected"),
    [
        (["shadow", "adjacent"], {"mode": "shadow"}),
        (["disable", "adjacent"], {"mode": "disabled"}),
        (["enable", "adjacent"], {"mode": "enabled"}),
        (["set", "adjacent", "window=600"], {"params": {"window": 600, "radius": 1}}),
        (["set", "adjacent", "window=300.0", "refresh=kept"],
         {"params": {"window": 300.0, "radius": 1, "refresh": "kept"}}),
        (["set", "blocked", "cids=[1, 2]"], {"params": {"cids": [1, 2]}}),
    ],
)  # fmt: skip
def test_a_middleware_is_switched_and_the_switch_told(
    penstock: Command, daemon: RunningDaemon, arguments: list[str], expected: dict[str, Any]
) -> None:
    name = arguments[1]
    done = penstock("middleware", *arguments, "--reason", "a test", "--url", daemon.url, "--json")
    assert done.returncode == OK
    told = json.loads(done.stdout)
    assert told | expected == told
    assert told["reason"] == "a test"
    assert daemon.get(f"/api/v1/middleware/{name}") == told


def test_a_switch_is_told_in_words(penstock: Command, daemon: RunningDaemon) -> None:
    done = penstock("middleware", "enable", "adjacent", "--url", daemon.url)
    words = done.stdout.decode()
    assert words.startswith("adjacent: enabled window=")
    assert f"from offset {daemon.get('/api/v1/middleware/adjacent')['offset']} on" in words


def test_what_takes_no_parameters_is_told_in_words_alike(
    penstock: Command, daemon: RunningDaemon
) -> None:
    done = penstock("middleware", "disable", "bare", "--url", daemon.url)
    offset = daemon.get("/api/v1/middleware/bare")["offset"]
    assert done.stdout.decode() == f"bare: disabled, from offset {offset} on\n"


def test_one_is_shown_with_all_there_is_to_know(penstock: Command, daemon: RunningDaemon) -> None:
    daemon.switch("blocked", mode="shadow", reason="a look")
    done = penstock("middleware", "show", "blocked", "--url", daemon.url)
    shown = dict(line.split(maxsplit=1) for line in done.stdout.decode().splitlines())
    described = daemon.get("/api/v1/middleware/blocked")
    assert shown["mode"] == "shadow"
    assert shown["offset"] == described["offset"]
    assert shown["reason"] == "a look"
    assert shown["params"].startswith("cids=[")
    answer = penstock("middleware", "show", "blocked", "--json", "--url", daemon.url)
    assert json.loads(answer.stdout) == described


def test_a_reason_stays_with_what_it_was_given_for(
    penstock: Command, daemon: RunningDaemon
) -> None:
    offset = daemon.switch("blocked", mode="disabled", reason="line 3")["offset"]
    daemon.switch("blocked", params={"cids": [14]})
    shown = penstock("middleware", "show", "blocked", "--url", daemon.url).stdout.decode()
    assert f"switched    mode at offset {offset}, " in shown
    assert ": line 3\n" in shown
    assert "params.cids at offset" in shown


def test_the_log_of_a_switch_says_what_becomes_of_the_memory(daemon: RunningDaemon) -> None:
    daemon.switch("adjacent", params={"window": 200.0}, reason="narrower")
    assert "(narrower); its memory is kept" in daemon.log
    daemon.switch("adjacent", params={"by": ["rack"]}, reason="racks apart")
    assert "(racks apart); its memory is emptied" in daemon.log
    daemon.switch("adjacent", params={"window": 300.0, "by": []})


def test_an_address_needs_no_scheme(penstock: Command, daemon: RunningDaemon) -> None:
    host, port = daemon.address
    for url in (f"{host}:{port}", f"http://{host}:{port}/"):
        assert penstock("middleware", "list", "--url", url).returncode == OK
    done = penstock("middleware", "list", "--url", f"http://{host}:{port}/api")
    assert done.returncode == USAGE
    assert f"give only address and port: --url http://{host}:{port}".encode() in done.stderr


def test_a_memory_is_reset(penstock: Command, daemon: RunningDaemon) -> None:
    before = daemon.get("/api/v1/middleware/adjacent")["resets"]
    assert penstock("middleware", "reset", "adjacent", "--url", daemon.url).returncode == OK
    assert daemon.get("/api/v1/middleware/adjacent")["resets"] == before + 1


@pytest.mark.parametrize(
    ("arguments", "code", "words"),
    [
        (["enable", "nobody"], FAILED, ["nobody", "adjacent, blocked"]),
        (["enable", "no body"], FAILED, ["no body", "adjacent, blocked"]),
        (["enable", "ångström"], FAILED, ["ångström"]),
        (["set", "adjacent", "window=-1"], FAILED, ["window"]),
        (["set", "adjacent", "widow=1"], FAILED, ["widow"]),
        (["set", "adjacent", "window"], USAGE, ["PARAM=VALUE"]),
        (["reset", "blocked"], FAILED, ["remembers nothing"]),
    ],
)
def test_a_refused_switch_is_told(
    penstock: Command, daemon: RunningDaemon, arguments: list[str], code: int, words: list[str]
) -> None:
    done = penstock("middleware", *arguments, "--url", daemon.url)
    assert done.returncode == code
    for word in words:
        assert word in done.stderr.decode()
    assert b"Traceback" not in done.stderr


@pytest.mark.parametrize(
    "url", ["http://127.0.0.1:1", "127.0.0.1:1", "localhost:1", "nonsense", "http://[::1"]
)
def test_where_no_daemon_is_a_message_says_so(penstock: Command, url: str) -> None:
    done = penstock("middleware", "list", "--url", url)
    assert done.returncode in {FAILED, USAGE}
    assert url in done.stderr.decode()
    assert b"Traceback" not in done.stderr


def test_the_configured_address_is_asked(penstock: Command, tmp_path: Path) -> None:
    write_configuration(tmp_path, http={"listen": "127.0.0.1:1"})
    done = penstock("middleware", "list", *CONFIG)
    assert done.returncode == FAILED
    assert b"no daemon answers at http://127.0.0.1:1" in done.stderr


class NotADaemon(BaseHTTPRequestHandler):
    """Another server, which knows nothing of middleware; it answers with ``status``, or nothing."""

    status: int | None

    def do_GET(self) -> None:
        if self.status is None:
            return
        body = b"<h1>hello</h1>"
        self.send_response(self.status)
        self.send_header("Content-Length", str(len(body)))
        self.end_headers()
        self.wfile.write(body)

    def log_message(self, format: str, *args: Any) -> None:  # noqa: A002 - the base's name
        pass


@pytest.mark.parametrize("status", [200, 404, None])
def test_another_server_is_not_taken_for_a_daemon(
    penstock: Command, monkeypatch: pytest.MonkeyPatch, status: int | None
) -> None:
    monkeypatch.setattr(NotADaemon, "status", status, raising=False)
    with HTTPServer(("127.0.0.1", 0), NotADaemon) as server:
        serving = Thread(target=server.serve_forever)
        serving.start()
        try:
            url = f"http://127.0.0.1:{server.server_port}"
            done = penstock("middleware", "list", "--url", url)
        finally:
            server.shutdown()
            serving.join()
    assert done.returncode == FAILED
    assert url in done.stderr.decode()
    assert b"Traceback" not in done.stderr


def test_a_proxy_of_the_environment_is_not_asked(
    penstock: Command, daemon: RunningDaemon, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("http_proxy", "http://127.0.0.1:1")
    assert penstock("middleware", "list", "--url", daemon.url).returncode == OK
