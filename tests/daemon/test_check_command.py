"""``penstock check`` and ``schema``: a bad configuration is refused, with file, key and reason."""

from __future__ import annotations

import json
import os
import subprocess
from pathlib import Path
from typing import Any

import pytest

from tests.conftest import Command
from tests.daemon.running import write_configuration

pytestmark = pytest.mark.timeout(60)

ADJACENT = {"name": "adjacent", "use": "adjacent", "params": {"window": 300.0, "radius": 1}}
CONFIG = ("--config", "penstock.toml")
OK, BAD_CONFIGURATION = 0, 78


@pytest.fixture(autouse=True)
def _configuration(tmp_path: Path) -> None:
    write_configuration(tmp_path, middleware=[ADJACENT])


def test_check_describes_a_good_configuration(penstock: Command) -> None:
    done = penstock("check", *CONFIG)
    assert done.returncode == OK
    assert done.stdout == b"penstock.toml: ok: push -> adjacent (configured: enabled) -> kept\n"


BAD = [
    ({"workers": {"count": 0}}, ["workers.count", "1 or more", "got 0"]),
    ({"workers": {"cuont": 1}}, ["workers.cuont", "unknown", "count"]),
    ({"nothing": {}}, ["nothing", "unknown"]),
    ({"http": {"listen": "0.0.0.0:80"}}, ["http.listen", "loopback"]),
    ({"sink": []}, ["sink", "required"]),
    (
        {"middleware": [{**ADJACENT, "mode": "on"}]},
        ['middleware[0] "adjacent".mode', "enabled", '"on"'],
    ),
    ({"middleware": [{"name": "x", "use": "nowhere"}]}, ['[0] "x"', "nowhere", "adjacent"]),
    ({"middleware": [{"name": "x", "use": "nomodule:Class"}]}, ['middleware[0] "x"', "nomodule"]),
    ({"middleware": [{"name": "x", "use": "json:Nothing"}]}, ['middleware[0] "x"', "Nothing"]),
    ({"middleware": [{"name": "x", "use": "json:JSONDecoder"}]}, ["not a subclass of Middleware"]),
    (
        {"middleware": [{**ADJACENT, "params": {"widow": 1}}]},
        ['middleware[0] "adjacent".params', "widow", "window"],
    ),
    (
        {"middleware": [{**ADJACENT, "params": {"window": -1}}]},
        ['middleware[0] "adjacent".params', "window", "expected more than 0", "got -1"],
    ),
    ({"source": [{"name": "s", "use": "http", "params": {"prat": 1}}]}, ['source[0] "s"', "prat"]),
    ({"sink": [{"name": "k", "use": "ndjson"}]}, ['sink[0] "k"', "path"]),
]  # fmt: skip


@pytest.mark.parametrize("command", [["check"], ["run"], ["process", "-", "--output", "kept"]])
@pytest.mark.parametrize(("tables", "words"), [BAD[0], BAD[7], BAD[10]])
def test_every_command_refuses_a_bad_configuration(
    penstock: Command, tmp_path: Path, command: list[str], tables: Any, words: list[str]
) -> None:
    write_configuration(tmp_path, **tables)
    _assert_refused(penstock(*command, *CONFIG), words)
    assert not (tmp_path / "kept").exists()


@pytest.mark.parametrize(("tables", "words"), BAD)
def test_check_names_the_file_the_key_and_what_was_expected(
    penstock: Command, tmp_path: Path, tables: Any, words: list[str]
) -> None:
    write_configuration(tmp_path, **tables)
    _assert_refused(penstock("check", *CONFIG), words)


def _assert_refused(done: subprocess.CompletedProcess[bytes], words: list[str]) -> None:
    message = done.stderr.decode()
    if done.args[1] == "run":
        message = "\n".join(json.loads(line)["event"] for line in message.splitlines())
    assert done.returncode == BAD_CONFIGURATION, message
    assert done.stdout == b""
    assert all(line.startswith("penstock.toml: ") for line in message.splitlines())
    for word in words:
        assert word in message


