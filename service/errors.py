"""What only the running daemon can meet, as branches of the one error tree.

``PenstockError``
    ``ConfigurationError``, ``ContractError``   see ``middleware.errors``
    ``NotAccepted``         at the border: the event was not taken in, the producer still has it
        ``QueueFull``           there is no room now; try again later
        ``QueueClosed``         the daemon is stopping
        ``StorageFull``         the disk has too little room left; make some
            ``StorageBusy``         another process holds a lock on a file; end it
        ``KeyReused``           an idempotency key came again with other events
    ``ProcessLost``         while events flow: a worker or the state host died; it is replaced
    ``SnapshotHeldBack``    while events flow: no room for what the steps remember; tried again
    ``SinkFailed``          while events flow: a sink cannot write now; it is tried again
    ``RecordRefused``       while events flow: a sink will never take this one event
    ``Interrupted``         a start, or a run over files, was told to stop before its end
    ``PipelineFailed``      nothing can go on: an input changed, a sink is gone for good
        ``InputGone``           a file no longer holds what was taken in by reference
        ``OutcomeUnknown``      the disk did not say whether it kept what it was given
        ``JournalDamaged``      what is on the disk is not what was written
"""

from __future__ import annotations

from middleware.errors import PenstockError


class NotAccepted(PenstockError):
    """The event was not taken in; its producer still has it and should offer it again."""


class QueueFull(NotAccepted):
    """The queue holds as many events or bytes as it may."""


class QueueClosed(NotAccepted):
    """The daemon is stopping and takes nothing in any more."""


class StorageFull(NotAccepted):
    """The disk is full, or nearly: nothing new is taken in until there is room."""


class StorageBusy(StorageFull):
    """Another process holds a lock on a file of the journal: nothing was kept, try again."""


class KeyReused(NotAccepted):
    """An idempotency key came again with other events than the first time."""


class ProcessLost(PenstockError):
    """A worker or the state host died; its work is done again, nothing is lost."""


class SnapshotHeldBack(PenstockError):
    """The state host has no room now to hand over what its steps remember; it is tried again."""


class SinkFailed(PenstockError):
    """A sink cannot write at present; the stream waits and it is tried again."""


class RecordRefused(PenstockError):
    """A sink can write, but never this one record; ``row`` is the event's line in its block."""

    def __init__(self, row: int, reason: str) -> None:
        super().__init__(reason)
        self.row = row
        self.reason = reason


class Interrupted(PenstockError):
    """A start, or a run over files, was told to stop before its end.

    The message says how it goes on.
    """


class PipelineFailed(PenstockError):
    """The pipeline cannot go on, and trying again would not help; the message says why."""


class InputGone(PipelineFailed):
    """A file no longer holds what was taken in by reference; the message names path and bytes."""


class OutcomeUnknown(PipelineFailed):
    """Writing to the disk failed half way; only a new start can tell what it kept."""


class JournalDamaged(PipelineFailed):
    """What the disk gives back is not what was written; the message names the offsets."""
