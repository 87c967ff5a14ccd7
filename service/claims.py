"""What only one may write or read: a file of two sinks would be cut back by each at every start."""

from __future__ import annotations

from collections.abc import Collection, Iterable, Iterator, Mapping
from pathlib import Path
from typing import Final

from middleware.errors import FAULTS, ConfigurationError, in_words
from middleware.loading import raised_at
from service.disk import FileKey, as_places, key_of
from service.sources.source import Source

Places = Collection[Path | str]

OWN: Final = frozenset(
    {"journal", "checkpoints", "lock", "queue.json", "last-calls"}
    | {f"penstock.db{ending}" for ending in ("", "-wal", "-shm", "-journal")}
)
"""What Penstock keeps in its state directory."""


def read_by(source: Source) -> Places:
    """Return what a source reads; raises ConfigurationError whatever its class does instead."""
    try:
        return as_places(source.reads())
    except FAULTS as error:
        what = f"{type(source).__name__}.reads raised {in_words(error)} ({raised_at(error)})"
        message = (
            f"{what}; this is a fault of the class: mend it and start again, or run without this "
            f"source: penstock run --without {source.name}"
        )
        raise ConfigurationError(message) from error


def conflicts(
    reads: Iterable[tuple[str, Places]],
    writes: Mapping[str, Places],
    sharing: Collection[str],
    directory: Path | None,
) -> Iterator[str]:
    """Yield a line for each file or stream that two sinks or sources cannot share.

    ``reads`` tells by their names what the sources read, ``writes`` what the sinks write; those
    named in ``sharing`` share with each other. ``directory`` is the state directory, if known.
    """
    writers: dict[FileKey, str] = {}
    for name, places in writes.items():
        for place in places:
            key = _key(place)
            other = writers.get(key) if key is not None else None
            if other is not None and not (name in sharing and other in sharing):
                yield f'sink "{name}": the sink "{other}" writes to {place} already'
            elif directory is not None and isinstance(place, Path) and _is_own(place, directory):
                yield f'sink "{name}": {place} is where Penstock keeps its state: give another path'
            elif key is not None:
                writers[key] = name
    yield from _between_sources(reads, writers)


def _is_own(path: Path, directory: Path) -> bool:
    """Say whether a path is one of what the state directory holds for Penstock itself."""
    inside, of = path.resolve(), directory.resolve()
    return inside == of or (inside.is_relative_to(of) and inside.relative_to(of).parts[0] in OWN)


def _between_sources(
    reads: Iterable[tuple[str, Places]], writers: Mapping[FileKey, str]
) -> Iterator[str]:
    """Yield what sources cannot read: files may have several readers, streams only one."""
    streams: dict[FileKey, str] = {}
    for name, places in reads:
        seen: set[FileKey] = set()
        for place in places:
            key = _key(place)
            if key is None:
                continue
            if key in seen:
                yield f'source "{name}": reads {place} twice'
            elif key in writers:
                yield f'source "{name}": the sink "{writers[key]}" writes to {place}'
            elif key in streams:
                yield f'source "{name}": the source "{streams[key]}" reads {place} already'
            seen.add(key)
            if isinstance(place, str) or (place.exists() and not place.is_file()):
                streams[key] = name


def _key(place: Path | str) -> FileKey | None:
    return place if isinstance(place, str) else key_of(place)
