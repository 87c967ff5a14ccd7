"""A sink behind a guard: whatever it raises is a reason to wait, and how long it takes is known."""

from __future__ import annotations

import errno
import logging
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from threading import Thread, get_ident
from typing import Any, Final

import msgspec

from middleware.errors import FAULTS, ConfigurationError, in_words
from middleware.loading import raised_at
from middleware.plain_data import PLAIN, find_odd
from service.disk import as_places
from service.errors import OutcomeUnknown, PipelineFailed, RecordRefused, SinkFailed
from service.last_calls import Note, ignore
from service.sinks.sink import Emission, Sink

log = logging.getLogger(__name__)

_DISK: Final = {errno.EIO, errno.ENOSPC, errno.EDQUOT}
"""After these nobody knows what a disk kept: to flush once more might succeed without it."""

AHEAD: Final = 100_000
"""Blocks that a loss of power can take from the journal and not from a sink, at the very most.

What is written is on the disk within half a minute, in which no more are accepted.
"""


@dataclass(slots=True)
class Outlet:
    """A sink, and what to do with an event that it will never take.

    Its methods are those of the sink. What the sink may raise by its contract passes; anything else
    is a fault of its class, and becomes a SinkFailed that says where.
    """

    sink: Sink
    refused_die: bool = False
    name: str = ""
    note: Note = ignore
    """Notes which method of the sink is running, for the start after one that ends the process."""
    settled: int = 0
    """The last block that it held for good when it was opened; it is asked to write none before."""
    _calls: dict[int, tuple[str, float]] = field(default_factory=dict)
    """By thread: the method it is in, and since when on the monotonic clock."""

    def open(self, position: Any, last_block: int) -> None:
        """Open the sink; ``last_block`` is the last one that the journal holds.

        Raises PipelineFailed when it tells that it holds what cannot be.
        """
        with self._calling("open"):
            self.sink.open(position)
            settled: Any = self.sink.settled
        if isinstance(settled, bool) or not isinstance(settled, int) or settled < 0:
            message = f"open leaves settled = {settled!r}, which is no block: a whole number from 0"
            raise PipelineFailed(self._fault(message))
        if settled > last_block + AHEAD:
            message = (
                f"it says that it holds all up to block {settled}, and the journal ends at block "
                f"{last_block}: that is more than a loss of power can take. Either its class is "
                "wrong, or the state directory is not the one it was: mend the class, or put the "
                f"directory back, or run without this sink: penstock run --without {self.name}"
            )
            raise PipelineFailed(message)
        self.settled = settled

    def write(self, emission: Emission) -> None:
        """Write the emission; RecordRefused names one of its events."""
        with self._calling("write"):
            try:
                self.sink.write(emission)
            except RecordRefused as refusal:
                if refusal.row not in emission.rows:
                    message = f"write refuses line {refusal.row}, which it was not given"
                    raise SinkFailed(self._fault(message)) from refusal
                raise

    def position(self) -> Any:
        """Return the sink's position, a copy: what the sink changes later is not in it."""
        with self._calling("position"):
            position = self.sink.position()
            if odd := find_odd(position, "position()"):
                raise SinkFailed(self._fault(f"{odd}, not plain data: make it of {PLAIN}"))
            return msgspec.msgpack.decode(msgspec.msgpack.encode(position))

    def flush(self) -> None:
        """Flush the sink; raises OutcomeUnknown when only a new start can tell what is kept."""
        try:
            with self._calling("flush"):
                self.sink.flush()
        except OSError as error:
            if error.errno not in _DISK:
                raise
            message = (
                f'the sink "{self.name}" does not say whether it kept what was written ({error}): '
                "the daemon stops; its next start writes everything since the last checkpoint again"
            )
            raise OutcomeUnknown(message) from error

    def writes(self) -> list[Path | str]:
        """Return what the sink writes to; raises ConfigurationError."""
        try:
            with self._calling("writes"):
                return as_places(self.sink.writes())
        except (OSError, SinkFailed, PipelineFailed) as error:
            raise ConfigurationError(str(error)) from error

    def close(self, limit: float) -> None:
        """Close the sink, within ``limit`` seconds; that it failed is only told."""
        closing = Thread(target=self._close, name=f"close {self.name}", daemon=True)
        closing.start()
        closing.join(limit)
        if closing.is_alive():
            log.error('sink "%s": close has taken %g s; it is left alone', self.name, limit)

    def longest_call(self) -> tuple[str, float] | None:
        """Return the method that the sink has been at for longest, and since when; None for none.

        Asked in other threads.
        """
        calls = self._calls.copy()
        return min(calls.values(), key=lambda call: call[1]) if calls else None

    def _close(self) -> None:
        try:
            with self._calling("close"):
                self.sink.close()
        except (OSError, SinkFailed, PipelineFailed) as error:
            log.error('sink "%s" cannot be closed: %s', self.name, error)  # noqa: TRY400 - says where

    @contextmanager
    def _calling(self, method: str) -> Iterator[None]:
        self._calls[get_ident()] = (method, time.monotonic())
        self.note(method)
        try:
            yield
        except (OSError, SinkFailed, PipelineFailed):
            raise
        except RecordRefused:
            if method == "write":
                raise
            raise SinkFailed(self._fault(f"{method} refuses an event")) from None
        except FAULTS as error:
            what = f"{method} raised {in_words(error)}"
            raise SinkFailed(self._fault(f"{what} ({raised_at(error)})")) from error
        finally:
            del self._calls[get_ident()]
            self.note(next((other for other, _ in self._calls.copy().values()), ""))

    def _fault(self, what: str) -> str:
        return (
            f"{type(self.sink).__name__}.{what}; this is a fault of the class: mend it and restart "
            f"the daemon, or run it without this sink: penstock run --without {self.name}"
        )
