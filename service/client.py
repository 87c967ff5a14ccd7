"""Asks a running daemon over HTTP, for the command line."""

from __future__ import annotations

import json
from collections.abc import Mapping
from http.client import HTTPException
from typing import Any, Final
from urllib.error import HTTPError
from urllib.parse import quote, urlencode
from urllib.request import ProxyHandler, Request, build_opener

from middleware.errors import PenstockError

LIMIT: Final = 30.0
"""Seconds the daemon may take to answer."""


def ask(
    url: str, method: str, path: str, body: object = None, query: Mapping[str, str] | None = None
) -> Any:
    """Return the daemon's JSON answer; raises PenstockError with what it says is wrong."""
    data = None if body is None else json.dumps(body).encode()
    place = quote(path) + (f"?{urlencode(query)}" if query else "")
    headers = {"Content-Type": "application/json"}
    try:
        # The daemon is on this machine: no proxy knows the way to it.
        request = Request(f"{url}{place}", data, headers, method=method)  # noqa: S310 - the user's own address
        with build_opener(ProxyHandler({})).open(request, timeout=LIMIT) as response:
            return json.load(response)
    except HTTPError as error:
        raise PenstockError(_detail(error, url)) from error
    except (OSError, HTTPException, ValueError) as error:
        reason = getattr(error, "reason", None) or error
        raise PenstockError(f"no daemon answers at {url}: {reason}") from error


def _detail(error: HTTPError, url: str) -> str:
    try:
        return str(json.load(error)["detail"])
    except (ValueError, LookupError, TypeError):
        return f"{url} is no daemon of penstock: it answered {error.code} {error.reason}"
