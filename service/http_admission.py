"""Who is let in: requests to this daemon by name, and none that a web page elsewhere sends.

A browser is a way in for strangers: whatever page its user looks at can send requests to loopback.
It says so in ``Origin`` and ``Sec-Fetch-Site``; and where the page's own name leads here (DNS
rebinding), that name is in ``Host``. Programs that are no browsers send none of the first two.
"""

from __future__ import annotations

from collections.abc import Mapping
from http import HTTPStatus
from typing import Final, NamedTuple

from service.settings import Address

_HARMLESS: Final = {"GET", "HEAD"}
_OURS: Final = {None, "none", "same-origin"}
_HTTP_PORT: Final = 80


class Refusal(NamedTuple):
    """Why a request is not let in."""

    status: HTTPStatus
    detail: str


class Admission:
    """Knows by which names this daemon is called."""

    def __init__(self, address: Address) -> None:
        """Let requests to ``address`` in, whichever of the names of loopback they use."""
        hosts = {str(Address(name, address.port)) for name in (address.host, "127.0.0.1", "::1")}
        hosts.add(f"localhost:{address.port}")
        if address.port == _HTTP_PORT:
            hosts |= {host.removesuffix(f":{_HTTP_PORT}") for host in hosts}
        self._hosts = frozenset(hosts)
        self._origins = frozenset(f"http://{host}" for host in hosts)

    def refusal(
        self, command: str, version: str, headers: Mapping[str, str], named: str
    ) -> Refusal | None:
        """Return why a request is not let in, or None.

        ``headers`` are by name, in upper case with underscores; ``named`` is the host in the
        request's target, where it is a whole URL.
        """
        host = headers.get("HOST")
        if host is None:
            if version != "1.0":
                return Refusal(HTTPStatus.BAD_REQUEST, "expected a Host header")
        elif host not in self._hosts and host.lower() not in self._hosts:
            return self._misdirected(host)
        if named and named.lower() not in self._hosts:
            return self._misdirected(named)
        origin = headers.get("ORIGIN")
        if origin is not None and origin.lower() not in self._origins:
            detail = f"a web page of {origin[:100]} may not send requests here"
            return Refusal(HTTPStatus.FORBIDDEN, detail)
        site = headers.get("SEC_FETCH_SITE")
        if site not in _OURS and command not in _HARMLESS:
            return Refusal(
                HTTPStatus.FORBIDDEN, "a web page elsewhere may not change anything here"
            )
        return None

    def _misdirected(self, host: str) -> Refusal:
        known = ", ".join(sorted(self._hosts))
        detail = f"this daemon is not called {host[:100]}; it is called {known}"
        return Refusal(HTTPStatus.MISDIRECTED_REQUEST, detail)
