"""From the settings to the objects they name: the chain, the sources, the sinks.

Every error names its place in the configuration.
"""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from typing import TypeVar

from middleware.errors import ConfigurationError
from middleware.loading import load_class, load_middleware
from middleware.parameters import parse_params
from service.border import check_reads
from service.chain import ChainVersion, Mode, Step
from service.emitter import Outlet
from service.event_queue import EventQueue
from service.settings import PartSettings, Settings
from service.sinks.sink import Sink
from service.sources.source import Source, Surroundings

Kind = TypeVar("Kind", Sink, Source)


def configured_chain(settings: Settings) -> ChainVersion:
    """Return the first version of the chain; raises ConfigurationError."""
    steps: list[Step] = []
    for index, part in enumerate(settings.middleware):
        place = _place("middleware", index, part)
        with _at(place):
            loaded = load_middleware(part.use)
        with _at(f"{place}.params"):
            loaded.parse_params(part.params)
        step = Step(part.name, part.use, Mode(part.mode), dict(part.params), loaded.shared)
        with _at(place):
            check_reads(settings.event, step.load())
        steps.append(step)
    return ChainVersion(1, tuple(steps))


def configured_sinks(settings: Settings) -> dict[str, Outlet]:
    """Return the sinks by name, not yet open; raises ConfigurationError."""
    sinks = {}
    for index, part in enumerate(settings.sink):
        place = _place("sink", index, part)
        loaded = _load(place, part, "service.sinks", Sink)
        with _at(f"{place}.params"):
            # What a sink must know of events it need not be told twice.
            known = {
                name: value
                for name, value in settings.event.model_dump().items()
                if name in {"cid", "time", "time_format"} & loaded.Params.model_fields.keys()
            }
            sink = loaded(parse_params(loaded, known | part.params))
        sinks[part.name] = Outlet(sink, refused_die=part.refused == "dead")
    return sinks


def configured_sources(settings: Settings, surroundings: Surroundings) -> list[Source]:
    """Return the sources, not yet started; raises ConfigurationError."""
    sources = []
    for index, part in enumerate(settings.source):
        place = _place("source", index, part)
        loaded = _load(place, part, "service.sources", Source)
        with _at(f"{place}.params"):
            sources.append(loaded(part.name, parse_params(loaded, part.params), surroundings))
    return sources


def _load(place: str, part: PartSettings, package: str, kind: type[Kind]) -> type[Kind]:
    with _at(place):
        return load_class(part.use, package=package, kind=kind)


def _place(kind: str, index: int, part: PartSettings) -> str:
    return f'{kind}[{index}] "{part.name}"'


@contextmanager
def _at(place: str) -> Iterator[None]:
    """Put the place in front of each line of a ConfigurationError."""
    try:
        yield
    except ConfigurationError as error:
        lines = [f"{place}.{line}" for line in str(error).splitlines()]
        raise ConfigurationError("\n".join(lines)) from error.__cause__


def check_settings(settings: Settings) -> None:
    """Load all that the settings name, starting nothing; raises ConfigurationError."""
    configured_chain(settings)
    configured_sinks(settings)
    queue = EventQueue(events=settings.queue.events, size=settings.queue.bytes)
    configured_sources(settings, Surroundings(queue, settings, lambda _: None, {}))
