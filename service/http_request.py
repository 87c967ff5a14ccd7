"""Reads one request: waitress's parser with tighter rules, and with who is let in."""

from __future__ import annotations

from typing import Any, Final

from waitress.parser import HTTPRequestParser, ParsingError
from waitress.utilities import BadRequest, Error

from service.http_admission import Admission

LONGEST_CONTROL: Final = 1_024
"""Bytes of the line before a chunk, which is looked through again with each byte that comes."""

LONGEST_TRAILER: Final = 8_192
"""Bytes after the last chunk, likewise."""


class Refused(Error):  # type: ignore[misc]  # waitress ships no types
    """What the answer to a request that is not let in says."""

    def __init__(self, code: int, reason: str, body: str) -> None:
        super().__init__(body)
        self.code = code
        self.reason = reason


class RequestParser(HTTPRequestParser):  # type: ignore[misc]  # as above
    """One request, as far as it is here; ``error`` tells why it is refused."""

    def __init__(self, adjustments: Any, admission: Admission) -> None:
        super().__init__(adjustments)
        self._admission = admission

    @property
    def missing(self) -> int | None:
        """The bytes of the body that are still to come; None where nobody knows."""
        return None if self.body_rcv is None or self.chunked else self.body_rcv.remain

    def received(self, data: bytes) -> int:
        """Take the next bytes; return how many of them belong to this request."""
        consumed: int = super().received(data)
        if self.chunked and not self.completed:
            body = self.body_rcv
            if len(body.control_line) > LONGEST_CONTROL or len(body.trailer) > LONGEST_TRAILER:
                self.refuse(BadRequest("what stands around the chunks is too long"))
        return consumed

    def refuse(self, error: Error) -> None:
        """Read no more of it: the answer is an error."""
        self.error = error
        self.completed = True

    def parse_header(self, header_plus: bytes) -> None:
        """Take the head; raises ParsingError."""
        try:
            super().parse_header(header_plus)
        except ValueError as error:  # of a target that is no URL, of a number without end
            raise ParsingError("The head is malformed") from error
        if self.version not in {"1.0", "1.1"}:
            raise ParsingError("Expected HTTP/1.0 or HTTP/1.1")
        # Of two ways to find its end, another reader of the same bytes may have taken the other.
        if self.chunked and "CONTENT_LENGTH" in self.headers:
            raise ParsingError("Transfer-Encoding and Content-Length exclude each other")
        if "TRANSFER_ENCODING" in self.headers:
            raise ParsingError("HTTP/1.0 knows no Transfer-Encoding")
        refusal = self._admission.refusal(
            self.command, self.version, self.headers, self.proxy_netloc
        )
        if refusal is not None:
            status, detail = refusal
            self.refuse(Refused(status.value, status.phrase, detail))
