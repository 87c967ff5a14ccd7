"""From the settings to the objects they name: the chain, the sources, the sinks.

Every error names its place in the configuration, and all of them are told at once.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Collection, Iterable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any, Final, TypeVar

import msgspec

from middleware.contract import SharedMiddleware
from middleware.declaration import wrong_method
from middleware.errors import FAULTS, ConfigurationError, NoSuchModule, in_words
from middleware.loading import load_class, load_middleware, raised_at
from middleware.parameters import parse_params
from service.border import check_reads
from service.chain import WAYS_ON, ChainVersion, Mode, Step
from service.claims import Places, conflicts, read_by
from service.event_queue import EventQueue
from service.last_calls import LastCalls
from service.outlet import Outlet
from service.settings import BlockSettings, EventSettings, PartSettings, Settings, SinkSettings
from service.settings_file import PARTS, Kind, SettingsFile, Table
from service.sinks.sink import Sink
from service.sources.source import Source, Surroundings

Base = TypeVar("Base")

BUILT_IN: Final = frozenset(
    {"adjacent", "blocklist", "generator", "http", "ndjson", "sql", "stdin", "stdout"}
)
"""The classes that are known to be safe to load."""

_NO_POSITION: Final = (
    'use: goes on from the last checkpoint, and with state.durability = "off" there is none: it '
    'would start once and never again; set durability = "normal" or "full", or use another sink'
)


CALLED: Final = {
    "open": ("position",),
    "write": ("emission",),
    **dict.fromkeys(("position", "flush", "close", "writes", "start", "stop", "reads"), ()),
}
"""The methods of sinks and sources that Penstock calls, and what it passes to each."""


def checked_settings(
    path: Path,
    without: Collection[str] = (),
    *,
    kinds: Collection[Kind] = PARTS,
    own_classes: Callable[[], object] = lambda: None,
    trying: Callable[[str], object] = lambda _: None,
) -> Settings:
    """Return the settings of a file, with every class and parameter it names checked.

    Of those called by a name in ``without``, or of other ``kinds``, nothing is asked. Starts
    nothing. Calls ``own_classes`` first if some are not Penstock's, and ``trying`` with the name of
    each part before it is checked. Raises ConfigurationError: a line for each thing wrong, in all
    tables.
    """
    file = SettingsFile(path)

    def tables(kind: Kind) -> Iterator[Table]:
        for each in file.tables(kind) if kind in kinds else ():
            if each.part.name not in without:
                trying(each.part.name)
                yield each

    if any(each.part.use not in BUILT_IN for kind in kinds for each in file.tables(kind)):
        own_classes()
    found = [*file.problems, *_problems(file, tables)]
    if found or file.settings is None:
        raise file.told(found)
    return file.settings


def configured_chain(settings: Settings) -> ChainVersion:
    """Return the first version of the chain; raises ConfigurationError."""
    problems = _Problems()
    steps = _chain(problems, settings.event, _tables("middleware", settings.middleware))
    problems.tell()
    return ChainVersion(1, tuple(steps))


def configured_sinks(settings: Settings, last_calls: LastCalls) -> dict[str, Outlet]:
    """Return the sinks by name, not yet open; raises ConfigurationError."""
    problems = _Problems()
    tables = _tables("sink", settings.sink)
    sinks = {outlet.name: outlet for _, outlet in _sinks(problems, settings.event, tables)}
    problems.tell()
    for name, outlet in sinks.items():
        outlet.note = last_calls.caller(name, outlet.sink)
    return sinks


def configured_sources(
    settings: Settings, surroundings: Surroundings, last_calls: LastCalls
) -> list[Source]:
    """Return the sources, not yet started; raises ConfigurationError."""
    problems = _Problems()
    tables = _tables("source", settings.source)
    sources = [source for _, source in _sources(problems, surroundings, tables)]
    problems.tell()
    for source in sources:
        source.note = last_calls.caller(source.name, source)
    return sources


_SETTING: Final = re.compile(r"[\w-]+(\[\d+\]|\.[\w-]+)*( =|:) ")
"""How a line begins that is about one setting at its place: ``paths[0]: …``, ``use = "…"``."""


class _Problems:
    """What is wrong, a line for each: a part that is wrong does not hide the next one."""

    def __init__(self) -> None:
        self.lines: list[str] = []

    @contextmanager
    def at(self, place: str) -> Iterator[None]:
        """Take note of a ConfigurationError, with the place in front of each of its lines."""
        try:
            yield
        except ConfigurationError as error:
            self.lines += [
                f"{place}{'.' if _SETTING.match(line) else ': '}{line}"
                for line in str(error).splitlines()
            ]

    def tell(self) -> None:
        if self.lines:
            raise ConfigurationError("\n".join(self.lines))


def _problems(file: SettingsFile, tables: Any) -> list[str]:
    """Return what is wrong with the classes and parameters of tables, by their kind."""
    problems, event = _Problems(), file.event
    # What else is set is no matter here, and may itself be wrong.
    settings = Settings(
        event=event,
        block=BlockSettings(bytes=int(event.max_event_bytes)),
        sink=(SinkSettings(name="none", use="none"),),
    )
    queue = EventQueue(events=settings.queue.events, size=settings.queue.bytes)
    surroundings = Surroundings(queue, settings, lambda _, __: None, {})
    reads: list[tuple[str, Places]] = []
    writes: dict[str, Places] = {}
    sharing: set[str] = set()
    # Each is asked as soon as it is made: what its class does is then known to be its own.
    for place, source in _sources(problems, surroundings, tables("source")):
        with problems.at(place):
            reads.append((source.name, read_by(source)))
    _chain(problems, event, tables("middleware"))
    for place, outlet in _sinks(problems, event, tables("sink")):
        with problems.at(place):
            if outlet.sink.needs_position and file.state.durability == "off":
                raise ConfigurationError(_NO_POSITION)
            writes[outlet.name] = outlet.writes()
            if outlet.sink.shares:
                sharing.add(outlet.name)
    directory = None if file.settings is None else file.settings.state.directory
    return [*problems.lines, *conflicts(reads, writes, sharing, directory)]


def _chain(problems: _Problems, event: EventSettings, tables: Iterable[Table]) -> list[Step]:
    steps = []
    for place, part in tables:
        with problems.at(place):
            with _way_on_without(part.name):
                loaded = load_middleware(part.use)
            with problems.at(f"{place}.params"):
                loaded.parse_params(part.params)
                params = dict(part.params)
                step = Step(part.name, part.use, Mode(part.mode), params, loaded.shared)
                with problems.at(place):
                    with _way_on(part.name):
                        made = step.load()
                        _check_memory(step)
                    check_reads(event, made)
                    steps.append(step)
    return steps


def _check_memory(step: Step) -> None:
    """See that an empty memory can be kept and restored; raises ConfigurationError.

    One that is made by ``open`` is seen later, by the state host at its start: nothing is opened
    here.
    """
    if not step.shared:
        return
    fresh = step.load()
    assert isinstance(fresh, SharedMiddleware)  # noqa: S101 - that is what it says it is
    try:
        state = fresh.snapshot()
    except Exception:  # noqa: BLE001 - it may well need to be open
        return
    except SystemExit as error:
        message = f"snapshot() of {step.name} raises {in_words(error)}"
        raise ConfigurationError(message) from error
    try:
        msgspec.msgpack.encode(state)
    except Exception as error:
        message = (
            f"snapshot() of {step.name} returns what cannot be kept: {in_words(error)}; "
            "return None, bool, int, float, str, bytes, lists and dicts of these"
        )
        raise ConfigurationError(message) from error


def _sinks(
    problems: _Problems, event: EventSettings, tables: Iterable[Table]
) -> Iterator[tuple[str, Outlet]]:
    """Yield each sink with its place."""
    for place, part in tables:
        with problems.at(place):
            with _way_on_without(part.name):
                loaded = _load(part.use, "service.sinks", Sink, needs="write")
            with problems.at(f"{place}.params"):
                # What a sink must know of events it need not be told twice.
                known = {
                    name: value
                    for name, value in event.model_dump().items()
                    if name in {"cid", "time", "time_format"} & loaded.Params.model_fields.keys()
                }
                params = parse_params(loaded, known | part.params)
                with _making(loaded, part.name):
                    sink = loaded(params)
                yield place, Outlet(sink, part.refused == "dead", part.name)


def _sources(
    problems: _Problems, surroundings: Surroundings, tables: Iterable[Table]
) -> Iterator[tuple[str, Source]]:
    """Yield each source with its place."""
    for place, part in tables:
        with problems.at(place):
            with _way_on_without(part.name):
                loaded = _load(part.use, "service.sources", Source, needs="start")
            with problems.at(f"{place}.params"):
                params = parse_params(loaded, part.params)
                with _making(loaded, part.name):
                    source = loaded(part.name, params, surroundings)
                yield place, source


def _tables(kind: str, parts: Iterable[PartSettings]) -> Iterator[Table]:
    for index, part in enumerate(parts):
        yield Table(f'{kind}[{index}] "{part.name}"', part)


def _load(use: str, package: str, kind: type[Base], *, needs: str) -> type[Base]:
    """Return the class that is named; it must have the method that its kind ``needs``."""
    loaded = load_class(use, package=package, kind=kind)
    if getattr(loaded, needs) is getattr(kind, needs):
        raise ConfigurationError(f'use = "{use}": {loaded.__name__} has no {needs}')
    for name, arguments in CALLED.items():
        if problem := wrong_method(loaded, name, arguments):
            raise ConfigurationError(f'use = "{use}": {loaded.__name__}: {problem}')
    return loaded


@contextmanager
def _way_on(name: str) -> Iterator[None]:
    """Say with a fault of a class what to do, should it be met by a start."""
    try:
        yield
    except ConfigurationError as error:
        raise ConfigurationError(f"{error}; {WAYS_ON.format(name)}") from error


@contextmanager
def _way_on_without(name: str) -> Iterator[None]:
    """Say the same of a module that is not there; not of a name that is misspelt."""
    try:
        yield
    except NoSuchModule as error:
        message = f"{error}; bring it back, or go on without it: penstock run --without {name}"
        raise ConfigurationError(message) from None


@contextmanager
def _making(loaded: type, name: str) -> Iterator[None]:
    """Raise ConfigurationError for whatever the class raises, with its place and what to do."""
    try:
        yield
    except ConfigurationError:
        raise
    except FAULTS as error:
        what = f"{in_words(error)} (at {raised_at(error)})"
        message = f"{loaded.__name__} cannot be made: {what}; {WAYS_ON.format(name)}"
        raise ConfigurationError(message) from error
