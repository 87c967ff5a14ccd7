"""What a source answers by itself at a path of the daemon's HTTP server.

An answer that waits for something names it and holds no thread meanwhile.
"""

from __future__ import annotations

from collections.abc import Callable
from concurrent.futures import Future
from typing import TYPE_CHECKING, Any, NamedTuple

if TYPE_CHECKING:
    from flask import Response


class Request(NamedTuple):
    """A request as a mount sees it."""

    method: str
    body: bytes
    idempotency_key: str | None


class Answer(NamedTuple):
    """What a request gets: a status such as ``202 Accepted``, header fields, and a body."""

    status: str
    headers: list[tuple[str, str]]
    body: bytes

    @classmethod
    def of(cls, response: Response) -> Answer:
        """Return what a Flask response says."""
        return cls(response.status, list(response.headers), response.get_data())


class Later(NamedTuple):
    """An answer that ``answer`` returns once ``awaited`` is done.

    What takes too long is cancelled, as far as it can be, and ``answer`` then says so.
    """

    awaited: Future[Any]
    answer: Callable[[], Answer]


Mount = Callable[[Request], Answer | Later]
"""Answers requests, possibly several at once; called where nothing may wait."""
