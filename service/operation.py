"""What operators can see and do while the daemon runs; the API and the tests speak to this."""

from __future__ import annotations

import json
import logging
import time
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager, nullcontext
from dataclasses import dataclass
from threading import Lock
from typing import Any

from middleware.errors import ConfigurationError
from service.chain import Mode, Step
from service.errors import NotAccepted
from service.pipeline import Pipeline
from service.sources.source import Source

log = logging.getLogger(__name__)


@dataclass(frozen=True, slots=True)
class Stats:
    """What became of the events, and how those are who work on them.

    accepted = emitted + sum of ``dropped`` + ``dead`` + ``in_flight``, since the state directory
    began. ``queue`` holds what waits to be accepted, ``refusing`` why nothing new is let in, if so;
    ``deaths`` is what went to the dead letters since the start, by middleware, "sink NAME" or "no
    event": ``count``, and the ``first`` and ``last`` reason. ``sources`` holds the reason for each
    source that cannot hand in anything at present, ``sinks`` that for each sink that holds the
    stream back. ``journal`` tells its bytes on disk and the block of the last checkpoint, from
    which a start would go on; while none can be written, also the ``problem``.
    """

    accepted: int
    emitted: int
    dropped: dict[str, int]
    shadow: dict[str, int]
    dead: int
    in_flight: int
    counts: dict[str, dict[str, int]]
    queue: dict[str, int]
    refusing: str | None
    journal: Mapping[str, int | str] | None
    workers: list[dict[str, Any]]
    state_host: dict[str, Any] | None
    deaths: dict[str, dict[str, Any]]
    sources: dict[str, str]
    sinks: dict[str, str]
    missed_ticks: int
    uptime: float


class Operation:
    """The running daemon as operators see it."""

    def __init__(self, pipeline: Pipeline) -> None:
        self.settings = pipeline.settings
        self.draining = False
        self.missed_ticks = 0
        self.sources: Sequence[Source] = ()
        self._pipeline = pipeline
        self._began = time.monotonic()
        self._trying: set[str] = set()
        self._lock = Lock()

    @property
    def ready(self) -> bool:
        """Say whether events are taken in and every process is up."""
        return not self.draining and self._pipeline.ready

    @property
    def why_not_ready(self) -> str:
        """Say what is missing to be ready."""
        if self.draining:
            return "stopping: what was accepted is still emitted, nothing new is taken in"
        if self._pipeline.up and not self._pipeline.opened:
            troubles = self._pipeline.emitter.troubles() or {"the sinks": "not open yet"}
            return "; ".join(f"{name}: {why}" for name, why in troubles.items())
        if self._pipeline.up:
            return "recovering: what was accepted before the start is not emitted yet"
        return "starting: a worker or the state host is not up yet"

    def middleware(self) -> list[dict[str, Any]]:
        """Describe every middleware, in the chain's order."""
        return [self.describe(step.name) for step in self._pipeline.intake.chain.steps]

    def describe(self, name: str) -> dict[str, Any]:
        """Describe one middleware: how it is now and since when; raises KeyError.

        ``switched`` tells for "mode", "reset" and each "params.NAME" when and why it was switched
        last, across starts.
        """
        return _description(self._pipeline.intake.chain.step(name))

    def switch(
        self,
        name: str,
        reason: str,
        *,
        mode: Mode | None = None,
        params: Mapping[str, Any] | None = None,
        reset: bool = False,
    ) -> dict[str, Any]:
        """Switch one middleware; its description tells the exact offset from which that holds.

        Raises KeyError for an unknown name, ConfigurationError for wrong parameters, NotAccepted
        while others of this middleware are tried out: that keeps no other switch waiting.
        """
        if reset and not self._pipeline.intake.chain.step(name).shared:
            raise ConfigurationError(f"{name} remembers nothing, so there is nothing to reset")
        with self._alone(name) if params is not None else nullcontext():
            step, memory = self._pipeline.switch(
                name, mode=mode, params=params, reset=reset, reason=reason
            )
        shown = " ".join(f"{key}={json.dumps(value)}" for key, value in step.params.items())
        what = "reset" if reset else f"{step.mode} with {shown}" if shown else str(step.mode)
        why = reason or "no reason given"
        log.info("%s: %s from offset %s on (%s)%s", name, what, step.since, why, memory)
        return _description(step)

    @contextmanager
    def _alone(self, name: str) -> Iterator[None]:
        """Let nobody else set parameters of a middleware while some are tried out."""
        with self._lock:
            if name in self._trying:
                raise NotAccepted(f"other parameters of {name} are tried out: set these afterwards")
            self._trying.add(name)
        try:
            yield
        finally:
            with self._lock:
                self._trying.discard(name)

    def statistics(self) -> Stats:
        """Return what became of the events so far."""
        pipeline = self._pipeline
        totals = pipeline.statistics.totals()
        return Stats(
            accepted=totals.accepted,
            emitted=totals.emitted,
            dropped=totals.dropped,
            shadow=totals.shadow,
            dead=totals.dead,
            in_flight=totals.in_flight,
            counts=totals.counts,
            queue=pipeline.queue.level._asdict(),
            refusing=pipeline.queue.refusal,
            journal=pipeline.checkpointer.describe(),
            workers=[
                {"pid": link.pid, "restarts": link.restarts, "ready": link.ready.is_set()}
                for link in pipeline.links
            ],
            state_host={
                "pid": pipeline.host.pid,
                "restarts": pipeline.keeper.restarts,
                "ready": pipeline.keeper.ready.is_set(),
            }
            if pipeline.remembers
            else None,
            deaths=pipeline.emitter.deaths.describe(),
            sources={each.name: each.problem for each in self.sources if each.problem},
            sinks=pipeline.emitter.troubles(),
            missed_ticks=self.missed_ticks,
            uptime=round(time.monotonic() - self._began, 3),
        )


def _description(step: Step) -> dict[str, Any]:
    """Return a step as operators see it."""
    return {
        "name": step.name,
        "use": step.use,
        "mode": step.mode,
        "params": dict(step.params),
        "shared": step.shared,
        "resets": step.resets,
        "offset": step.since,
        "reason": step.reason,
        "switched": {
            what: {"offset": each.since, "time": each.time, "reason": each.reason}
            for what, each in step.switches.items()
        },
    }
