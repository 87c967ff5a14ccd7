"""A client that wants the daemon to fail: sockets only, and no knowledge of the inside.

``python hostile_client.py ATTACK HOST PORT SECONDS`` attacks for so long, whatever the daemon does
about it; ``ATTACK`` is one of ``ATTACKS``.
"""

from __future__ import annotations

import random
import resource
import socket
import struct
import sys
import time
from collections.abc import Callable
from contextlib import ExitStack, suppress
from threading import Thread
from typing import Final, NamedTuple

EVENT: Final = b'{"cid":1,"time":2}\n'


class Target(NamedTuple):
    """Where to, and until when (by ``time.monotonic``)."""

    host: str
    port: int
    end: float

    @property
    def over(self) -> bool:
        """Say whether the attack is over."""
        return time.monotonic() >= self.end

    def connect(self) -> socket.socket:
        """Return a connection that waits for nothing beyond the attack's end."""
        return socket.create_connection((self.host, self.port), max(0.1, self.left))

    @property
    def left(self) -> float:
        """The seconds until the end."""
        return self.end - time.monotonic()

    def head(self, method: str, path: str, *fields: str) -> bytes:
        """Return the head of a request."""
        lines = [f"{method} {path} HTTP/1.1", f"Host: {self.host}:{self.port}", *fields, "", ""]
        return "\r\n".join(lines).encode()

    def post(self, body: bytes) -> bytes:
        """Return a post of events."""
        return self.head("POST", "/api/v1/events", f"Content-Length: {len(body)}") + body


def half_open(target: Target) -> None:
    """Keep a thousand connections open that say nothing, or not all; open more when one is shut."""
    beginnings = [b"", b"G", b"POST /api/v1/events HTTP/1.1\r\nHost:", target.post(b"x" * 99)[:-9]]
    with ExitStack() as stack:
        for number in range(1_000):
            with suppress(OSError):
                connection = stack.enter_context(target.connect())
                connection.sendall(beginnings[number % len(beginnings)])
        while not target.over:
            with suppress(OSError):
                stack.enter_context(target.connect()).sendall(beginnings[2])


def never_reading(target: Target) -> None:
    """Send ahead thousands of requests with large answers, and read none."""
    requests = target.head("GET", "/api/v1/dead-letters?limit=1000")
    requests += target.head("GET", "/api/v1/middleware") + target.post(b"x\n" * 5_000)
    _each(target, 8, lambda connection: connection.sendall(requests * 200))


