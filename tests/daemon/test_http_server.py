"""The HTTP server: what a source answers by itself, at once or later, beside the operators' app."""

from __future__ import annotations

import logging
import os
import resource
import select
import socket
import threading
from collections.abc import Callable, Iterator
from concurrent.futures import Future
from contextlib import ExitStack
from functools import partial
from http.client import HTTPConnection

import pytest
from flask import Flask

from service import http_bodies, http_channel, http_server
from service.http_channel import SMALL
from service.http_server import HttpServer
from service.settings import Settings
from service.sources.mount import Answer, Later, Mount, Request

pytestmark = pytest.mark.timeout(60)

MANY = 3 * http_server.THREADS


class Desk:
    """A mount that keeps every request until it is told what to answer."""

    def __init__(self) -> None:
        self.kept: list[tuple[Request, Future[str]]] = []
        self.arrived = threading.Semaphore(0)

    def __call__(self, request: Request) -> Later:
        """Keep a request."""
        awaited: Future[str] = Future()
        self.kept.append((request, awaited))
        self.arrived.release()
        return Later(awaited, lambda: self._answer(request, awaited))

    def wait(self, requests: int = 1) -> None:
        """Wait until so many more requests are here."""
        for _ in range(requests):
            assert self.arrived.acquire(timeout=30)

    @staticmethod
    def _answer(request: Request, awaited: Future[str]) -> Answer:
        if awaited.cancelled():
            return Answer("429 Too Many Requests", [], b"withdrawn")
        return Answer("202 Accepted", [], request.body + awaited.result().encode())


class Door:
    """Where the server of the present test listens."""

    host = ""


Serve = Callable[..., HttpServer]


@pytest.fixture
def serve() -> Iterator[Serve]:
    """Return what starts a server with a mount at /desk and an app at /app, /large and /fail."""
    with ExitStack() as stack:

        def start(mount: Mount, fail: Callable[[], str] = lambda: "") -> HttpServer:
            app = Flask(__name__)
            app.add_url_rule("/fail", "fail", fail)
            app.add_url_rule("/large", "large", lambda: "x" * 2**22, methods=["POST"])
            app.add_url_rule("/app", "app", lambda: "app", methods=["GET", "POST"])
            settings = Settings.model_validate(
                {
                    "sink": [{"name": "out", "use": "stdout"}],
                    "http": {"listen": "127.0.0.1:0", "max_body": 10 * SMALL},
                }
            )
            server = HttpServer(app, {"/desk": mount}, settings)
            server.start(pytest.fail)
            Door.host = server.address
            stack.callback(server.close)
            return server

        yield start


def connect(server: HttpServer) -> socket.socket:
    host, _, port = server.address.rpartition(":")
    return socket.create_connection((host, int(port)), timeout=30)


def post(body: bytes, path: str = "/desk") -> bytes:
    head = f"POST {path} HTTP/1.1\r\nHost: {Door.host}\r\nContent-Length: {len(body)}\r\n\r\n"
    return head.encode() + body


def hung_up(connection: socket.socket) -> bool:
    """Say whether the server closes a connection within 30 s."""
    poll = select.poll()
    poll.register(connection, select.POLLRDHUP)
    return bool(poll.poll(30_000))


def read_bodies(connection: socket.socket, count: int) -> list[bytes]:
    """Return the bodies of the next answers on a connection."""
    with connection.makefile("rb") as file:
        bodies = []
        for _ in range(count):
            head = b"".join(iter(file.readline, b"\r\n")).lower()
            length = int(head.partition(b"content-length: ")[2].split(b"\r\n")[0])
            bodies.append(file.read(length))
        return bodies


