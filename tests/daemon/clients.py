"""A producer: posts one body after the other over one connection."""

from __future__ import annotations

import http.client
import json
from collections.abc import Callable, Iterable
from typing import Any


def post_all(
    address: tuple[str, int], bodies: Iterable[bytes], accepted: Callable[[Any, bytes], None]
) -> None:
    """Post each body until it is accepted and report its receipt."""
    connection = http.client.HTTPConnection(*address, timeout=60)
    try:
        for body in bodies:
            while True:
                connection.request("POST", "/api/v1/events", body)
                response = connection.getresponse()
                answer = response.read()
                if response.status != http.HTTPStatus.TOO_MANY_REQUESTS:
                    break
            assert response.status == http.HTTPStatus.ACCEPTED, answer
            accepted(json.loads(answer), body)
    finally:
        connection.close()
