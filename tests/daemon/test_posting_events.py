"""POST /api/v1/events: what is accepted, what the answer says, and what comes out."""

from __future__ import annotations

import json
import socket
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from tests.conftest import StartDaemon
from tests.daemon.running import (
    RunningDaemon,
    eventually,
    left_behind,
    totals_agree,
    write_configuration,
)

pytestmark = pytest.mark.timeout(60)

MAX_BODY = 100_000


@pytest.fixture(scope="module")
def daemon(tmp_path_factory: pytest.TempPathFactory) -> Iterator[RunningDaemon]:
    """One daemon without middleware for all tests here; each looks only at what it posted."""
    directory = tmp_path_factory.mktemp("posting")
    write_configuration(
        directory, http={"listen": "127.0.0.1:0", "max_body": MAX_BODY}, workers={"count": 1}
    )
    daemon = RunningDaemon(directory)
    daemon.wait_until_ready()
    yield daemon
    daemon.end()
    assert left_behind(directory) == []


def came_out(daemon: RunningDaemon, body: bytes | str) -> tuple[Any, bytes, list[Any]]:
    """Post; return the receipt, the lines kept and the dead letters that came of it."""
    kept, dead = len(daemon.kept()), len(daemon.dead())
    receipt = daemon.accept(body)
    daemon.settle()
    return receipt, daemon.kept()[kept:], daemon.dead()[dead:]


@pytest.mark.parametrize(
    ("body", "kept"),
    [
        ('{"cid":1,"time":2}', '{"cid":1,"time":2}\n'),
        ('{"cid":1,"time":2}\n', '{"cid":1,"time":2}\n'),
        (' {"time" : 2.50, "cid": 1, "x": []} \n', ' {"time" : 2.50, "cid": 1, "x": []} \n'),
        ('{"cid":1,"time":2}\r\n', '{"cid":1,"time":2}\r\n'),
        ('{"cid":1,"time":2}\n{"cid":2,"time":3}', '{"cid":1,"time":2}\n{"cid":2,"time":3}\n'),
        ('[{"cid":1,"time":2}, {"cid": 2,"time":3}]', '{"cid":1,"time":2}\n{"cid": 2,"time":3}\n'),
        ('[{"cid":1,\n"time":2}]', '{"cid":1,"time":2}\n'),
        ('{\n  "cid": 1,\n  "time": 2,\n  "x": "a\\nb"\n}', '{"cid":1,"time":2,"x":"a\\nb"}\n'),
        ('{"cid":1,"time":2,"ø":"☃"}', '{"cid":1,"time":2,"ø":"☃"}\n'),
    ],
    ids=[
        "object",
        "one line",
        "odd spelling",
        "CRLF",
        "NDJSON without the last line end",
        "array",
        "array over two lines",
        "pretty-printed object",
        "not ASCII",
    ],
)  # fmt: skip
def test_events_come_out_byte_for_byte_one_on_a_line(
    daemon: RunningDaemon, body: str, kept: str
) -> None:
    receipt, lines, dead = came_out(daemon, body)
    assert lines == kept.encode()
    assert dead == []
    count = kept.count("\n")
    assert receipt["accepted"] == count
    assert receipt["dead"] == 0
    assert receipt["errors"] == []


def test_a_receipt_tells_the_offsets_of_the_first_and_last_line(daemon: RunningDaemon) -> None:
    receipt = daemon.accept('{"cid":1,"time":2}\n' * 3)
    block, row = map(int, receipt["first"].split("."))
    assert receipt["last"] == f"{block}.{row + 2}"
    later = daemon.accept('{"cid":1,"time":2}\n')
    assert later["first"] == later["last"]
    assert int(later["first"].split(".")[0]) > block


