"""What a start leaves out, by ``run --without NAME``: the way on where a class or a sink is gone.

It is left out of the configuration, and of the chain that earlier blocks were accepted under: these
pass it undecided. Nothing of that is silent.
"""

from __future__ import annotations

import logging
from collections.abc import Collection
from typing import Final

from middleware.errors import ConfigurationError
from service.recovery import Exclusions, Recovered
from service.settings import Settings

log = logging.getLogger(__name__)

KINDS: Final = ("source", "middleware", "sink")


def excluding(written: Settings, names: Collection[str]) -> tuple[Settings, Exclusions]:
    """Return the settings without what is called so, and what that is.

    Raises ConfigurationError if no sink is left. A name that is not there may be one of an earlier
    chain: ``tell_exclusions`` knows.
    """
    left = {
        kind: tuple(part for part in getattr(written, kind) if part.name not in names)
        for kind in KINDS
    }
    if not left["sink"]:
        raise ConfigurationError("--without: no sink is left, so everything would be lost")
    asked = {
        name: [kind for kind in KINDS if any(each.name == name for each in getattr(written, kind))]
        for name in sorted(names)
    }
    return written.model_copy(update=left), Exclusions(asked)


def tell_exclusions(recovered: Recovered) -> None:
    """Log what is left out of the configuration and of the journal, and what that means.

    A name that stands for nothing is told, too. It stops nothing: whoever gives the same command
    again, as a service manager does, may well have it from a start at which it stood for something.
    """
    exclusions = recovered.exclusions
    for name, kinds in exclusions.asked.items():
        if name in exclusions.found:
            log.warning("%s is left out: events pass it undecided, and its memory is gone", name)
            if recovered.pending:
                log.warning(
                    "%s earlier blocks will skip %s: events that it would have dropped are emitted",
                    recovered.pending,
                    name,
                )
        elif "middleware" in kinds:
            log.warning("%s is left out: events pass it undecided", name)
        elif not kinds:
            log.warning(
                "--without %s leaves nothing out: no middleware, sink or source is called so, and "
                "no earlier block needs one: take it off the command",
                name,
            )
        if "sink" in kinds:
            log.warning(
                "%s is left out: what this run emits, what came after the last checkpoint too, is "
                "never written there; when it is back, it goes on where that checkpoint saw it",
                name,
            )
        if "source" in kinds:
            log.warning("%s is left out: nothing is read from it in this run", name)
