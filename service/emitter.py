"""The emitter: brings results into offset order and hands the kept lines to the sinks."""

from __future__ import annotations

import logging
from collections.abc import Callable
from threading import Condition, Event
from typing import Final

from service.block import Block
from service.dead_letters import DeadLetterFile
from service.passage import Result
from service.sinks.sink import Sink
from service.statistics import Statistics

log = logging.getLogger(__name__)

LONGEST_PAUSE: Final = 5.0
"""Seconds between two attempts to write to a sink that fails."""


class Emitter:
    """Emits each block once, in order; holds the stream back while a sink fails."""

    def __init__(
        self,
        sinks: dict[str, Sink],
        dead_letters: DeadLetterFile,
        statistics: Statistics,
        settled: Callable[[Block], None],
    ) -> None:
        """Report each emitted block to ``settled``."""
        self._sinks = sinks
        self._dead_letters = dead_letters
        self._statistics = statistics
        self._settled = settled
        self._changed = Condition()
        self._waiting: dict[int, tuple[Block, Result]] = {}
        self._next = 1
        self._stopping = Event()
        self.failing: dict[str, str] = {}
        """The sinks that cannot write at present, by name, with the reason."""

    def offer(self, block: Block, result: Result) -> None:
        """Take a result, in any order; one that is there already, or was emitted, is ignored."""
        with self._changed:
            if block.number >= self._next and block.number not in self._waiting:
                self._waiting[block.number] = (block, result)
                if block.number == self._next:
                    self._changed.notify()

    def run(self) -> None:
        """Emit until stopped."""
        while not self._stopping.is_set():
            with self._changed:
                self._changed.wait_for(self._can_go_on)
            self.emit_next()

    def emit_next(self) -> bool:
        """Emit the next block if its result is there; say whether it was emitted."""
        with self._changed:
            waiting = self._waiting.pop(self._next, None)
        return waiting is not None and self._emit(*waiting)

    def stop(self) -> None:
        """Stop after the block at hand; what comes later is not emitted."""
        self._stopping.set()
        with self._changed:
            self._changed.notify()

    def _can_go_on(self) -> bool:
        return self._stopping.is_set() or self._next in self._waiting

    def _emit(self, block: Block, result: Result) -> bool:
        """Emit one block, in this order; say whether it was.

        1. Every sink writes its lines, and the dead letters theirs, however long it takes.
        2. The counts take it in, so they never show what is not written.
        3. Only now it is settled: the daemon may forget it.
        """
        if result.kept:
            for name, sink in self._sinks.items():
                if not self._write(name, lambda sink=sink: sink.write(result.kept)):  # type: ignore[misc]  # bound at once
                    return False
        if not self._write("dead letters", lambda: self._dead_letters.write(block, result)):
            return False
        self._statistics.settle(block, result)
        with self._changed:
            self._next = block.number + 1
            self._waiting.pop(block.number, None)  # a replay may have brought it again meanwhile
        self._settled(block)
        return True

    def _write(self, name: str, write: Callable[[], None]) -> bool:
        pause = 0.0
        while not self._stopping.wait(pause):
            try:
                write()
            except OSError as error:
                pause = min(LONGEST_PAUSE, 2 * pause + 0.1)
                if name not in self.failing:
                    log.warning(
                        "%s cannot be written: %s; the stream waits, nothing is lost", name, error
                    )
                self.failing[name] = str(error)
                continue
            if self.failing.pop(name, None) is not None:
                log.warning("%s can be written again; the stream goes on", name)
            return True
        return False
