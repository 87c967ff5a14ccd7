"""A producer for benchmarks: posts events over keep-alive connections, with little work of its own.

Prints one JSON object: how many posts were confirmed, when it began, in how many seconds, and with
``--pace`` the moment each post was sent; moments are in seconds since the epoch.
"""

from __future__ import annotations

import argparse
import json
import selectors
import socket
import sys
import time
from collections.abc import Iterator
from pathlib import Path


def main() -> None:
    """Post the lines of a file."""
    options = argparse.ArgumentParser(description=__doc__)
    options.add_argument("port", type=int)
    options.add_argument("events", type=Path)
    options.add_argument("--lines", type=int, default=1, help="events in one post")
    options.add_argument("--clients", type=int, default=1)
    options.add_argument(
        "--pace", type=float, help="posts a second; as fast as it goes when absent"
    )
    given = options.parse_args()
    requests = list(_requests(given.port, given.events, given.lines))
    began = time.time()
    sent = _post_all(given.port, requests, given.clients, given.pace)
    seconds = time.time() - began
    said = {"began": began, "seconds": seconds, "posts": len(requests)}
    json.dump(said | {"sent": sent if given.pace else []}, sys.stdout)


def _requests(port: int, path: Path, lines: int) -> Iterator[bytes]:
    head = f"POST /api/v1/events HTTP/1.1\r\nHost: 127.0.0.1:{port}\r\nContent-Length: "
    with path.open("rb") as file:
        while body := b"".join(line for _, line in zip(range(lines), file, strict=False)):
            yield f"{head}{len(body)}\r\n\r\n".encode() + body


def _post_all(port: int, requests: list[bytes], clients: int, pace: float | None) -> list[float]:
    """Send every request, each client one after the other; return when each was sent."""
    sent: list[float] = []
    waiting = iter(requests)
    began = time.time()
    with selectors.DefaultSelector() as selector:
        for _ in range(clients):
            connection = socket.create_connection(("127.0.0.1", port))
            connection.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
            if _send_next(connection, waiting, sent, began, pace):
                selector.register(connection, selectors.EVENT_READ, connection)
        while selector.get_map():
            for key, _ in selector.select():
                connection = key.data
                _read_answer(connection)
                if not _send_next(connection, waiting, sent, began, pace):
                    selector.unregister(connection)
                    connection.close()
    return sent


def _send_next(
    connection: socket.socket,
    waiting: Iterator[bytes],
    sent: list[float],
    began: float,
    pace: float | None,
) -> bool:
    request = next(waiting, None)
    if request is None:
        return False
    if pace is not None:
        due = began + len(sent) / pace
        while (left := due - time.time()) > 0:
            time.sleep(left)
    sent.append(time.time())
    connection.sendall(request)
    return True


def _read_answer(connection: socket.socket) -> None:
    answer = b""
    while True:
        data = connection.recv(1 << 16)
        if not data:
            raise ConnectionError(f"the daemon closed the connection: {answer!r}")
        answer += data
        head, end, body = answer.partition(b"\r\n\r\n")
        if end:
            length = int(head.lower().partition(b"content-length:")[2].split(b"\r\n")[0])
            if len(body) >= length:
                break
    if not answer.startswith(b"HTTP/1.1 202"):
        raise ConnectionError(f"not accepted: {answer!r}")


if __name__ == "__main__":
    main()