def test_bad_events_are_told_and_go_to_the_dead_letters_with_the_same_reason_and_offset(
    daemon: RunningDaemon,
) -> None:
    before = daemon.settle()
    lines = [
        b'{"cid":1,"time":2}',
        b"nonsense",
        b'{"cid":2,"time":"x"}',
        b"",
        b'{"cid":3,"time":4,"kept":true}',
        b'{"time":5}',
        b'{"cid":1.5,"time":6}',
        b'{"cid":9223372036854775808,"time":6}',
        b'{"cid":1,"time":1e999}',
        b'{"cid":1,"time":99999999999}',
        b'{"cid":1,"time":1,"x":"\xff"}',
        b"[1]",
        b'{"cid":true,"time":1}',
        b'{"cid":4,"time":7}',
    ]
    receipt, kept, dead = came_out(daemon, b"\n".join(lines))
    assert kept == b"\n".join([lines[0], lines[4], lines[13]]) + b"\n"
    assert (receipt["accepted"], receipt["dead"]) == (3, 10)
    assert [error["line"] for error in receipt["errors"]] == [2, 3, 6, 7, 8, 9, 10, 11, 12, 13]

    told = [
        (error["offset"], error["line"], _general(error["reason"])) for error in receipt["errors"]
    ]
    written = [(letter["offset"], letter["line"], _general(letter["reason"])) for letter in dead]
    assert told == written
    assert [letter.get("event") for letter in dead[:2]] == ["nonsense", '{"cid":2,"time":"x"}']
    assert {letter["source"] for letter in dead} == {"push"}

    after = daemon.stats()
    assert after["dead"] - before["dead"] == 10
    assert after["emitted"] - before["emitted"] == 3
    assert after["accepted"] - before["accepted"] == 13
    assert totals_agree(after)


def _general(reason: str) -> str:
    """Return a reason without the number of seconds in it."""
    return " ".join(word for word in reason.split() if not word.isdigit())


@pytest.mark.parametrize("depth", [50, 98, 99, 100, 500, 950, 985, 990, 20_000])
def test_the_answer_says_of_deep_nesting_what_becomes_of_it(
    daemon: RunningDaemon, depth: int
) -> None:
    deep = '{"cid":1,"time":2,"x":' + "[" * depth + "]" * depth + "}\n"
    receipt, kept, dead = came_out(daemon, '{"cid":0,"time":0}\n' + deep)
    assert receipt["accepted"] == kept.count(b"\n")
    assert receipt["dead"] == len(dead)


@pytest.mark.parametrize(
    ("body", "detail"),
    [
        ("", "the body is empty"),
        (" \n \n", "the body is empty"),
        ("[]", "there is no event in the body"),
        ("[ ]\n", "there is no event in the body"),
        ("nonsense", "no event can be read"),
        ("nonsense\n{}\n[1]", "no event can be read"),
        ("[1, 2]", "no event can be read"),
        ('[{"cid":1,"time":2}', "no event can be read"),
        ("null", "no event can be read"),
        ('{\n  "cid": 1\n}', "no event can be read"),
    ],
)  # fmt: skip
def test_a_body_without_any_event_is_refused_whole(
    daemon: RunningDaemon, body: str, detail: str
) -> None:
    before, dead = daemon.settle(), len(daemon.dead())
    answer = daemon.post(body)
    assert answer.status == 400
    assert answer.headers["Content-Type"] == "application/problem+json"
    assert detail in answer.document["detail"]
    after = daemon.settle()
    assert after["accepted"] == before["accepted"]
    assert len(daemon.dead()) == dead


def test_a_refused_body_tells_what_is_wrong_with_each_line(daemon: RunningDaemon) -> None:
    errors = daemon.post('{"cid":1}\n\n{"time":1}').document["errors"]
    assert [(each["line"], each["reason"][:9]) for each in errors] == [
        (1, 'no "time"'),
        (3, 'no "cid" '),
    ]


