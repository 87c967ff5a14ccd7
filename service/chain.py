"""The chain as data: which steps, in which mode, with which parameters, from which offset on.

A chain version never changes; a switch makes the next one. Every block names the version that
holds for it, so that all workers and the state host decide alike, also when a block is asked again.
"""

from __future__ import annotations

import sys
from collections.abc import Collection, Mapping
from dataclasses import dataclass, field, replace
from datetime import UTC, datetime
from enum import StrEnum
from typing import Any, Final

from middleware.contract import Middleware
from middleware.declaration import check_instance
from middleware.errors import FAULTS, ConfigurationError, in_words
from middleware.loading import load_middleware, raised_at

WAYS_ON: Final = (
    "nothing that was confirmed is lost: mend its class and start again, or go on without it "
    "(penstock run --without {})"
)
"""What to do about a step whose class cannot be used, by its name."""


class Mode(StrEnum):
    """What a step does with the events: decide, only count, or nothing at all."""

    ENABLED = "enabled"
    SHADOW = "shadow"
    DISABLED = "disabled"


@dataclass(frozen=True, slots=True)
class Switched:
    """When and why one thing about a step was switched last; ``when`` is in seconds since 1970."""

    since: str
    when: float
    reason: str

    @property
    def time(self) -> str:
        """The time of day it was, in UTC."""
        return datetime.fromtimestamp(self.when, UTC).isoformat(timespec="seconds")


@dataclass(frozen=True, slots=True)
class Step:
    """One middleware's place in a chain version.

    ``resets`` counts how often its memory was emptied: a shared step whose memory has seen fewer
    resets than its block names empties it first. All this holds from the offset ``since`` on, for
    the ``reason`` given then. ``switches`` are the last ones of each thing: "mode", "reset" and,
    for each parameter, "params.NAME".
    """

    name: str
    use: str
    mode: Mode
    params: Mapping[str, Any]
    shared: bool
    resets: int = 0
    since: str = "1.0"
    reason: str = "configuration"
    switches: Mapping[str, Switched] = field(default_factory=dict)

    @property
    def nameplate(self) -> Step:
        """The step without its parameters, for whoever was told them before."""
        return replace(self, params={}, switches={})

    def given(self, params: Mapping[str, Any]) -> Step:
        """Return the step with these parameters, and the others as they are."""
        return replace(self, params={**self.params, **params})

    def load(self) -> Middleware:
        """Return a new instance of the middleware, not yet open; raises ConfigurationError."""
        loaded = load_middleware(self.use)
        params = loaded.parse_params(self.params)
        try:
            made = loaded(params)
        except FAULTS as error:
            what = f"{in_words(error)} (at {raised_at(error)})"
            raise ConfigurationError(f"{self.name} cannot be made: {what}") from error
        check_instance(made)
        return made

    def opened(self) -> Middleware:
        """Return a new instance, open; raises ConfigurationError when that is not possible."""
        middleware = self.load()
        try:
            middleware.open()
        except FAULTS as error:
            what = f"{in_words(error)} (at {raised_at(error)})"
            message = f"{self.name} cannot be opened: {what}"
            raise ConfigurationError(message) from error
        return middleware

    def close(self, middleware: Middleware) -> None:
        """Close an instance; what that raises is only told, for nothing depends on it any more."""
        try:
            middleware.close()
        except Exception as error:  # noqa: BLE001 - of whatever kind
            print(  # noqa: T201 - stderr is the log of the processes that ask
                f"penstock: {self.name}: close() raised {in_words(error)} "
                f"(at {raised_at(error)}); it is passed over",
                file=sys.stderr,
                flush=True,
            )

    def try_out(self) -> None:
        """Open and close a new instance; raises ConfigurationError when that is not possible."""
        middleware = self.opened()
        try:
            middleware.close()
        except Exception as error:
            message = f"{self.name} cannot be closed: {in_words(error)}"
            raise ConfigurationError(message) from error


@dataclass(frozen=True, slots=True)
class ChainVersion:
    """The steps in the order in which they are asked."""

    number: int
    steps: tuple[Step, ...]

    @property
    def nameplate(self) -> ChainVersion:
        """The number without the steps, for whoever was told the version before."""
        return ChainVersion(self.number, ())

    @property
    def remembers(self) -> bool:
        """Say whether any step is shared, so that a state host is needed."""
        return any(step.shared for step in self.steps)

    def without(self, names: Collection[str]) -> ChainVersion:
        """Return the chain without some steps: events pass these undecided."""
        steps = tuple(step for step in self.steps if step.name not in names)
        return replace(self, steps=steps)

    def index(self, name: str) -> int:
        """Return the place of the step called ``name``; raises KeyError."""
        for index, step in enumerate(self.steps):
            if step.name == name:
                return index
        raise KeyError(name)

    def step(self, name: str) -> Step:
        """Return the step called ``name``; raises KeyError."""
        return self.steps[self.index(name)]

    def switched(
        self,
        name: str,
        *,
        mode: Mode | None = None,
        params: Mapping[str, Any] | None = None,
        reset: bool = False,
        since: str = "1.0",
        reason: str = "",
        when: float = 0.0,
    ) -> ChainVersion:
        """Return the next version, with one step changed from the offset ``since`` on.

        ``params`` replaces those it names and keeps the others. ``when`` is in seconds since 1970.
        Whether its class takes them is asked elsewhere. Raises KeyError for an unknown name.
        """
        index = self.index(name)
        step = replace(self.steps[index], since=since, reason=reason)
        told = []
        if params is not None:
            told += [
                f"params.{key}"
                for key, value in params.items()
                if reason or key not in step.params or step.params[key] != value
            ]
            step = step.given(params)
        if mode is not None:
            told += ["mode"] if reason or step.mode != mode else []
            step = replace(step, mode=mode)
        if reset:
            told.append("reset")
            step = replace(step, resets=step.resets + 1)
        switches = {**step.switches, **dict.fromkeys(told, Switched(since, when, reason))}
        step = replace(step, switches=switches)
        steps = (*self.steps[:index], step, *self.steps[index + 1 :])
        return ChainVersion(self.number + 1, steps)
