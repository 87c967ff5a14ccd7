"""Re-driving dead letters: handing their events in again, once what was wrong is mended.

Invariant: a letter is marked only after its event was accepted. Its key makes that happen once: who
asks again, after a crash in between, is told the same offset.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Iterable, Sequence
from concurrent.futures import Future
from concurrent.futures import TimeoutError as FutureTimeoutError
from threading import Lock
from typing import Final, NamedTuple

from middleware.errors import PenstockError
from service.block import Offset, Receipt, Submission
from service.dead_letter_store import DeadLetterStore, Status
from service.dead_letters import LetterId
from service.errors import NotAccepted, QueueFull

PATIENCE: Final = 5.0
"""Seconds in which the events of one call must be accepted; the others stay in their letters."""

SOURCE: Final = "dead letters"
"""The source that re-driven events come from; no configured one can have this name."""


class Outcome(NamedTuple):
    """What became of a letter, and if it is not what was asked for, why."""

    id: LetterId
    status: Status | None
    """None: there is no such letter."""
    redriven_as: str | None = None
    detail: str = ""


class Redriver:
    """Hands the events of dead letters to the queue, and does what else operators decide."""

    def __init__(
        self, store: DeadLetterStore, submit: Callable[[Submission, float], Future[Receipt]]
    ) -> None:
        """Hand in with ``submit``, as that of ``EventQueue``."""
        self._store = store
        self._submit = submit
        self._busy = Lock()

    def redrive(self, ids: Iterable[LetterId]) -> list[Outcome]:
        """Hand the events of letters in again, in this order; return an outcome for each letter.

        1. Each event is handed in under the key of its letter, as far as there is room in time.
        2. The receipts are waited for: with them the events are accepted.
        3. Only now the letters are marked; the others still wait, and their outcome says why.

        Raises QueueFull while another call is at it: together they would fill the queue.
        """
        if not self._busy.acquire(blocking=False):
            raise QueueFull("dead letters are being re-driven already; ask again later")
        try:
            return self._redrive(list(dict.fromkeys(ids)))
        finally:
            self._busy.release()

    def discard(self, ids: Iterable[LetterId]) -> list[Outcome]:
        """Mark letters as of no further interest; return an outcome for each."""
        ids = list(dict.fromkeys(ids))
        self._store.discard(ids)
        return [self._outcome(letter_id, Status.DISCARDED) for letter_id in ids]

    def _redrive(self, ids: Sequence[LetterId]) -> list[Outcome]:
        deadline = time.monotonic() + PATIENCE
        handed_in: dict[LetterId, Future[Receipt]] = {}
        accepted: dict[LetterId, Offset] = {}
        problems: dict[LetterId, str] = {}
        for letter_id in ids:
            try:
                if (future := self._hand_in(letter_id, deadline)) is not None:
                    handed_in[letter_id] = future
            except NotAccepted as error:
                problems[letter_id] = str(error)
        for letter_id, future in handed_in.items():
            try:
                accepted[letter_id] = future.result(_left(deadline)).first
            except FutureTimeoutError:
                problems[letter_id] = (
                    "the stream is held back; ask again later"
                    if future.cancel()
                    else "not known yet whether it was accepted; ask again: that adds no second one"
                )
            except PenstockError as error:
                problems[letter_id] = str(error)
        self._store.mark_redriven(accepted)
        return [self._outcome(each, Status.REDRIVEN, problems.get(each, "")) for each in ids]

    def _hand_in(self, letter_id: LetterId, deadline: float) -> Future[Receipt] | None:
        """Hand in one event, unless its letter does not wait or is not whole."""
        stored = self._store.get(letter_id)
        if stored is None or stored.status is not Status.WAITING or not stored.whole:
            return None
        key = f"redrive:{letter_id.offset}:{letter_id.sink}"
        event = stored.letter.event
        submission = Submission.of_lines(SOURCE, event, key=key, patient=False)
        return self._submit(submission, _left(deadline))

    def _outcome(self, letter_id: LetterId, wanted: Status, problem: str = "") -> Outcome:
        stored = self._store.get(letter_id)
        if stored is None:
            return Outcome(letter_id, None, detail="there is no such dead letter")
        if stored.status is not wanted and stored.status is not Status.WAITING:
            problem = f"it was {stored.status} before"
        elif stored.status is not wanted and not stored.whole:
            problem = (
                f"only a part of its {stored.event_bytes} bytes was kept, since that is more than"
                " event.max_event_bytes: its producer must send it again"
            )
        return Outcome(letter_id, stored.status, stored.redriven_as, problem)


def _left(deadline: float) -> float:
    return max(0.0, deadline - time.monotonic())
