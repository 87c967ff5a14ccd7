"""The API of dead letters: list, show, re-drive, discard, and what is wrong with a request."""

from __future__ import annotations

from typing import Any

import pytest
from flask import Flask
from flask.testing import FlaskClient
from werkzeug.test import TestResponse

from service.admin import dead_letters as api_module
from service.admin.dead_letters import dead_letters_api
from service.admin.problems import handle_problems
from service.dead_letter_store import DeadLetterStore, Status
from service.errors import PipelineFailed, QueueFull
from tests.dead_letters.letters import LONGEST, FakeQueue, bad, failed, numbered, origin

PATH = "/api/v1/dead-letters"


@pytest.fixture
def queue() -> FakeQueue:
    return FakeQueue()


@pytest.fixture
def client(store: DeadLetterStore, queue: FakeQueue) -> FlaskClient:
    app = Flask("test")
    handle_problems(app)
    app.register_blueprint(dead_letters_api(store, queue.submit), url_prefix=PATH)
    store.write(numbered(1), [*bad(0), failed(1)], origin)
    store.refuse("kept", numbered(2), failed(0, "adjacent"), origin)
    return app.test_client()


def ids(response: TestResponse) -> list[str]:
    assert response.status_code == 200
    return [each["id"] for each in response.get_json()["dead_letters"]]


def problem_of(response: TestResponse, status: int) -> str:
    assert (response.status_code, response.content_type) == (status, "application/problem+json")
    return str(response.get_json(force=True)["detail"])


def test_letters_are_listed_the_newest_first(client: FlaskClient) -> None:
    answer = client.get(PATH)
    assert ids(answer) == ["2.0:kept", "1.1", "1.0"]
    assert answer.get_json()["counts"] == {"waiting": 3, "redriven": 0, "discarded": 0}
    assert answer.get_json()["next"] is None
    assert not any("event" in each for each in answer.get_json()["dead_letters"])


def test_a_long_list_is_read_page_by_page(client: FlaskClient) -> None:
    first = client.get(f"{PATH}?limit=2")
    assert ids(first) == ["2.0:kept", "1.1"]
    second = client.get(f"{PATH}?limit=2&after={first.get_json()['next']}")
    assert (ids(second), second.get_json()["next"]) == (["1.0"], None)


@pytest.mark.parametrize(
    ("query", "expected"),
    [
        ("status=waiting", ["2.0:kept", "1.1", "1.0"]),
        ("status=discarded", []),
        ("middleware=lookup", ["1.1"]),
        ("source=push&status=waiting", ["2.0:kept", "1.1", "1.0"]),
        ("source=files", []),
    ],
)
def test_a_list_is_filtered(client: FlaskClient, query: str, expected: list[str]) -> None:
    assert ids(client.get(f"{PATH}?{query}")) == expected


@pytest.mark.parametrize(
    ("query", "reason"),
    [
        ("status=dead", "status: "),
        ("limit=0", "limit: "),
        ("limit=1001", "limit: "),
        ("after=first", "after: 'first': expected OFFSET"),
        ("after=99999999999999999999.0", "after: "),
        ("sort=time", "sort: "),
    ],
)
def test_a_list_that_cannot_be_is_refused(client: FlaskClient, query: str, reason: str) -> None:
    assert problem_of(client.get(f"{PATH}?{query}"), 422).startswith(reason)


def test_one_is_shown_with_its_event_and_its_traceback(client: FlaskClient) -> None:
    shown = client.get(f"{PATH}/2.0:kept").get_json()
    assert (shown["sink"], shown["event"]) == ("kept", '{"cid": 1}')
    assert shown["traceback"] == "Traceback: ..."


@pytest.mark.parametrize("letter_id", ["7.7", "1.0:kept", "first", "1", "-1.0", "9" * 20 + ".0"])
def test_what_is_not_there_is_not_found(client: FlaskClient, letter_id: str) -> None:
    assert letter_id in problem_of(client.get(f"{PATH}/{letter_id}"), 404)


def test_named_letters_are_redriven_and_each_is_told_of(
    client: FlaskClient, queue: FakeQueue
) -> None:
    body = {"offsets": ["1.1", "2.0:kept", "7.7"], "reason": "mended"}
    answer = client.post(f"{PATH}/redrive", json=body).get_json()
    assert answer == {
        "results": [
            {"id": "1.1", "status": "redriven", "redriven_as": "1001.0"},
            {"id": "2.0:kept", "status": "redriven", "redriven_as": "1002.0"},
            {"id": "7.7", "status": "unknown", "detail": "there is no such dead letter"},
        ],
        "next": None,
    }
    assert list(queue.accepted) == ["redrive:1.1:", "redrive:2.0:kept"]


def test_letters_are_discarded(client: FlaskClient, queue: FakeQueue) -> None:
    answer = client.post(f"{PATH}/discard", json={"offsets": ["1.0"]}).get_json()
    assert answer["results"] == [{"id": "1.0", "status": "discarded"}]
    assert ids(client.get(f"{PATH}?status=discarded")) == ["1.0"]
    assert queue.accepted == {}


