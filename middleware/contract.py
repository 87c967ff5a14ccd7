"""What a middleware is: the contract between Penstock and the code its users write.

A middleware is one class. It is asked about each event in the chain's order and answers with the
event (pass it on), None (drop it) or a new dict (pass the changed event on). It always sees the
event's point as ``cid`` (int) and its time as ``time`` (float, seconds since the epoch), whatever
the configuration calls these fields and however it spells the time.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from enum import Enum
from operator import index
from types import MappingProxyType
from typing import Any, ClassVar, Final, SupportsIndex

import numpy as np
from numpy.typing import NDArray
from pydantic import BaseModel

from middleware.errors import ContractError
from middleware.parameters import parse_params

Event = Mapping[str, Any]
"""One event as a middleware sees it: read-only, so that nothing changes behind Penstock's back."""

Mask = NDArray[np.bool_]
"""One bool per event of a batch: True keeps it."""


MOST_COUNTED: Final = 2**53
"""How far a step may count at once: every reader of JSON reads this number exactly."""

LONGEST_NAME: Final = 200
"""Bytes in the name of a count."""


class NoParams(BaseModel):
    """The parameters of a middleware that takes none."""


class Batch:
    """Consecutive events as columns, in offset order.

    ``cid`` is int64[n] and ``time`` is float64[n]; ``batch["name"]`` gives any field the middleware
    reads, with None where an event lacks it. Iterating gives the events one by one.
    """

    __slots__ = ("_reads", "cid", "events", "fields", "time")

    def __init__(
        self,
        cid: NDArray[np.int64],
        time: NDArray[np.float64],
        *,
        reads: tuple[str, ...] = ("cid", "time"),
        fields: Mapping[str, Sequence[Any]] | None = None,
        events: Sequence[Event] | None = None,
    ) -> None:
        """Make a batch of n events.

        ``fields`` holds the columns besides cid and time, n values each, with ``MISSING`` where an
        event lacks the field. ``events`` holds the n whole events, where ``reads`` is empty.
        """
        self.cid = cid
        self.time = time
        self.fields = fields or {}
        self.events = events
        self._reads = reads

    def __len__(self) -> int:
        """Return n, the number of events."""
        return len(self.cid)

    def __getitem__(self, name: str) -> NDArray[Any] | list[Any]:
        """Return a column: an array for cid and time, a list for any other field."""
        if name == "cid":
            return self.cid
        if name == "time":
            return self.time
        if self.events is not None:
            return [event.get(name) for event in self.events]
        return [None if value is MISSING else value for value in self.fields[name]]

    def __iter__(self) -> Iterator[Event]:
        """Yield each event as ``handle`` sees it: with the fields the middleware reads."""
        if self.events is not None:
            yield from map(MappingProxyType, self.events)
            return
        columns = [self._values(name) for name in self._reads]
        # Spelled out, since that takes a third of the time, and most middleware read these.
        if self._reads == ("cid",):
            for cid in columns[0]:
                yield MappingProxyType({"cid": cid})
            return
        if self._reads == ("cid", "time"):
            for cid, time in zip(*columns, strict=True):
                yield MappingProxyType({"cid": cid, "time": time})
            return
        complete = not self.fields
        for values in zip(*columns, strict=True):
            event = dict(zip(self._reads, values, strict=True))
            if not complete:
                event = {name: value for name, value in event.items() if value is not MISSING}
            yield MappingProxyType(event)

    def __getstate__(self) -> tuple[Any, ...]:
        # Columns travel between processes as packed bytes.
        return (self.cid.tobytes(), self.time.tobytes(), self._reads, self.fields, self.events)

    def __setstate__(self, state: tuple[Any, ...]) -> None:
        cid, time, self._reads, self.fields, self.events = state
        self.cid = np.frombuffer(cid, np.int64)
        self.time = np.frombuffer(time, np.float64)

    def __repr__(self) -> str:
        return f"Batch({len(self)} events, reads={self._reads!r})"

    def _values(self, name: str) -> Sequence[Any]:
        if name == "cid":
            return list(self.cid.tolist())
        if name == "time":
            return list(self.time.tolist())
        return self.fields[name]


class Missing(Enum):
    """What stands in a column where an event lacks the field; one object in every process."""

    MISSING = "missing"


MISSING = Missing.MISSING

CID_RANGE: Final = (-(2**63), 2**63 - 1)
"""The points there are: what fits 64 bits."""


