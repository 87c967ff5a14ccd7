"""Asking one middleware about one batch; the same code in a worker and in the state host.

A batch form that raises is asked again event by event (a local step at once, a shared one after its
memory was rebuilt, since it may hold half a batch). An event whose ``handle`` raises is tried again
a bounded number of times and then fails alone.
"""

from __future__ import annotations

import traceback
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import Any

import numpy as np

from middleware.contract import Batch, Event, Mask, Middleware
from middleware.errors import FAULTS, ContractError, in_words
from middleware.wording import writable
from service.progress import BATCH, RAISED, Lane


@dataclass(frozen=True, slots=True)
class Failure:
    """Why an event could not be handled, after how many attempts."""

    reason: str
    attempts: int
    traceback: str | None = None


@dataclass(frozen=True, slots=True)
class Blame:
    """What earlier attempts at a block have shown.

    ``careful``: ask event by event, since something in this block ends the process that asks.
    ``failed``: by step (or BORDER) and position, the events that are not to be tried any more.
    """

    careful: bool = False
    failed: Mapping[int, Mapping[int, Failure]] = field(default_factory=dict)


NO_BLAME = Blame()


@dataclass(slots=True)
class Answer:
    """A step's answer to a batch of n events.

    ``keep`` is bool[n]; ``changed`` and ``failed`` are by position in the batch.
    """

    keep: Mask
    changed: dict[int, Event] = field(default_factory=dict)
    failed: dict[int, Failure] = field(default_factory=dict)
    counts: dict[str, int] = field(default_factory=dict)

    def __getstate__(self) -> tuple[Any, ...]:
        # The mask travels, and is remembered, as one bit an event.
        packed = np.packbits(self.keep).tobytes()
        return (packed, len(self.keep), self.changed, self.failed, self.counts)

    def __setstate__(self, state: tuple[Any, ...]) -> None:
        packed, count, self.changed, self.failed, self.counts = state
        self.keep = np.unpackbits(np.frombuffer(packed, np.uint8), count=count).astype(np.bool_)


class Asker:
    """Asks middleware, and keeps its lane up to date so that a culprit can be found."""

    def __init__(self, lane: Lane, retries: int) -> None:
        """Try an event whose handling raised ``retries`` times again."""
        self.lane = lane
        self._retries = retries

    def ask(
        self, middleware: Middleware, batch: Batch, *, block: int, step: int, blame: Blame
    ) -> Answer:
        """Return the middleware's answer to the batch.

        Raises what a shared middleware's ``handle_batch`` raised, with RAISED in the lane.
        """
        self.lane.enter(block, step, BATCH)
        failed = blame.failed.get(step, {})
        answer = None
        if middleware.has_batch_form() and not blame.careful and not failed:
            answer = self._ask_batch(middleware, batch)
        if answer is None:
            answer = self._ask_each(middleware, batch, failed)
        self.lane.leave()
        answer.counts = middleware.take_counts()
        return answer

    def _ask_batch(self, middleware: Middleware, batch: Batch) -> Answer | None:
        try:
            keep = np.asarray(middleware.handle_batch(batch))
            if keep.dtype != np.bool_ or keep.shape != (len(batch),):
                message = (
                    f"handle_batch returned {keep.dtype}{list(keep.shape)}, "
                    f"the contract wants bool[{len(batch)}]"
                )
                raise ContractError(message)
        except FAULTS:
            if middleware.shared:
                self.lane.cells[self.lane.position] = RAISED
                raise
            middleware.take_counts()
            return None
        return Answer(keep.copy())

    def _ask_each(
        self, middleware: Middleware, batch: Batch, failed: Mapping[int, Failure]
    ) -> Answer:
        answer = Answer(np.ones(len(batch), np.bool_))
        keep, changed = answer.keep, answer.changed
        cells, here = self.lane.cells, self.lane.position
        handle: Callable[[Event], object] = middleware.handle  # users return what they will
        for position, event in enumerate(batch):
            cells[here] = position
            if position in failed:
                answer.failed[position] = failed[position]
                continue
            try:
                passed = handle(event)
            except FAULTS as error:  # whatever it is, it is this event's alone
                passed = self._try_again(middleware, event, error, answer, position)
            if passed is event:
                continue
            if passed is None:
                keep[position] = False
            elif isinstance(passed, Mapping):
                try:
                    changed[position] = dict(passed)
                except FAULTS as error:  # a mapping of the user's own making
                    reason = f"handle returned a {type(passed).__name__} that cannot be read"
                    words = writable(f"{reason}: {in_words(error)}")
                    answer.failed[position] = Failure(words, attempts=1)
            else:
                reason = f"handle returned {type(passed).__name__}, not an event or None"
                answer.failed[position] = Failure(reason, attempts=1)
        return answer

    def _try_again(
        self,
        middleware: Middleware,
        event: Event,
        error: BaseException,
        answer: Answer,
        position: int,
    ) -> Event | None:
        first = error
        for _ in range(self._retries):
            try:
                return middleware.handle(event)
            except FAULTS as again:  # as above
                error = again
                if error.__context__ is first:
                    error.__context__ = None  # the attempts before it are no cause of this one
        answer.failed[position] = Failure(
            reason=writable(_reason(error, event)),
            attempts=self._retries + 1,
            traceback=writable("".join(traceback.format_exception(error))),
        )
        return event


def _reason(error: BaseException, event: Event) -> str:
    name = error.args[0] if isinstance(error, KeyError) and error.args else None
    if isinstance(name, str) and name not in event:
        return f'the event has no field "{name}", which the middleware reads'
    words = f"handle raised {in_words(error)}"
    if isinstance(error, (TypeError, AttributeError)) and type(event).__name__ in words:
        return f'{words}; the event is read-only: return a new dict, such as {{**event, "zone": 4}}'
    return words