def test_two_sources_cannot_share_a_path(penstock: Command, tmp_path: Path) -> None:
    write_configuration(
        tmp_path, source=[{"name": "one", "use": "http"}, {"name": "two", "use": "http"}]
    )
    _assert_refused(penstock("check", *CONFIG), ["two", "/api/v1/events"])


def test_a_middleware_file_with_a_mistake_is_named_with_its_line(
    penstock: Command, tmp_path: Path
) -> None:
    (tmp_path / "broken.py").write_text("import json\n\nnothing = json.nothing\n")
    write_configuration(tmp_path, middleware=[{"name": "x", "use": "broken:Broken"}])
    _assert_refused(penstock("check", *CONFIG), ['middleware[0] "x"', "broken.py:3", "nothing"])


@pytest.mark.parametrize("command", [["check"], ["run"], ["middleware", "list"]])
def test_a_missing_configuration_is_named(penstock: Command, command: list[str]) -> None:
    done = penstock(*command, "--config", "absent.toml")
    assert done.returncode == BAD_CONFIGURATION
    assert (
        b"absent.toml: cannot be read: No such file or directory; name another with --config"
        in (done.stderr)
    )


def test_the_schema_is_one(penstock: Command) -> None:
    done = penstock("schema")
    assert done.returncode == OK
    schema = json.loads(done.stdout)
    assert {"event", "source", "middleware", "sink", "workers"} <= schema["properties"].keys()


def test_a_file_or_a_stream_that_cannot_be_shared_is_named(
    penstock: Command, tmp_path: Path
) -> None:
    (tmp_path / "there.ndjson").touch()
    os.link(tmp_path / "there.ndjson", tmp_path / "link.ndjson")
    (tmp_path / "symbolic.ndjson").symlink_to("new.ndjson")

    def file_sink(name: str, path: str) -> dict[str, Any]:
        return {"name": name, "use": "ndjson", "params": {"path": path}}

    def file_source(name: str, *paths: str) -> dict[str, Any]:
        return {"name": name, "use": "ndjson", "params": {"paths": list(paths)}}

    write_configuration(
        tmp_path,
        sink=[
            file_sink("a", "new.ndjson"),
            file_sink("b", "./new.ndjson"),
            file_sink("c", "symbolic.ndjson"),
            file_sink("d", "there.ndjson"),
            file_sink("e", "link.ndjson"),
            file_sink("f", "/dev/null"),
            file_sink("g", "/dev/null"),
            {"name": "h", "use": "stdout"},
            {"name": "i", "use": "stdout"},
            {"name": "n", "use": "sql", "params": {"url": "sqlite:///kept.db"}},
            {"name": "o", "use": "sql", "params": {"url": "sqlite:///kept.db", "table": "too"}},
            file_sink("p", "kept.db"),
            file_sink("q", "var/penstock.db"),
            file_sink("r", "var/journal/kept.ndjson"),
            file_sink("s", "var/kept.ndjson"),
        ],
        source=[
            file_source("j", "in.ndjson", "./in.ndjson"),
            file_source("k", "in.ndjson", "there.ndjson"),
            {"name": "l", "use": "stdin"},
            {"name": "m", "use": "stdin"},
        ],
    )
    done = penstock("check", *CONFIG)
    assert done.returncode == BAD_CONFIGURATION
    told = [line.removeprefix("penstock.toml: ") for line in done.stderr.decode().splitlines()]
    assert told == [
        'sink "b": the sink "a" writes to new.ndjson already',
        'sink "c": the sink "a" writes to symbolic.ndjson already',
        'sink "e": the sink "d" writes to link.ndjson already',
        'sink "i": the sink "h" writes to standard output already',
        'sink "p": the sink "o" writes to kept.db already',
        'sink "q": var/penstock.db is where Penstock keeps its state: give another path',
        'sink "r": var/journal/kept.ndjson is where Penstock keeps its state: give another path',
        'source "j": reads in.ndjson twice',
        'source "k": the sink "d" writes to there.ndjson',
        'source "m": the source "l" reads standard input already',
    ]
