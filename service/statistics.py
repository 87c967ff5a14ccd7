"""What became of the events so far, by count: every one is accounted for, at any time."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from threading import Lock
from typing import Any

from middleware.contract import MOST_COUNTED
from service.block import Block
from service.passage import Result


@dataclass(frozen=True, slots=True)
class Totals:
    """Invariant: accepted = emitted + sum of ``dropped`` + ``dead`` + ``in_flight``.

    The lines of a file count as accepted once a worker has counted them. ``dropped``, ``shadow``
    (what a shadow step would have dropped) and ``counts`` (what a middleware counts apart) are by
    the step's name.
    """

    accepted: int
    emitted: int
    dropped: dict[str, int]
    shadow: dict[str, int]
    dead: int
    in_flight: int
    counts: dict[str, dict[str, int]]


class Statistics:
    """Adds up results; a block counts whole or not at all."""

    def __init__(self, steps: Iterable[str], state: Mapping[str, Any] | None = None) -> None:
        """Count for ``steps``, the names of all steps of the chain; go on from a ``state``."""
        self._lock = Lock()
        state = state or {}
        self.settled_bytes = int(state.get("bytes", 0))
        self._settled = int(state.get("settled", 0))
        self._emitted = int(state.get("emitted", 0))
        self._dead = int(state.get("dead", 0))
        self._in_flight = 0
        self._dropped: Counter[str] = Counter(state.get("dropped", {}))
        self._shadow: Counter[str] = Counter(state.get("shadow", {}))
        self._counts = {name: Counter(each) for name, each in state.get("counts", {}).items()}
        # What a step has dropped stays dropped after the step is no longer in the chain.
        self._steps = tuple(dict.fromkeys([*steps, *self._dropped, *self._shadow]))

    def accept(self, block: Block) -> None:
        """Count a block's lines as accepted and in flight."""
        with self._lock:
            self._in_flight += block.lines or 0

    def settle(self, block: Block, result: Result, refused: int = 0) -> None:
        """Count what became of a block; ``refused`` of its kept events died at a sink."""
        with self._lock:
            self.settled_bytes += block.size
            self._in_flight -= block.lines or 0
            self._settled += result.accepted
            self._emitted += result.emitted - refused
            self._dead += len(result.dead) + refused
            self._dropped.update(result.dropped)
            self._shadow.update(result.shadow)
            for name, counts in result.counts.items():
                counted = self._counts.setdefault(name, Counter())
                for what, number in counts.items():  # whatever steps count, it fits a checkpoint
                    counted[what] = max(-MOST_COUNTED, min(counted[what] + number, MOST_COUNTED))

    def state(self) -> dict[str, Any]:
        """Return the counts of what is settled, as plain data to go on from."""
        with self._lock:
            return {
                "bytes": self.settled_bytes,
                "settled": self._settled,
                "emitted": self._emitted,
                "dead": self._dead,
                "dropped": dict(self._dropped),
                "shadow": dict(self._shadow),
                "counts": {name: dict(counts) for name, counts in self._counts.items()},
            }

    @property
    def left(self) -> str:
        """How many events are under way, in words; empty while none is known to be."""
        return f"{self._in_flight} events are not emitted yet" if self._in_flight else ""

    def totals(self) -> Totals:
        """Return the counts, all of the same moment."""
        with self._lock:
            return Totals(
                accepted=self._settled + self._in_flight,
                emitted=self._emitted,
                dropped={name: self._dropped[name] for name in self._steps},
                shadow={name: self._shadow[name] for name in self._steps},
                dead=self._dead,
                in_flight=self._in_flight,
                counts={name: dict(counts) for name, counts in self._counts.items()},
            )
