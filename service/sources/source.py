"""What a source is: where events come from."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from concurrent.futures import Future
from dataclasses import dataclass, field
from threading import Event
from typing import TYPE_CHECKING, Any

from pydantic import BaseModel

from service.block import Receipt, Submission
from service.event_queue import EventQueue
from service.settings import Settings
from service.sources.mount import Mount

if TYPE_CHECKING:
    from flask_apscheduler import APScheduler


@dataclass(frozen=True, slots=True)
class Surroundings:
    """What a source may use of the daemon; without one there is neither scheduler nor app.

    ``failed`` takes what cannot be mended, and ends the pipeline.
    """

    queue: EventQueue
    settings: Settings
    failed: Callable[[str], None]
    references: Mapping[str, tuple[str, int]]
    """By source: the file it was reading, and up to which byte that was accepted before."""
    scheduler: APScheduler | None = None
    mounts: dict[str, Mount] = field(default_factory=dict)
    """By path: what sources answer by themselves, beside the operators' app."""


class Source:
    """Hands lines to the queue, from a thread, a scheduler's job or a request of its own.

    ``finished`` is set by a source that has come to its end.
    """

    class Params(BaseModel):
        """The parameters; a name not declared is an error."""

    def __init__(self, name: str, params: Any, surroundings: Surroundings) -> None:
        """Take ``params``, an instance of ``Params``."""
        self.name = name
        self.params = params
        self.surroundings = surroundings
        self.finished = Event()

    def start(self) -> None:
        """Begin to hand in lines; returns at once."""
        raise NotImplementedError

    def stop(self) -> None:
        """Hand in nothing more."""

    def submit(self, submission: Submission) -> Future[Receipt]:
        """Hand in lines, waiting while the queue is full; raises QueueClosed."""
        return self.surroundings.queue.submit(submission)
