"""What a source is: where events come from."""

from __future__ import annotations

from collections.abc import Callable, Collection, Mapping
from concurrent.futures import Future
from dataclasses import dataclass, field
from pathlib import Path
from threading import Event
from typing import TYPE_CHECKING, Any

from pydantic import BaseModel

from service.block import FileRange, Receipt, Submission
from service.errors import NotAccepted
from service.event_queue import EventQueue
from service.last_calls import Note, ignore
from service.settings import Settings
from service.sources.mount import Mount
from service.threads import start_thread

if TYPE_CHECKING:
    from flask_apscheduler import APScheduler


@dataclass(frozen=True, slots=True)
class Surroundings:
    """What a source may use of the daemon; without one there is neither scheduler nor app.

    ``failed`` is told the name of a source that cannot go on, and why.
    """

    queue: EventQueue
    settings: Settings
    failed: Callable[[str, str], None]
    references: Mapping[str, FileRange]
    """By source: the last part of a file that was accepted before; so was all before it."""
    patient: bool = True
    """What is not there may still come: a source waits for it, where it can."""
    scheduler: APScheduler | None = None
    mounts: dict[str, Mount] = field(default_factory=dict)
    """By path: what sources answer by themselves, beside the operators' app."""


class Source:
    """Hands lines to the queue, from a thread, a scheduler's job or a request of its own.

    ``finished`` is set by a source that has come to its end. What goes wrong in one stops no other.
    """

    problem: str | None = None
    """Why it cannot hand in anything at present, if so."""

    class Params(BaseModel):
        """The parameters; a name not declared is an error."""

    def __init__(self, name: str, params: Any, surroundings: Surroundings) -> None:
        """Take ``params``, an instance of ``Params``."""
        self.name = name
        self.params = params
        self.surroundings = surroundings
        self.finished = Event()
        self._last: Future[Receipt] | None = None
        self.note: Note = ignore

    def reads(self) -> Collection[Path | str]:
        """Return the files, or the name of the stream, that it reads."""
        return ()

    def start(self) -> None:
        """Begin to hand in lines; returns at once."""
        raise NotImplementedError

    def stop(self) -> None:
        """Hand in nothing more."""

    def fail(self, problem: str) -> None:
        """Tell why it cannot go on, or not now; the same is told once."""
        if problem != self.problem:
            self.problem = problem
            self.surroundings.failed(self.name, problem)

    def start_thread(self, target: Callable[[], None]) -> None:
        """Run ``target`` in a thread; what it raises is this source's ``problem``."""
        start_thread(f"source {self.name}", target, self.fail)

    def submit(self, submission: Submission) -> Future[Receipt]:
        """Hand in lines, waiting while the queue is full; raises QueueClosed."""
        self._last = self.surroundings.queue.submit(submission)
        return self._last

    def all_accepted(self, limit: float) -> bool:
        """Wait until all that was handed in is accepted; False if ``limit`` seconds are too few."""
        if self._last is None:
            return True
        try:
            self._last.result(limit)
        except (TimeoutError, NotAccepted):  # what refused it ends the pipeline
            return False
        return True
