"""Looking at middleware and switching them over HTTP, while events flow."""

from __future__ import annotations

import random
from collections.abc import Iterator
from threading import Condition, Thread
from typing import Any

import pytest

from tests.conftest import StartDaemon
from tests.daemon.clients import post_all
from tests.daemon.running import (
    RunningDaemon,
    left_behind,
    totals_agree,
    write_configuration,
)
from tests.daemon.switched import Posts, Suppressor, event_lines

pytestmark = pytest.mark.timeout(120)

ADJACENT = {"name": "adjacent", "use": "adjacent", "params": {"window": 300.0, "radius": 1}}
BLOCKED = {"name": "blocked", "use": "blocklist", "params": {"cids": [13]}}


@pytest.fixture(scope="module")
def daemon(tmp_path_factory: pytest.TempPathFactory) -> Iterator[RunningDaemon]:
    """One daemon for the tests that leave it as they found it."""
    directory = tmp_path_factory.mktemp("switching")
    write_configuration(directory, middleware=[ADJACENT, BLOCKED], workers={"count": 1})
    daemon = RunningDaemon(directory)
    daemon.wait_until_ready()
    yield daemon
    daemon.end()
    assert left_behind(directory) == []


def test_the_middleware_are_listed_in_the_order_of_the_chain(daemon: RunningDaemon) -> None:
    assert [(each["name"], each["mode"]) for each in daemon.get("/api/v1/middleware")] == [
        ("adjacent", "enabled"),
        ("blocked", "enabled"),
    ]


def test_one_middleware_is_described_whole(daemon: RunningDaemon) -> None:
    assert daemon.get("/api/v1/middleware/blocked") == {
        "name": "blocked",
        "use": "blocklist",
        "mode": "enabled",
        "params": {"cids": [13]},
        "shared": False,
        "resets": 0,
        "offset": "1.0",
        "reason": "configuration",
        "switched": {},
    }


@pytest.mark.parametrize("method", ["GET", "PATCH"])
def test_an_unknown_name_is_not_found_and_the_known_ones_are_named(
    daemon: RunningDaemon, method: str
) -> None:
    answer = daemon.send(method, "nobody", {"mode": "disabled"})
    assert answer.status == 404
    assert answer.headers["Content-Type"] == "application/problem+json"
    assert answer.document["status"] == 404
    for word in ("nobody", "adjacent", "blocked"):
        assert word in answer.document["detail"]
    assert daemon.send("POST", "nobody/reset", {}).status == 404


@pytest.mark.parametrize(
    ("body", "status", "words"),
    [
        (b'{"mode": "off"}', 422, ['mode: expected "enabled", "shadow" or "disabled" (got "off")']),
        (b'{"mode": null}', 422, ["mode", "params"]),
        (b"{}", 422, ["mode", "params"]),
        (
            b'{"at_least": 3}',
            422,
            ['at_least: unknown key (known: mode, params, reason); parameters go into "params"'],
        ),
        (b'{"mode": "shadow", "reason": 5}', 422, ["reason"]),
        (b'{"params": {"window": -1}}', 422, ["window", "more than 0"]),
        (b'{"params": {"window": "long"}}', 422, ["window", "seconds"]),
        (b'{"params": {"widow": 1}}', 422, ["widow", "window"]),
        (b'{"params": {"window": 1, "radius": 0.5}}', 422, ["radius"]),
        (b'{"params": [1]}', 422, ["params"]),
        (
            b'{"params": {"by": [%s]}}' % b",".join(b'"f%d"' % n for n in range(17)),
            422,
            ["by", "16"],
        ),
        (b'{"mode": "shadow", "reason": "%s"}' % (b"x" * 1001), 422, ["reason", "1000"]),
        (b'{"params": {"late": "\\ud800"}}', 400, ["JSON"]),
        (b'{"params": {"window": NaN}}', 400, ["JSON"]),
        (b'{"params": %s}' % (b"[" * 990 + b"]" * 990), 400, ["nested"]),
        (b'{"params": {"window": 1%s}}' % (b"0" * 30), 400, ["number"]),
        (b'{"reason": "%s"}' % (b"x" * 2**22), 413, ["longer"]),
        (b"[]", 422, ["JSON object"]),
        (b"null", 422, ["JSON object"]),
        (b'"enabled"', 422, ["JSON object"]),
        (b'{"mode": ', 400, ["JSON"]),
        (b"\xff", 400, ["JSON"]),
        (b"", 400, ["JSON"]),
    ],
)
def test_a_wrong_switch_is_refused_with_a_reason_and_changes_nothing(
    daemon: RunningDaemon, body: bytes, status: int, words: list[str]
) -> None:
    before = daemon.get("/api/v1/middleware")
    headers = {"Content-Type": "application/json"}
    answer = daemon.ask("PATCH", "/api/v1/middleware/adjacent", body, headers)
    assert answer.status == status
    assert answer.headers["Content-Type"] == "application/problem+json"
    for word in words:
        assert word in answer.document["detail"]
    assert daemon.get("/api/v1/middleware") == before