class Middleware:
    """A step of the chain that remembers nothing from one event to the next.

    Each worker process has an instance of its own. The answer may depend on the event and on the
    parameters alone: the same event may be asked again after a crash and must be answered alike.
    """

    Params: ClassVar[type[BaseModel]] = NoParams
    """The parameters, a pydantic model; a name it does not declare is an error."""

    shared: ClassVar[bool] = False

    def __init__(self, params: Any) -> None:
        """Take ``params``, an instance of ``Params``; resources belong in ``open``."""
        self.params = params
        self._counts: dict[str, int] = {}

    @property
    def reads(self) -> tuple[str, ...]:
        """The fields this middleware reads; empty: the whole event (slower: all is decoded)."""
        return ()

    def open(self) -> None:
        """Get ready in the process that will ask: connections, locks, values derived from params.

        Called after construction and again, after ``close``, whenever the parameters were set. A
        step that remembers may begin with an empty memory here: ``restore`` brings it back.
        """

    def close(self) -> None:
        """Give back what ``open`` took."""

    def handle(self, event: Event) -> Event | None:
        """Return the event to pass it on, None to drop it, a new dict to pass it on changed.

        An exception dead-letters this event alone, after bounded retries; so raise before
        remembering anything.
        """
        raise NotImplementedError

    def handle_batch(self, batch: Batch) -> Mask:
        """Return which events to keep; the optional fast form of ``handle``, with its answers.

        A middleware that changes events has no batch form. An exception here makes Penstock ask
        ``handle`` about each event of the batch, to find the guilty one.
        """
        raise NotImplementedError

    def explain(self, event: Event) -> str | None:
        """Say why ``handle`` would drop this event now, None if it would not; changes nothing."""
        del event
        return None

    def count(self, name: str, number: SupportsIndex = 1) -> None:
        """Count something apart (late events, lookups that found nothing); shown in the stats.

        ``number`` is an integer, NumPy's included. Raises ContractError for what is none, for more
        than ``MOST_COUNTED`` either way, and for a name that is no plain text.
        """
        if name not in self._counts:
            name = _plain_name(name)
        try:
            counted = self._counts.get(name, 0) + index(number)
        except TypeError:
            what = f'count("{name}", {number!r}) counts {type(number).__name__}, not an integer'
            raise ContractError(f"{what}: write int(...)") from None
        if abs(counted) > MOST_COUNTED:
            raise ContractError(f'count("{name}", ...) counts {counted:,}: more than it can hold')
        self._counts[name] = counted

    def take_counts(self) -> dict[str, int]:
        """Return what was counted since the last call, and start anew."""
        counts, self._counts = self._counts, {}
        return counts

    @classmethod
    def has_batch_form(cls) -> bool:
        """Say whether this class has a ``handle_batch`` of its own."""
        return cls.handle_batch is not Middleware.handle_batch

    @classmethod
    def parse_params(cls, params: Mapping[str, Any]) -> BaseModel:
        """Return ``params`` as a checked instance of ``Params``.

        Raises ConfigurationError with a line per wrong parameter: its name and what was expected.
        """
        return parse_params(cls, params)


def _plain_name(name: object) -> str:
    """Return the name of a count as it will stand in the stats; raises ContractError."""
    if not isinstance(name, str):
        raise ContractError(f"count({name!r}) names what it counts by no text: write a str")
    try:
        size = len(name.encode())
    except UnicodeEncodeError:
        raise ContractError(f"count({name!r}) has a name that is no Unicode text") from None
    if not 0 < size <= LONGEST_NAME:
        raise ContractError(f"the name of a count has 1 to {LONGEST_NAME} bytes, this has {size}")
    return str.__str__(name)  # of a subclass, such as an enumeration, its text


class SharedMiddleware(Middleware):
    """A step that remembers: one instance, in the state host, answers for all workers.

    It is asked in offset order and each event counts once, however often a worker, the state host
    or the daemon dies. Its memory must be a function of the events and parameters it has seen:
    no clock, no randomness.
    """

    shared: ClassVar[bool] = True

    def snapshot(self) -> Any:
        """Return the memory as plain data: None, bool, int, float, str, bytes, lists, dicts.

        A memoryview, such as the ``data`` of an array, stands for its bytes. It may all be the
        memory itself: it is encoded before the memory goes on.
        """
        raise NotImplementedError

    def restore(self, state: Any) -> None:
        """Take over a memory that ``snapshot`` returned; tuples come back as lists.

        Called after ``open``, at a start and whenever the parameters were set: the snapshot may
        have been taken with other parameters, and what is remembered already does not count.
        """
        raise NotImplementedError

    @classmethod
    def keeps_memory(cls, before: BaseModel, after: BaseModel) -> bool:
        """Say whether ``restore`` takes over a memory from other parameters, or leaves it empty.

        Both are instances of ``Params``. It decides nothing: it is said at a start with other ones.
        """
        del before, after
        return True
