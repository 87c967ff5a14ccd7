"""``penstock dead``: what it asks the daemon, what it prints, and how it ends."""

from __future__ import annotations

import json
from collections.abc import Callable
from typing import Any

import pytest
from click.testing import CliRunner, Result
from flask import Flask

from middleware.errors import PenstockError
from service import client as client_module
from service.admin import dead_letters as api_module
from service.admin.dead_letters import dead_letters_api
from service.admin.problems import handle_problems
from service.commands import dead as dead_module
from service.commands.dead import dead
from service.dead_letter_store import DeadLetterStore, Status
from service.errors import QueueFull
from service.passage import DeadLetter
from tests.dead_letters.letters import LONGEST, FakeQueue, bad, failed, numbered, origin

OK, FAILED, USAGE = 0, 1, 2
URL = "http://127.0.0.1:1"
Command = Callable[..., Result]


@pytest.fixture
def queue() -> FakeQueue:
    return FakeQueue()


@pytest.fixture
def command(store: DeadLetterStore, queue: FakeQueue, monkeypatch: pytest.MonkeyPatch) -> Command:
    """Run ``penstock dead`` against the real API, without a server between."""
    app = Flask("test")
    app.json.sort_keys = False  # type: ignore[attr-defined]  # of the default provider
    handle_problems(app)
    api = dead_letters_api(store, queue.submit)
    app.register_blueprint(api, url_prefix="/api/v1/dead-letters")

    def ask(url: str, method: str, path: str, body: object = None, query: Any = None) -> Any:
        assert url == URL
        answer = app.test_client().open(path, method=method, json=body, query_string=query)
        document = answer.get_json(force=True)
        if answer.status_code >= 400:
            raise PenstockError(document["detail"])
        return document

    monkeypatch.setattr(client_module, "ask", ask)
    store.write(numbered(1), [*bad(0), failed(11)], origin)
    store.refuse("kept", numbered(2), failed(0, "adjacent"), origin)
    return lambda *arguments, **more: CliRunner().invoke(dead, [*arguments, "--url", URL], **more)


def test_letters_are_listed_in_columns_with_where_they_died(command: Command) -> None:
    done = command("list")
    assert done.exit_code == OK
    assert done.stdout.splitlines() == [
        "2.0:kept  waiting  kept    push:1   handle raised",
        "1.11      waiting  lookup  push:12  handle raised",
        "1.0       waiting  border  push:1   not JSON",
    ]
    assert done.stderr == "in all 3 waiting, 0 redriven, 0 discarded\n"


def test_a_list_says_how_to_go_on(command: Command) -> None:
    done = command("list", "--limit", "2")
    assert len(done.stdout.splitlines()) == 2
    assert done.stderr.endswith("; for more: --after 1.11\n")
    assert command("list", "--after", "1.11").stdout.startswith("1.0 ")


def test_a_list_of_nothing_is_empty(command: Command) -> None:
    done = command("list", "--status", "discarded", "--middleware", "lookup", "--source", "push")
    assert (done.exit_code, done.stdout) == (OK, "")


def test_a_long_reason_is_cut_in_a_list_and_steers_no_terminal(
    command: Command, store: DeadLetterStore
) -> None:
    store.write(numbered(3), [DeadLetter(0, b"\x1b[2J", "\x1b[31m\nred " + "x" * 200)], origin)
    first = command("list").stdout.splitlines()[0]
    assert "\\x1b[31m red x" in first
    assert first.endswith("xxx...")
    shown = command("show", "3.0").stdout
    assert "\x1b" not in shown
    assert "event         \\x1b[2J\n" in shown


def test_one_is_shown_with_its_traceback_as_it_was(
    command: Command, store: DeadLetterStore
) -> None:
    traceback = 'Traceback:\n  File "lookup.py", line 7\nKeyError: 13\n'
    store.write(numbered(3), [DeadLetter(0, b'{"cid": 1}', "raised", "x", 3, traceback)], origin)
    done = command("show", "3.0")
    assert done.exit_code == OK
    assert 'event         {"cid": 1}\n' in done.stdout
    assert "status        waiting since 20" in done.stdout
    assert done.stdout.endswith(f"\n\n{traceback}")


