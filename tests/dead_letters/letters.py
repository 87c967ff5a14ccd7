"""What the tests of dead letters are made of: letters, where they came from, and a queue."""

from __future__ import annotations

from collections.abc import Callable
from concurrent.futures import Future

from service.block import Block, Offset, Part, Receipt, Submission
from service.chain import ChainVersion
from service.origins import Origin
from service.passage import DeadLetter

LONGEST = 1_000
"""Bytes of an event that a store of these tests keeps."""


def numbered(number: int) -> Block:
    """Return a block whose lines came from the source "push"."""
    return Block(number, b"\n" * 20, (Part("push", 20, 1, 0.25),), ChainVersion(1, ()), False)


def origin(block: Block, row: int) -> Origin:
    return Origin(block.parts[0].source, row + 1, block.parts[0].received)


def bad(*rows: int, event: bytes = b"bad") -> list[DeadLetter]:
    return [DeadLetter(row, event, "not JSON") for row in rows]


def failed(row: int, middleware: str = "lookup", event: bytes = b'{"cid": 1}') -> DeadLetter:
    return DeadLetter(row, event, "handle raised", middleware, 3, "Traceback: ...")


class FakeQueue:
    """Accepts what it is handed, each key once; ``trouble`` is raised instead while it is set."""

    def __init__(self) -> None:
        self.accepted: dict[str | None, Submission] = {}
        self.receipts: dict[str | None, Receipt] = {}
        self.trouble: Exception | None = None
        self.late: Exception | None = None
        """Comes instead of the receipt."""
        self.before: Callable[[Submission], None] = lambda _: None
        self.held: list[Future[Receipt]] = []
        self.holds = False
        """Says whether it gives no receipt at all."""
        self.takes = False
        """Says whether what it holds is beyond withdrawing."""

    def submit(self, submission: Submission, limit: float) -> Future[Receipt]:
        assert limit >= 0
        if self.trouble is not None:
            raise self.trouble
        self.before(submission)
        future: Future[Receipt] = Future()
        if self.holds:
            self.held.append(future)
            if self.takes:
                future.set_running_or_notify_cancel()
        elif self.late is not None:
            future.set_exception(self.late)
        else:
            future.set_result(self._accept(submission))
        return future

    def _accept(self, submission: Submission) -> Receipt:
        if submission.key not in self.accepted:
            self.accepted[submission.key] = submission
            place = Offset(1_000 + len(self.accepted), 0)
            self.receipts[submission.key] = Receipt(place, submission.lines, submission.received)
        return self.receipts[submission.key]