def test_requests_that_wait_hold_no_thread(serve: Serve) -> None:
    desk = Desk()
    server = serve(desk)
    with ExitStack() as stack:
        waiting = [stack.enter_context(connect(server)) for _ in range(MANY)]
        for number, connection in enumerate(waiting):
            connection.sendall(post(b"%d" % number))
        desk.wait(MANY)
        with connect(server) as operator:
            operator.sendall(post(b"", "/app"))
            assert read_bodies(operator, 1) == [b"app"]
        for _, awaited in reversed(desk.kept):
            awaited.set_result("!")
        for number, connection in enumerate(waiting):
            assert read_bodies(connection, 1) == [b"%d!" % number]


def test_requests_sent_ahead_are_answered_one_after_the_other_in_order(serve: Serve) -> None:
    desk = Desk()
    with connect(serve(desk)) as connection:
        connection.sendall(post(b"first") + post(b"", "/app") + post(b"second"))
        desk.wait()
        assert [request.body for request, _ in desk.kept] == [b"first"]
        desk.kept[0][1].set_result("!")
        assert read_bodies(connection, 2) == [b"first!", b"app"]
        desk.wait()
        desk.kept[1][1].set_result("!")
        assert read_bodies(connection, 1) == [b"second!"]


def test_any_number_of_requests_sent_ahead_is_answered(serve: Serve) -> None:
    count = 3_000
    with connect(serve(lambda request: Answer("200 OK", [], request.body))) as connection:
        sending = threading.Thread(target=connection.sendall, args=(post(b"x") * count,))
        sending.start()
        assert read_bodies(connection, count) == [b"x"] * count
        sending.join(30)


def test_a_producer_that_reads_no_answers_keeps_nobody_else_waiting(serve: Serve) -> None:
    requests, size = 64, 2**20  # far more than sockets and the server's high-water mark hold
    server = serve(lambda _: Answer("200 OK", [], b"x" * size))
    with connect(server) as silent:
        silent.sendall(post(b"x") * requests)
        with connect(server) as operator:
            operator.sendall(post(b"", "/app"))
            assert read_bodies(operator, 1) == [b"app"]
        assert read_bodies(silent, requests) == [b"x" * size] * requests


def test_a_file_number_beyond_those_of_select_does_not_end_the_server(serve: Serve) -> None:
    server = serve(Desk())
    most, limit = resource.getrlimit(resource.RLIMIT_NOFILE)
    resource.setrlimit(resource.RLIMIT_NOFILE, (min(limit, 4_096), limit))
    try:
        with ExitStack() as stack:
            for _ in range(1_024):
                stack.callback(os.close, os.dup(0))
            with connect(server) as connection:
                connection.sendall(post(b"", "/app"))
                assert read_bodies(connection, 1) == [b"app"]
    finally:
        resource.setrlimit(resource.RLIMIT_NOFILE, (most, limit))


