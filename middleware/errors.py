"""The errors of Penstock, one small tree, by when they can happen.

``PenstockError``
    ``ConfigurationError``  at start or at a switch: settings, import strings, parameters
        ``NoSuchModule``        the module of a class is not there
    ``ContractError``       while events flow: a middleware did what the contract does not allow
    ``service.errors``      adds what only the daemon can meet: a full queue, a lost process
"""

from __future__ import annotations

from typing import Final

FAULTS: Final = (BaseException,)
"""What users' code may raise, exits included, and must end nothing but what it was asked."""


class PenstockError(Exception):
    """Anything Penstock raises on purpose; the message says what, where, and what to do."""


class ConfigurationError(PenstockError):
    """A setting, an import string or a parameter is wrong; nothing was started or changed."""


class NoSuchModule(ConfigurationError):
    """What is to be loaded is not there: neither where the command was given nor installed."""


class ContractError(PenstockError):
    """A middleware broke the contract; only the event at hand is dead-lettered."""


def in_words(error: BaseException) -> str:
    """Return an error's type and its message, whatever the error's own code raises."""
    try:
        words = str(error)
    except FAULTS:  # of a class of the user's own
        words = "<exception str() failed>"
    return f"{type(error).__name__}: {words}".removesuffix(": ")