def test_one_that_was_cut_is_shown_as_such(command: Command, store: DeadLetterStore) -> None:
    store.write(numbered(3), bad(0, event=b"x" * (LONGEST + 1)), origin)
    assert "was cut: it cannot be re-driven" in command("show", "3.0").stdout


def test_named_letters_are_redriven(command: Command, queue: FakeQueue) -> None:
    done = command("redrive", "1.11", "2.0:kept", "--reason", "mended")
    assert done.exit_code == OK
    assert done.stdout == "1.11: redriven as 1001.0\n2.0:kept: redriven as 1002.0\n"
    assert len(queue.accepted) == 2


def test_all_are_redriven_request_by_request(
    command: Command, queue: FakeQueue, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(api_module, "MOST", 1)
    done = command("redrive", "--all")
    assert done.exit_code == OK
    assert [line.split(":")[0] for line in done.stdout.splitlines()] == ["1.0", "1.11", "2.0"]
    assert len(queue.accepted) == 3
    assert command("redrive", "--all").stderr == "no dead letter waits\n"


def test_redriving_all_stops_where_the_daemon_takes_no_more(
    command: Command, queue: FakeQueue, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(api_module, "MOST", 1)
    queue.trouble = QueueFull("the queue is full")
    done = command("redrive", "--all")
    assert done.exit_code == FAILED
    assert done.stdout == "1.0: waiting: the queue is full\n"
    assert "still wait" in done.stderr


def test_letters_are_discarded(command: Command, store: DeadLetterStore) -> None:
    assert command("discard", "--all", "--middleware", "lookup", "--yes").stdout == (
        "1.11: discarded\n"
    )
    assert command("discard", "1.0").stdout == "1.0: discarded\n"
    assert store.counts() == {"waiting": 1, "redriven": 0, "discarded": 2}


def test_all_are_discarded_only_when_that_was_confirmed(
    command: Command, store: DeadLetterStore, monkeypatch: pytest.MonkeyPatch
) -> None:
    refused = command("discard", "--all")
    assert refused.exit_code == USAGE
    assert "add --yes" in refused.stderr
    monkeypatch.setattr(dead_module, "_somebody_watches", lambda: True)
    for answer, status, waiting in (("", FAILED, 3), ("n\n", FAILED, 3), ("y\n", OK, 0)):
        done = command("discard", "--all", input=answer)
        assert "3 dead letters wait. Discard all? This is not undone. [y/N]" in done.stderr
        assert (done.exit_code, store.counts()[Status.WAITING]) == (status, waiting)


def test_a_letter_that_is_not_there_fails_the_command_but_not_the_others(
    command: Command,
) -> None:
    done = command("discard", "7.7", "1.0")
    assert done.exit_code == FAILED
    assert done.stdout == "7.7: unknown: there is no such dead letter\n1.0: discarded\n"
    shown = command("show", "7.7")
    assert (shown.exit_code, shown.stdout) == (FAILED, "")
    assert shown.stderr == "penstock: there is no dead letter 7.7\n"


@pytest.mark.parametrize(
    ("arguments", "expected"),
    [
        (["list"], ["counts", "dead_letters", "next"]),
        (["redrive", "1.0"], ["next", "results"]),
        (["discard", "--all", "--yes"], ["next", "results"]),
    ],
)
def test_json_is_what_the_daemon_answered(
    command: Command, arguments: list[str], expected: list[str]
) -> None:
    assert sorted(json.loads(command(*arguments, "--json").stdout)) == expected


def test_json_of_one_has_its_event(command: Command) -> None:
    assert json.loads(command("show", "1.0", "--json").stdout)["event"] == "bad"


@pytest.mark.parametrize("act", ["redrive", "discard"])
@pytest.mark.parametrize(
    "arguments", [[], ["1.0", "--all"], ["1.0", "--source", "push"], ["--source", "push"]]
)
def test_what_is_meant_must_be_said(
    command: Command, store: DeadLetterStore, act: str, arguments: list[str]
) -> None:
    assert command(act, *arguments).exit_code == USAGE
    assert store.counts()[Status.WAITING] == 3