def test_a_body_that_is_not_called_json_is_refused(daemon: RunningDaemon) -> None:
    answer = daemon.ask("PATCH", "/api/v1/middleware/adjacent", b'{"mode":"shadow"}')
    assert answer.status == 415
    assert "application/json" in answer.document["detail"]


def test_what_remembers_nothing_cannot_be_reset(daemon: RunningDaemon) -> None:
    answer = daemon.send("POST", "blocked/reset", {})
    assert answer.status == 422
    assert "remembers nothing" in answer.document["detail"]


def test_a_reset_needs_a_json_body_which_no_form_of_a_web_page_can_send(
    daemon: RunningDaemon,
) -> None:
    path = "/api/v1/middleware/adjacent/reset"
    resets = daemon.get("/api/v1/middleware/adjacent")["resets"]
    assert daemon.ask("POST", path).status == 415
    for called in ("text/plain", "application/x-www-form-urlencoded", "multipart/form-data"):
        assert daemon.ask("POST", path, b"{}", {"Content-Type": called}).status == 415
    assert daemon.ask("POST", path, b"", {"Content-Type": "application/json"}).status == 400
    assert daemon.get("/api/v1/middleware/adjacent")["resets"] == resets
    answer = daemon.send("POST", "adjacent/reset", {})
    assert answer.status == 200
    assert answer.document["resets"] == resets + 1


def test_a_switch_is_described_with_its_offset_and_reason(daemon: RunningDaemon) -> None:
    last = daemon.accept('{"cid":1,"time":2}\n')["last"]
    told = daemon.switch("adjacent", mode="shadow", reason="a look")
    assert (told["mode"], told["reason"]) == ("shadow", "a look")
    assert int(told["offset"].split(".")[0]) == int(last.split(".")[0]) + 1
    assert daemon.get("/api/v1/middleware/adjacent") == told
    daemon.switch("adjacent", mode="enabled")


def test_health_is_told(daemon: RunningDaemon) -> None:
    assert daemon.get("/livez") == {"status": "alive"}
    assert daemon.get("/readyz") == {"status": "ready"}


def test_each_switch_holds_exactly_from_the_offset_it_was_told(start_daemon: StartDaemon) -> None:
    daemon = start_daemon(middleware=[ADJACENT])
    changes: list[dict[str, Any]] = [
        {"mode": "shadow"},
        {"mode": "disabled"},
        {"mode": "enabled"},
        {"reset": True},
        {"params": {"window": 5.0}},
        {"params": {"window": 300.0}, "mode": "shadow"},
        {"mode": "enabled"},
    ]
    posts = Posts()
    for number, change in enumerate([{"mode": "enabled"}, *changes]):
        told = _carry_out(daemon, change)
        posts.switched(told, change)
        body = event_lines(((cid, 10.0 * number + cid % 3) for cid in range(50)), 50 * number)
        posts.posted(daemon.accept(body), body)
    stats = daemon.settle()
    reference = Suppressor(window=300.0)
    assert daemon.kept() == posts.expected(reference)
    assert stats["dropped"] == {"adjacent": reference.dropped}
    assert stats["shadow"] == {"adjacent": reference.shadow}