def test_all_that_wait_are_redriven_from_the_oldest_on_but_those_that_were_cut(
    client: FlaskClient, store: DeadLetterStore
) -> None:
    store.write(numbered(3), bad(0, event=b"x" * (LONGEST + 1)), origin)
    client.post(f"{PATH}/discard", json={"offsets": ["1.0"]})
    answer = client.post(f"{PATH}/redrive", json={"all": True}).get_json()
    assert [each["id"] for each in answer["results"]] == ["1.1", "2.0:kept"]
    assert ids(client.get(f"{PATH}?status=waiting")) == ["3.0"]


def test_all_of_a_middleware_are_meant_where_it_is_named(client: FlaskClient) -> None:
    body = {"all": True, "middleware": "lookup", "source": "push"}
    answer = client.post(f"{PATH}/discard", json=body).get_json()
    assert [each["id"] for each in answer["results"]] == ["1.1"]


def test_all_are_too_many_for_one_request_and_the_next_goes_on(
    client: FlaskClient, store: DeadLetterStore, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(api_module, "MOST", 2)
    first = client.post(f"{PATH}/discard", json={"all": True}).get_json()
    assert [each["id"] for each in first["results"]] == ["1.0", "1.1"]
    assert first["next"] == "1.1..2.0:kept"
    second = client.post(f"{PATH}/discard", json={"all": True, "after": "1.1"}).get_json()
    assert [each["id"] for each in second["results"]] == ["2.0:kept"]
    assert second["next"] is None
    assert sum(store.counts().values()) == 3


def test_what_is_not_accepted_is_told_and_waits(client: FlaskClient, queue: FakeQueue) -> None:
    queue.trouble = QueueFull("the queue is full")
    answer = client.post(f"{PATH}/redrive", json={"offsets": ["1.0"]}).get_json()
    assert answer["results"] == [{"id": "1.0", "status": "waiting", "detail": "the queue is full"}]


@pytest.mark.parametrize(
    ("body", "reason"),
    [
        ({}, 'give either "offsets" or "all": true'),
        ({"offsets": []}, 'give either "offsets" or "all": true'),
        ({"offsets": ["1.0"], "all": True}, 'give either "offsets" or "all": true'),
        ({"offsets": ["1.0"], "source": "push"}, '"middleware", "source" and "after" go with'),
        ({"offsets": [1.0]}, "offsets.0: expected text"),
        ({"offsets": ["one"]}, "offsets.0: 'one': expected OFFSET"),
        ({"offsets": ["1.0"] * 1_001}, "offsets: "),
        ({"all": True, "status": "waiting"}, "status: "),
        ([], "the body: expected a JSON object"),
    ],
)
@pytest.mark.parametrize("act", ["redrive", "discard"])
def test_a_decision_that_cannot_be_is_refused_and_changes_nothing(
    client: FlaskClient, store: DeadLetterStore, act: str, body: Any, reason: str
) -> None:
    assert problem_of(client.post(f"{PATH}/{act}", json=body), 422).startswith(reason)
    assert store.counts()[Status.WAITING] == 3


@pytest.mark.parametrize("act", ["redrive", "discard"])
def test_a_decision_needs_json_so_that_no_web_page_can_make_a_browser_send_it(
    client: FlaskClient, store: DeadLetterStore, act: str
) -> None:
    plain = client.post(f"{PATH}/{act}", data='{"all": true}', content_type="text/plain")
    problem_of(plain, 415)
    broken = client.post(f"{PATH}/{act}", data="{", content_type="application/json")
    assert "not JSON" in problem_of(broken, 400)
    assert store.counts()[Status.WAITING] == 3


def test_a_disk_that_fails_is_told(
    client: FlaskClient, store: DeadLetterStore, monkeypatch: pytest.MonkeyPatch
) -> None:
    def fails(_: object) -> None:
        raise OSError("the disk is full")

    monkeypatch.setattr(store, "discard", fails)
    answer = client.post(f"{PATH}/discard", json={"offsets": ["1.0"]})
    assert problem_of(answer, 503) == "the disk is full; ask again later"


def test_a_database_that_is_damaged_is_told(
    client: FlaskClient, store: DeadLetterStore, monkeypatch: pytest.MonkeyPatch
) -> None:
    def fails(*_: object) -> None:
        raise PipelineFailed("penstock.db: this database is damaged")

    monkeypatch.setattr(store, "find", fails)
    assert "is damaged" in problem_of(client.get(PATH), 500)


def test_a_daemon_that_stops_says_so(client: FlaskClient, store: DeadLetterStore) -> None:
    store.close()
    assert "stopping" in problem_of(client.get(PATH), 503)


@pytest.mark.parametrize("way", ["redrive", "discard"])
def test_all_are_those_that_were_there_at_the_first_request(
    client: FlaskClient,
    store: DeadLetterStore,
    queue: FakeQueue,
    monkeypatch: pytest.MonkeyPatch,
    way: str,
) -> None:
    """Events that fail again are new letters; without an end they would be re-driven for ever."""
    monkeypatch.setattr(api_module, "MOST", 2)
    queue.before = lambda _: store.write(numbered(len(queue.accepted) + 10), bad(0), origin)
    results: list[str] = []
    body: dict[str, Any] = {"all": True}
    while True:
        answer = client.post(f"{PATH}/{way}", json=body).get_json()
        results += [each["id"] for each in answer["results"]]
        if answer["next"] is None:
            break
        body["after"] = answer["next"]
        store.write(numbered(len(results) + 100), bad(0), origin)
    assert results == ["1.0", "1.1", "2.0:kept"]
