"""What a start leaves out, by ``run --without NAME``: the way on where a class or a sink is gone.

It is left out of the configuration, and of the chain that earlier blocks were accepted under: these
pass it undecided. Nothing of that is silent.
"""

from __future__ import annotations

import logging
from collections.abc import Collection
from typing import Final

from middleware.errors import ConfigurationError
from service.chain import ChainVersion
from service.errors import PipelineFailed
from service.journal.entry import Configuration
from service.recovery import Recovered
from service.settings import Settings

log = logging.getLogger(__name__)

KINDS: Final = ("source", "middleware", "sink")


def without(settings: Settings, names: Collection[str]) -> Settings:
    """Return the settings without what is called so; raises ConfigurationError if no sink is left.

    A name that is not there may be one of an earlier chain: ``tell_left_out`` knows.
    """
    left = {
        kind: tuple(part for part in getattr(settings, kind) if part.name not in names)
        for kind in KINDS
    }
    if not left["sink"]:
        raise ConfigurationError("--without: no sink is left, so everything would be lost")
    return settings.model_copy(update=left)


def tell_left_out(settings: Settings, recovered: Recovered) -> None:
    """Log what is left out of the settings and of the journal, and what that means.

    Raises ConfigurationError for a name that stands for nothing.
    """
    for name in sorted(recovered.without):
        kinds = [
            kind for kind in KINDS if any(each.name == name for each in getattr(settings, kind))
        ]
        if not kinds and name not in recovered.left_out:
            message = f"--without: there is no middleware, sink or source called {name!r}"
            raise ConfigurationError(message)
        if name in recovered.left_out:
            log.warning(
                "%s is left out: the blocks accepted before that wait (%s) pass it undecided, what "
                "it would have dropped is emitted, and its memory is gone",
                name,
                recovered.pending,
            )
        elif "middleware" in kinds:
            log.warning("%s is left out: events pass it undecided", name)
        if "sink" in kinds:
            log.warning(
                "%s is left out: what this run emits, what came after the last checkpoint too, is "
                "never written there; when it is back, it goes on where that checkpoint saw it",
                name,
            )
        if "source" in kinds:
            log.warning("%s is left out: nothing is read from it in this run", name)


def check_classes(recovered: Recovered) -> None:
    """See that blocks accepted before find every class of their chain; raises PipelineFailed.

    The message names each that is missing, what it says, and the ways on.
    """
    if not recovered.pending:
        return
    problems = []
    for step in recovered.start.chain.steps:
        try:
            step.load()
        except ConfigurationError as error:
            problems.append(
                f"{step.name}: {recovered.pending} blocks that were accepted before need it, and "
                f"it cannot be loaded: {error}; bring it back, or let them pass it undecided: "
                f"penstock run --without {step.name}"
            )
    if problems:
        raise PipelineFailed("\n".join(problems))


def check_switched(chain: ChainVersion, configured: Configuration) -> None:
    """See that the classes still accept what was switched while it ran; raises PipelineFailed.

    ``chain`` is what the start is about to adopt. What the file says was checked before.
    """
    problems = []
    for step in chain.steps:
        if step.params is next(
            (each.params for each in configured.steps if each.name == step.name), None
        ):
            continue
        try:
            step.load()
        except ConfigurationError as error:
            problems.append(
                f"{step.name}: its params were switched while it ran, and its class does not "
                f"accept them any more: {error}; bring the class of before back, or change params "
                f"in its table in the file, since a table that was changed wins over what was "
                f"switched, or leave it out: penstock run --without {step.name}"
            )
    if problems:
        raise PipelineFailed("\n".join(problems))
