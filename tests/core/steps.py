"""Middleware for the tests of the core: the good, the forgetful, and the broken."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import Any

import numpy as np
from pydantic import BaseModel, Field

from middleware.contract import Batch, Event, Mask, Middleware, SharedMiddleware


class Even(Middleware):
    """Drops odd points; counts what it drops."""

    reads = ("cid",)

    def handle(self, event: Event) -> Event | None:
        if event["cid"] % 2:
            self.count("odd")
            return None
        return event


class EvenBatch(Even):
    """Decides a whole batch at once."""

    def handle_batch(self, batch: Batch) -> Mask:
        return np.asarray(batch.cid % 2 == 0)


class BrokenBatch(Even):
    """Its batch form counts, then raises; or returns what is no mask."""

    class Params(BaseModel):
        returns: str = "raises"

    def handle_batch(self, batch: Batch) -> Mask:
        self.count("half a batch")
        answers: dict[str, Any] = {
            "integers": np.ones(len(batch), np.int64),
            "too few": np.ones(len(batch) - 1, np.bool_),
            "None": None,
        }
        if self.params.returns not in answers:
            raise RuntimeError("the batch form is broken")
        mask: Mask = answers[self.params.returns]
        return mask


class Editor(Middleware):
    """Adds and removes fields of the points listed (all, when none is)."""

    class Params(BaseModel):
        reads: tuple[str, ...] = ()
        add: dict[str, Any] = Field(default_factory=dict)
        remove: tuple[str, ...] = ()
        cids: tuple[int, ...] = ()

    @property
    def reads(self) -> tuple[str, ...]:
        names: tuple[str, ...] = self.params.reads
        return names

    def handle(self, event: Event) -> Event | None:
        if self.params.cids and event["cid"] not in self.params.cids:
            return event
        left = {name: value for name, value in event.items() if name not in self.params.remove}
        return {**left, **self.params.add}


class Witness(Middleware):
    """Writes down what it saw of each event, as text, into the field ``saw``."""

    class Params(BaseModel):
        reads: tuple[str, ...] = ()

    @property
    def reads(self) -> tuple[str, ...]:
        names: tuple[str, ...] = self.params.reads
        return names

    def handle(self, event: Event) -> Event | None:
        return {**event, "saw": repr(dict(sorted(event.items())))}


class SharedWitness(SharedMiddleware):
    """Keeps what it is given; reads whole events, so whole events cross to it."""

    def handle(self, event: Event) -> Event | None:
        return event

    def snapshot(self) -> Any:
        return None

    def restore(self, state: Any) -> None:
        pass


class Raises(Middleware):
    """Raises for odd points, each time."""

    reads = ("cid",)

    def handle(self, event: Event) -> Event | None:
        if event["cid"] % 2:
            raise ValueError(f"{event['cid']} is odd")
        return event


class Unspeakable(Exception):
    """An error whose own text cannot be had."""

    def __str__(self) -> str:
        raise RuntimeError("no words")


class RaisesOdd(Middleware):
    """Raises an error that cannot be told, or told in Unicode."""

    reads = ("cid",)

    def handle(self, event: Event) -> Event | None:
        raise Unspeakable if event["cid"] % 2 else ValueError("\ud800")


class Unreadable(Mapping[str, Any]):
    """A mapping that raises as soon as it is looked into."""

    def __getitem__(self, key: str) -> Any:
        raise RuntimeError("nothing here")

    def __iter__(self) -> Iterator[str]:
        raise RuntimeError("nothing here")

    def __len__(self) -> int:
        return 1


class ReturnsUnreadable(Middleware):
    """Passes on a mapping of its own making that cannot be read."""

    reads = ("cid",)

    def handle(self, event: Event) -> Event | None:
        return Unreadable() if event["cid"] % 2 else event


class RaisesOnce(Middleware):
    """Raises for each event the first time, as a flaky service does."""

    reads = ("cid",)

    def open(self) -> None:
        self._asked: set[int] = set()

    def handle(self, event: Event) -> Event | None:
        if event["cid"] not in self._asked:
            self._asked.add(event["cid"])
            raise TimeoutError("not now")
        return event if event["cid"] % 2 == 0 else None


class WantsColour(Middleware):
    """Reads a field without asking whether it is there."""

    reads = ("colour",)

    def handle(self, event: Event) -> Event | None:
        return event if event["colour"] == "red" else None


class ChangesInPlace(Middleware):
    """Changes the event that it is given."""

    def handle(self, event: Event) -> Event | None:
        event["zone"] = 4  # type: ignore[index]
        return event


class LooksUp(Middleware):
    """Looks the point up in a table that lacks it."""

    class Params(BaseModel):
        key: Any

    reads = ("cid",)

    def handle(self, event: Event) -> Event | None:
        del event
        raise KeyError(self.params.key)


class Garbage(Middleware):
    """Returns what is neither an event nor None."""

    reads = ("cid",)

    def handle(self, event: Event) -> Any:
        return {1: "text", 2: 7, 3: ["cid", "time"], 4: True, 5: False, 6: 0}.get(
            event["cid"], event
        )


class Unencodable(Middleware):
    """Adds what JSON cannot hold."""

    reads = ("cid",)

    def handle(self, event: Event) -> Event | None:
        return {**event, "extra": object()}


class Tally(SharedMiddleware):
    """Keeps the first ``keep`` events of each point; remembers how many it saw."""

    reads = ("cid",)

    class Params(BaseModel):
        keep: int = 1

    def open(self) -> None:
        self._seen: dict[int, int] = {}

    def handle(self, event: Event) -> Event | None:
        seen = self._seen[event["cid"]] = self._seen.get(event["cid"], 0) + 1
        if seen > self.params.keep:
            self.count("more")
            return None
        return event

    def snapshot(self) -> Any:
        return dict(self._seen)

    def restore(self, state: Any) -> None:
        self._seen = state


class LiveTally(Tally):
    """Hands out its memory itself, not a copy: snapshot returns plain data all the same."""

    def snapshot(self) -> Any:
        return self._seen


class Numbers(SharedMiddleware):
    """Numbers the events, drops none: a shared step that changes events."""

    def open(self) -> None:
        self._number = 0

    def handle(self, event: Event) -> Event | None:
        if event["cid"] < 0:
            raise ValueError("no number below 0")
        self._number += 1
        return {**event, "number": self._number}

    def snapshot(self) -> Any:
        return self._number

    def restore(self, state: Any) -> None:
        self._number = state


class SharedUnpicklable(Numbers):
    """Passes on what cannot leave its process."""

    def handle(self, event: Event) -> Event | None:
        return {**event, "extra": lambda: None}


class SharedBrokenBatch(Tally):
    """Remembers half of a batch, then raises."""

    def handle_batch(self, batch: Batch) -> Mask:
        for event in list(batch)[: len(batch) // 2]:
            self.handle(event)
        raise RuntimeError("the batch form is broken")