def test_what_takes_too_long_is_withdrawn_and_told(
    serve: Serve, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(http_channel, "PATIENCE", 0.0)
    with connect(serve(Desk())) as connection:
        connection.sendall(post(b"late"))
        assert read_bodies(connection, 1) == [b"withdrawn"]


def test_what_cannot_be_withdrawn_any_more_is_waited_for(
    serve: Serve, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(http_channel, "PATIENCE", 0.0)
    withdrawn = threading.Event()

    class Running(Future[str]):
        def cancel(self) -> bool:
            withdrawn.set()
            return super().cancel()

    awaited = Running()
    awaited.set_running_or_notify_cancel()
    server = serve(lambda _: Later(awaited, lambda: Answer("200 OK", [], b"done")))
    with connect(server) as connection:
        connection.sendall(post(b"late"))
        assert withdrawn.wait(30)
        awaited.set_result("done")
        assert read_bodies(connection, 1) == [b"done"]


def test_a_large_body_is_read_in_another_thread_than_small_ones(serve: Serve) -> None:
    threads = []

    def mount(request: Request) -> Answer:
        threads.append(threading.current_thread().name)
        return Answer("200 OK", [], b"%d" % len(request.body))

    with connect(serve(mount)) as connection:
        for size in (10, 2 * SMALL):
            connection.sendall(post(b"x" * size))
            assert read_bodies(connection, 1) == [b"%d" % size]
    assert threads[0] == "http"
    assert threads[1] != "http"


def test_an_answer_goes_to_nobody_when_its_producer_went_away(serve: Serve) -> None:
    desk = Desk()
    server = serve(desk)
    with connect(server) as gone:
        gone.sendall(post(b"gone"))
        desk.wait()
    desk.kept[0][1].set_result("!")
    with connect(server) as connection:
        connection.sendall(post(b"here"))
        desk.wait()
        desk.kept[1][1].set_result("!")
        assert read_bodies(connection, 1) == [b"here!"]


@pytest.mark.parametrize("raised", [RuntimeError("boom"), SystemExit("boom")])
@pytest.mark.parametrize("later", [False, True])
def test_a_mount_that_raises_answers_500_and_the_connection_or_the_next_one_goes_on(
    serve: Serve, caplog: pytest.LogCaptureFixture, later: bool, raised: BaseException
) -> None:
    def fail() -> Answer:
        raise raised

    def mount(request: Request) -> Answer | Later:
        if request.body == b"well":
            return Answer("200 OK", [], b"well")
        done: Future[str] = Future()
        done.set_result("")
        return Later(done, fail) if later else fail()

    server = serve(mount)
    with caplog.at_level(logging.ERROR):
        for body, status in ((b"ill", 500), (b"well", 200)):
            address = server.address.split(":")
            connection = HTTPConnection(address[0], int(address[1]), timeout=30)
            connection.request("POST", "/desk", body)
            assert connection.getresponse().status == status
            connection.close()
    assert "boom" in caplog.text


@pytest.mark.parametrize("raised", [RuntimeError("boom"), SystemExit("boom")])
def test_an_app_that_raises_answers_500_and_its_request_is_no_longer_at_work(
    serve: Serve, monkeypatch: pytest.MonkeyPatch, raised: BaseException
) -> None:
    def fail() -> str:
        raise raised

    monkeypatch.setattr(http_server, "AT_WORK", 1)
    server = serve(lambda _: Answer("200 OK", [], b"well"), fail)
    for method, path, status in (("GET", "/fail", 500), ("POST", "/desk", 200)):
        address = server.address.split(":")
        connection = HTTPConnection(address[0], int(address[1]), timeout=5)
        connection.request(method, path, b"")
        assert connection.getresponse().status == status
        connection.close()


def test_a_head_request_gets_no_body(serve: Serve) -> None:
    with connect(serve(lambda _: Answer("405 Method Not Allowed", [], b"body"))) as connection:
        head = b"HEAD /desk HTTP/1.0\r\nConnection: close\r\n\r\n"
        connection.sendall(head)
        answer = b"".join(iter(partial(connection.recv, 4096), b""))
    assert answer.startswith(b"HTTP/1.0 405")
    assert answer.endswith(b"\r\n\r\n")


def test_whoever_sends_ahead_takes_one_turn_at_a_time(serve: Serve) -> None:
    turns: list[bytes] = []
    seen = threading.Event()

    def mount(request: Request) -> Answer:
        turns.append(request.body)
        seen.set()
        return Answer("200 OK", [], request.body)

    server = serve(mount)
    with connect(server) as ahead, connect(server) as other:
        sending = threading.Thread(target=ahead.sendall, args=(post(b"ahead") * 10_000,))
        sending.start()
        assert seen.wait(30)
        other.sendall(post(b"other"))
        assert read_bodies(other, 1) == [b"other"]
        assert read_bodies(ahead, 10_000) == [b"ahead"] * 10_000
        sending.join(30)
    assert turns.index(b"other") < 10_000


def test_any_number_that_read_no_answers_keep_no_operator_waiting(serve: Serve) -> None:
    server = serve(Desk())
    with ExitStack() as stack:
        for _ in range(3 * http_server.THREADS):
            silent = stack.enter_context(connect(server))
            silent.sendall(post(b"", "/large") * 100)
        for _ in range(5):
            with connect(server) as operator:
                operator.sendall(post(b"", "/app"))
                assert read_bodies(operator, 1) == [b"app"]


def test_whoever_reads_nothing_of_an_answer_is_let_go(
    serve: Serve, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(http_channel, "ANSWER_LIMIT", 0.0)
    with connect(serve(lambda _: Answer("200 OK", [], b"x" * 2**26))) as silent:
        silent.sendall(post(b"x"))
        assert hung_up(silent)


def test_those_idle_for_longest_make_room_for_the_next(
    serve: Serve, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(http_server, "CONNECTIONS", 20)
    desk = Desk()
    server = serve(desk)
    with ExitStack() as stack:
        waiting = stack.enter_context(connect(server))
        waiting.sendall(post(b"waiting"))
        desk.wait()
        idle = [stack.enter_context(connect(server)) for _ in range(40)]
        for connection in idle[::2]:
            connection.sendall(b"POST /desk HTTP/1.1\r\nHos")
        for _ in range(30):
            operator = stack.enter_context(connect(server))
            operator.sendall(post(b"", "/app"))
            assert read_bodies(operator, 1) == [b"app"]
        assert hung_up(idle[0])
        desk.kept[0][1].set_result("!")
        assert read_bodies(waiting, 1) == [b"waiting!"]


def test_operators_are_answered_while_too_many_events_wait(
    serve: Serve, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(http_server, "AT_WORK", 1)
    desk = Desk()
    server = serve(desk)
    with connect(server) as waiting, connect(server) as another, connect(server) as operator:
        waiting.sendall(post(b"waiting"))
        desk.wait()
        another.sendall(post(b"another"))
        assert b"too many requests at once" in read_bodies(another, 1)[0]
        operator.sendall(post(b"{}", "/app"))
        assert read_bodies(operator, 1) == [b"app"]
        desk.kept[0][1].set_result("!")
        assert read_bodies(waiting, 1) == [b"waiting!"]


def test_of_unfinished_bodies_only_so_much_is_read_and_the_slow_are_given_up(
    serve: Serve, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(http_bodies, "MOST_BYTES", 0)  # then two of the longest bodies
    monkeypatch.setattr(http_bodies, "SLOW", 0.0)
    server = serve(lambda request: Answer("200 OK", [], b"%d" % len(request.body)))
    size = 9 * SMALL
    with ExitStack() as stack:
        slow = [stack.enter_context(connect(server)) for _ in range(5)]
        for connection in slow:
            connection.sendall(post(b"x" * size)[:-1])
        quick = stack.enter_context(connect(server))
        quick.sendall(post(b"x" * size))
        assert read_bodies(quick, 1) == [b"%d" % size]
        assert slow[0].recv(4096).startswith(b"HTTP/1.1 503")


def test_an_expectation_without_a_body_leaves_nothing_to_the_next_request(serve: Serve) -> None:
    keys: list[str | None] = []

    def mount(request: Request) -> Answer:
        keys.append(request.idempotency_key)
        return Answer("200 OK", [], request.body)

    with connect(serve(mount)) as connection:
        fields = b"\r\nExpect: 100-continue\r\nIdempotency-Key: mine\r\n\r\n"
        connection.sendall(post(b"").replace(b"\r\n\r\n", fields))
        assert read_bodies(connection, 1) == [b""]
        connection.sendall(post(b"next"))
        assert read_bodies(connection, 1) == [b"next"]
    assert keys == ["mine", None]


def test_an_expectation_with_a_body_is_told_to_go_on(serve: Serve) -> None:
    with connect(serve(lambda request: Answer("200 OK", [], request.body))) as connection:
        expecting = post(b"body").replace(b"Host", b"Expect: 100-continue\r\nHost")
        head, _, body = expecting.partition(b"\r\n\r\n")
        connection.sendall(head + b"\r\n\r\n")
        assert connection.recv(4096) == b"HTTP/1.1 100 Continue\r\n\r\n"
        connection.sendall(body)
        assert read_bodies(connection, 1) == [b"body"]


@pytest.mark.parametrize(
    ("head", "status"),
    [
        (b"Transfer-Encoding: chunked\r\nContent-Length: 5", 400),
        (b"Content-Length: 5\r\nTransfer-Encoding: chunked", 400),
        (b"Content-Length: 5, 5", 400),
        (b"Content-Length: -1", 400),
        (b"Content-Length: " + b"9" * 5_000, 400),
        (b"Transfer-Encoding: gzip", 501),
        (b"Content-Length: 999999999", 413),
    ],
)
def test_a_request_whose_end_is_in_doubt_is_the_connections_last(
    serve: Serve, head: bytes, status: int
) -> None:
    server = serve(lambda _: Answer("200 OK", [], b""))
    with connect(server) as connection:
        start = f"POST /desk HTTP/1.1\r\nHost: {Door.host}\r\n".encode()
        connection.sendall(start + head + b"\r\n\r\n0\r\n\r\n" + post(b"hidden"))
        answer = b"".join(iter(partial(connection.recv, 4096), b""))
    assert answer.startswith(b"HTTP/1.1 %d " % status)
    assert answer.count(b"HTTP/1.1") == 1


@pytest.mark.parametrize(
    "line", [b"GET http://[ HTTP/1.1", b"GET / HTTP/9.9", b"GET /", b"\xff", b"get / HTTP/1.1"]
)
def test_a_request_line_that_is_none_is_answered(
    serve: Serve, caplog: pytest.LogCaptureFixture, line: bytes
) -> None:
    with connect(serve(Desk())) as connection:
        connection.sendall(line + b"\r\n\r\n")
        assert b" 400 " in connection.recv(4096)
    assert not caplog.records


def test_a_client_that_still_sends_is_told_that_its_body_is_too_large(serve: Serve) -> None:
    with connect(serve(Desk())) as connection:
        body = b"x" * 2**24
        sending = threading.Thread(target=connection.sendall, args=(post(body),))
        sending.start()
        sending.join(30)  # nobody resets the connection meanwhile
        assert not sending.is_alive()
        assert connection.recv(4096).startswith(b"HTTP/1.1 413")


def test_chunks_of_a_byte_are_read(serve: Serve) -> None:
    server = serve(lambda request: Answer("200 OK", [], b"%d" % len(request.body)))
    size = SMALL + 1
    with connect(server) as connection:
        head = f"POST /desk HTTP/1.1\r\nHost: {Door.host}\r\nTransfer-Encoding: chunked\r\n\r\n"
        connection.sendall(head.encode() + b"1\r\nx\r\n" * size + b"0\r\n\r\n" + post(b"next"))
        assert read_bodies(connection, 2) == [b"%d" % size, b"4"]


@pytest.mark.parametrize("endless", [b"1" * 10_000, b"1;" + b"x" * 10_000])
def test_a_chunks_size_has_an_end(serve: Serve, endless: bytes) -> None:
    with connect(serve(Desk())) as connection:
        head = f"POST /desk HTTP/1.1\r\nHost: {Door.host}\r\nTransfer-Encoding: chunked\r\n\r\n"
        connection.sendall(head.encode() + endless)
        assert connection.recv(4096).startswith(b"HTTP/1.1 400")


def test_closing_waits_for_the_answers_that_are_known(serve: Serve) -> None:
    desk = Desk()
    server = serve(desk)
    with ExitStack() as stack:
        waiting = [stack.enter_context(connect(server)) for _ in range(MANY)]
        for connection in waiting:
            connection.sendall(post(b"x"))
        desk.wait(MANY)
        for _, awaited in desk.kept:
            awaited.set_result("!")
        server.close()
        for connection in waiting:
            connection.setblocking(False)  # all is there already
            assert connection.recv(4096).endswith(b"x!")