def garbage(target: Target) -> None:
    """Post half a mebibyte of what is no event, in eight ways, again and again."""
    size = 2**19
    bodies = [
        (piece * (size // len(piece) + 1))[:size]
        for piece in (b"x\n", b"nonsense\n", b'{"cid":1,"time":"x"}\n', b"\n" * 9 + b"{", b"{}\n")
    ]
    bodies += [b"[" + b"1," * (size // 2) + b"1]", b"[" + b"{}," * (size // 3) + b"{}]"]
    bodies += [random.Random(1).randbytes(size)]
    _each(target, 8, lambda connection: _ask(connection, target.post(bodies.pop())), 8)


def large_garbage(target: Target) -> None:
    """Post bodies as large as they may be that take many times their size where they are read."""
    bodies = [
        b"x\n" * 2**22,
        b"[" + b"1," * (15 * 2**19) + b"1]",
        b"[" + b"[]," * (5 * 2**20) + b"{}]",
        EVENT + b"\n" * (15 * 2**20),
        b'{"x":[\n' + b"{}," * (5 * 2**20) + b"{}]}",
        b'{"x":' * (3 * 2**20),
    ]
    _each(target, 3, lambda connection: _ask(connection, target.post(bodies.pop())), len(bodies))


def tiny_chunks(target: Target) -> None:
    """Send bodies in chunks of a byte."""
    head = target.head("POST", "/api/v1/events", "Transfer-Encoding: chunked")
    chunks = b"1\r\nx\r\n" * 2**17
    _each(target, 4, lambda connection: connection.sendall(head + chunks * 8))


def pipelining(target: Target) -> None:
    """Send ten thousand requests at once, and read what comes."""
    requests = (target.head("GET", "/livez") + target.post(EVENT)) * 5_000

    def attack(connection: socket.socket) -> None:
        sending = Thread(target=_quietly, args=(connection.sendall, requests))
        sending.start()
        while connection.recv(2**18) and not target.over:
            pass
        connection.shutdown(socket.SHUT_RDWR)
        sending.join()

    _each(target, 4, attack)


def unfinished(target: Target) -> None:
    """Send all but the end of bodies as large as they may be."""
    size = 15 * 2**20
    body = target.head("POST", "/api/v1/events", f"Content-Length: {size + 1}") + b"x" * size

    def attack(connection: socket.socket) -> None:
        connection.sendall(body)
        connection.recv(1)

    _each(target, 40, attack)


def aborted(target: Target) -> None:
    """Break off anywhere, by a reset."""
    requests = target.post(EVENT * 2_000) + target.head("GET", "/api/v1/stats")
    places = random.Random(2)

    def attack(connection: socket.socket) -> None:
        connection.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
        connection.sendall(requests[: places.randrange(len(requests))])

    _each(target, 4, attack)


def strange(target: Target) -> None:
    """Send what no honest client would say."""
    endings = ["Transfer-Encoding: chunked", "Content-Length: 3"]
    sayings = [
        target.head("GET", "/livez").replace(b"Host", b"Host: evil.example\r\nX"),
        target.head("POST", "/api/v1/events", "Origin: http://evil.example"),
        target.head("POST", "/api/v1/events", *endings) + b"0\r\n\r\n",
        target.head("POST", "/api/v1/events", "Transfer-Encoding: chunked") + b"1" * 2**20,
        target.head("GET", "/" + "x" * 2**20),
        target.head("GET", "/livez", *[f"X-{number}: y" for number in range(5_000)]),
        target.head("POST", "/api/v1/events", "Expect: 100-continue") * 50,
        target.head("POST", "/api/v1/events", "Content-Length: 99999999999"),
        random.Random(3).randbytes(2**18),
        b"\r\n" * 2**17,
    ]
    _each(target, 8, lambda connection: _ask(connection, sayings.pop()), len(sayings))


def _each(
    target: Target,
    connections: int,
    attack: Callable[[socket.socket], object],
    times: int | None = None,
) -> None:
    """Attack over so many connections at once, each again and again, until the end.

    With ``times`` the attacks are so many different ones, each made once.
    """
    left = [None] * times if times is not None else None

    def keep_on() -> None:
        while not target.over and left != []:
            if left:
                left.pop()
            _quietly(_attack)

    def _attack() -> None:
        with target.connect() as connection:
            attack(connection)

    threads = [Thread(target=keep_on) for _ in range(connections)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()


def _ask(connection: socket.socket, request: bytes) -> None:
    with suppress(ConnectionError):
        connection.sendall(request)
    connection.recv(2**16)


def _quietly(attack: Callable[..., object], *given: object) -> None:
    with suppress(OSError):  # the daemon may do with a hostile client as it likes
        attack(*given)


ATTACKS: Final = {
    attack.__name__: attack
    for attack in (
        *(half_open, never_reading, garbage, large_garbage, tiny_chunks, pipelining),
        *(unfinished, aborted, strange),
    )
}

if __name__ == "__main__":
    _, limit = resource.getrlimit(resource.RLIMIT_NOFILE)
    resource.setrlimit(resource.RLIMIT_NOFILE, (min(limit, 8_192), limit))
    name, host, port, seconds = sys.argv[1:]
    ATTACKS[name](Target(host, int(port), time.monotonic() + float(seconds)))