def _carry_out(daemon: RunningDaemon, change: dict[str, Any]) -> Any:
    if change.get("reset"):
        answer = daemon.send("POST", "adjacent/reset", {"reason": "anew"})
        assert answer.status == 200
        return answer.document
    return daemon.switch("adjacent", **change)


OPENS = """
from pydantic import BaseModel
from middleware.contract import Middleware, SharedMiddleware

class Local(Middleware):
    reads = ("cid",)

    class Params(BaseModel):
        path: str

    def open(self):
        if self.params.path == "/absent":
            raise OSError(f"cannot read {self.params.path}")

    def handle(self, event):
        return event

class Shared(Local, SharedMiddleware):
    def snapshot(self):
        return None

    def restore(self, state):
        pass
"""


@pytest.mark.parametrize("kind", ["Local", "Shared"])
def test_a_switch_to_params_that_do_not_open_stops_neither_the_stream_nor_the_daemon(
    start_daemon: StartDaemon, tmp_path: Any, kind: str
) -> None:
    (tmp_path / "opens.py").write_text(OPENS)
    step = {"name": "opens", "use": f"opens:{kind}", "params": {"path": "/here"}}
    daemon = start_daemon(middleware=[step], workers={"count": 1})
    daemon.accept('{"cid":1,"time":1}')
    daemon.settle()
    answer = daemon.send("PATCH", "opens", {"params": {"path": "/absent"}})
    daemon.accept('{"cid":2,"time":2}')
    daemon.settle(limit=5)
    assert answer.status == 422
    assert "/absent" in answer.document["detail"]
    assert daemon.settle()["emitted"] == 2


POSTS, EVENTS_A_POST, SWITCHES = 250, 4000, 100


@pytest.mark.timeout(240)
def test_a_million_events_under_a_hundred_switches_are_exact_and_accounted_for(
    start_daemon: StartDaemon,
) -> None:
    daemon = start_daemon(middleware=[ADJACENT])
    bodies = [_body(number) for number in range(POSTS)]
    posts = Posts()
    answered = Condition()
    count = 0

    def take(receipt: Any, body: bytes) -> None:
        nonlocal count
        with answered:
            posts.posted(receipt, body)
            count += 1
            answered.notify_all()

    clients = [
        Thread(target=post_all, args=(daemon.address, bodies[start::2], take)) for start in (0, 1)
    ]
    for client in clients:
        client.start()
    choice = random.Random(2)
    for number in range(SWITCHES):
        with answered:
            assert answered.wait_for(lambda: count >= number * POSTS // SWITCHES, 60)  # noqa: B023
        changes: list[dict[str, Any]] = [
            {"mode": "enabled"},
            {"mode": "shadow"},
            {"mode": "disabled"},
            {"params": {"window": choice.choice([30.0, 100.0, 300.0])}},
            {"reset": True},
        ]
        change = choice.choice(changes)
        posts.switched(_carry_out(daemon, change), change)
        assert totals_agree(daemon.stats())
    for client in clients:
        client.join()
    assert count == POSTS

    stats = daemon.settle(60)
    reference = Suppressor(window=300.0)
    assert daemon.kept() == posts.expected(reference)
    assert stats["accepted"] == POSTS * EVENTS_A_POST
    assert stats["dropped"] == {"adjacent": reference.dropped}
    assert stats["shadow"] == {"adjacent": reference.shadow}
    assert (stats["dead"], stats["in_flight"]) == (0, 0)
    assert totals_agree(stats)


def _body(number: int) -> bytes:
    """Return a post: 40 s of a stream of 100 events a second, over 10,000 points."""
    choice = random.Random(number)
    start = number * EVENTS_A_POST
    rows = (
        (choice.randrange(10_000), (start + row) / 100 + choice.uniform(-20, 20))
        for row in range(EVENTS_A_POST)
    )
    return event_lines(rows, start)