def test_a_body_over_the_limit_is_refused_as_a_problem(daemon: RunningDaemon) -> None:
    line = '{"cid":1,"time":2}\n'
    before = daemon.settle()
    answer = daemon.post(line * (MAX_BODY // len(line) + 1))
    assert answer.status == 413
    assert daemon.settle()["accepted"] == before["accepted"]
    assert answer.headers["Content-Type"] == "application/problem+json"
    assert f"longer than http.max_body ({MAX_BODY} bytes)" in answer.document["detail"]
    assert "send it in several posts, or raise http.max_body" in answer.document["detail"]


def test_a_body_just_within_the_limit_is_accepted(daemon: RunningDaemon) -> None:
    event = '{"cid":1,"time":2}'
    assert daemon.accept(event + " " * (MAX_BODY - len(event) - 1))["accepted"] == 1


def test_a_post_that_breaks_off_is_not_accepted(daemon: RunningDaemon) -> None:
    before = daemon.settle()
    with socket.create_connection(daemon.address) as connection:
        head = f"POST /api/v1/events HTTP/1.1\r\nHost: {daemon.host}\r\n".encode()
        head += b"Content-Length: 1000\r\n\r\n"
        connection.sendall(head + b'{"cid":1,"time":2}\n')
    daemon.accept('{"cid":2,"time":2}')
    assert daemon.settle()["accepted"] == before["accepted"] + 1


def test_a_chunked_body_is_read(daemon: RunningDaemon) -> None:
    body = b'{"cid":1,"time":2}\n{"cid":2,"time":2}\n'
    chunks = b"".join(
        b"%x\r\n%s\r\n" % (len(body[at : at + 7]), body[at : at + 7])
        for at in range(0, len(body), 7)
    )
    with socket.create_connection(daemon.address) as connection:
        head = f"POST /api/v1/events HTTP/1.1\r\nHost: {daemon.host}\r\n".encode()
        head += b"Connection: close\r\nTransfer-Encoding: chunked\r\n\r\n"
        connection.sendall(head + chunks + b"0\r\n\r\n")
        answer = b"".join(iter(lambda: connection.recv(4096), b""))
    assert answer.startswith(b"HTTP/1.1 202")
    assert json.loads(answer.partition(b"\r\n\r\n")[2])["accepted"] == 2


def test_other_methods_are_refused_as_problems(daemon: RunningDaemon) -> None:
    answer = daemon.ask("GET", "/api/v1/events")
    assert answer.status == 405
    assert "POST" in answer.headers["Allow"]
    other = daemon.ask("POST", "/api/v1/stats")
    assert other.document["detail"] == "POST is not for /api/v1/stats (known: GET)"
    assert answer.headers["Content-Type"] == "application/problem+json"


def test_a_path_that_is_not_there_is_a_problem(daemon: RunningDaemon) -> None:
    answer = daemon.ask("GET", "/api/v1/nothing")
    assert answer.status == 404
    detail = answer.document["detail"]
    assert detail.startswith("there is nothing at /api/v1/nothing (known: ")
    for known in ("/api/v1/events", "GET /api/v1/middleware,", "PATCH /api/v1/middleware/NAME"):
        assert known in detail
    assert answer.headers["Content-Type"] == "application/problem+json"


GATE = """
import time
from pathlib import Path
from middleware.contract import Middleware

class Gate(Middleware):
    reads = ("cid",)

    def handle(self, event):
        while not Path("gate").exists():
            time.sleep(0.01)
        return event
"""


def test_a_full_queue_answers_429_while_operators_are_served_and_loses_nothing(
    start_daemon: StartDaemon, tmp_path: Path
) -> None:
    (tmp_path / "gate.py").write_text(GATE)
    daemon = start_daemon(
        middleware=[{"name": "gate", "use": "gate:Gate"}],
        queue={"events": 100, "bytes": 4000},
        workers={"count": 1, "deadline": 60},
    )
    accepted: list[str] = []
    refused = None
    for number in range(50):
        lines = "".join(f'{{"cid":{number},"time":{row}}}\n' for row in range(40))
        answer = daemon.post(lines, limit=15)
        if answer.status != 202:
            refused = answer
            break
        accepted.append(lines)
    assert refused is not None
    assert refused.status == 429
    assert int(refused.headers["Retry-After"]) >= 1
    assert refused.headers["Content-Type"] == "application/problem+json"
    assert accepted

    stats = daemon.stats()
    assert stats["in_flight"] == stats["accepted"] == 40 * len(accepted)
    assert totals_agree(stats)
    assert daemon.ask("GET", "/readyz").status == 200

    (tmp_path / "gate").touch()
    eventually(lambda: daemon.post(lines).status == 202, "events are accepted again")
    accepted.append(lines)
    assert daemon.settle()["emitted"] == 40 * len(accepted)
    assert daemon.kept().decode() == "".join(accepted)


def test_a_body_with_too_many_bad_lines_is_refused_whole(start_daemon: StartDaemon) -> None:
    daemon = start_daemon()
    answer = daemon.post('{"cid":1,"time":2}' + "\nnonsense" * 10_001)
    assert answer.status == 400
    assert "more than 10000 lines are no events" in answer.document["detail"]
    assert daemon.settle()["accepted"] == 0
