"""What only the running daemon can meet, as branches of the one error tree.

``PenstockError``
    ``ConfigurationError``, ``ContractError``   see ``middleware.errors``
    ``NotAccepted``         at the border: the event was not taken in, the producer still has it
        ``QueueFull``           there is no room now; try again later
        ``QueueClosed``         the daemon is stopping
    ``ProcessLost``         while events flow: a worker or the state host died; it is replaced
    ``PipelineFailed``      nothing can go on: an input changed, a sink is gone for good
"""

from __future__ import annotations

from middleware.errors import PenstockError


class NotAccepted(PenstockError):
    """The event was not taken in; its producer still has it and should offer it again."""


class QueueFull(NotAccepted):
    """The queue holds as many events or bytes as it may."""


class QueueClosed(NotAccepted):
    """The daemon is stopping and takes nothing in any more."""


class ProcessLost(PenstockError):
    """A worker or the state host died; its work is done again, nothing is lost."""


class PipelineFailed(PenstockError):
    """The pipeline cannot go on, and trying again would not help; the message says why."""
