"""What the tests of sinks write, and a database seen from outside."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from contextlib import closing
from dataclasses import dataclass
from typing import Any

import numpy as np

from service.sinks.sink import Emission
from service.sinks.sql import SqlSink


def event(cid: int, time: float = 0.5, **fields: str) -> bytes:
    """Return an event's line, with its line end."""
    more = "".join(f', "{name}": "{value}"' for name, value in fields.items())
    return f'{{"cid": {cid}, "time": {time}{more}}}\n'.encode()


def emission(block: int, *lines: bytes, rows: Sequence[int] | None = None) -> Emission:
    """Return an emission of lines; every second line of the block was kept, or ``rows``."""
    kept = range(0, 2 * len(lines), 2) if rows is None else rows
    mask = np.zeros(max(kept, default=-1) + 1, np.bool_)
    mask[list(kept)] = True
    return Emission(block, b"".join(lines), np.packbits(mask).tobytes())


@dataclass(frozen=True)
class Database:
    """A database as its administrator sees it."""

    kind: str
    url: str
    connect: Callable[[], Any]

    def run(self, *statements: str) -> list[Any]:
        """Execute statements, each a transaction; return the rows of the last."""
        with closing(self.connect()) as connection:
            rows: list[Any] = []
            for statement in statements:
                cursor = connection.execute(statement)
                rows = cursor.fetchall() if cursor.description else []
            return rows

    def offsets(self) -> list[tuple[int, int]]:
        """Return the offsets of the events in the table, in order."""
        return self.run("SELECT block, line FROM events ORDER BY block, line")

    def sink(self, position: Any = None, **params: Any) -> SqlSink:
        """Return a sink, open."""
        sink = SqlSink(SqlSink.Params.model_validate({"url": self.url, **params}))
        sink.open(position)
        return sink
