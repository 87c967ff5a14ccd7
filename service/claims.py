"""What only one may write or read: a file of two sinks would be cut back by each at every start."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping
from pathlib import Path

from service.disk import FileKey, key_of
from service.outlet import Outlet
from service.sources.source import Source


def conflicts(sources: Iterable[Source], outlets: Mapping[str, Outlet]) -> Iterator[str]:
    """Yield a line for each file or stream that two sinks or sources cannot share."""
    writers: dict[FileKey, str] = {}
    for name, outlet in outlets.items():
        for place in outlet.writes():
            key = _key(place)
            if key in writers:
                yield f'sink "{name}": the sink "{writers[key]}" writes to {place} already'
            elif key is not None:
                writers[key] = name
    yield from _between_sources(sources, writers)


def _between_sources(sources: Iterable[Source], writers: Mapping[FileKey, str]) -> Iterator[str]:
    """Yield what sources cannot read: files may have several readers, streams only one."""
    streams: dict[FileKey, str] = {}
    for source in sources:
        seen: set[FileKey] = set()
        for place in source.reads():
            key = _key(place)
            if key is None:
                continue
            if key in seen:
                yield f'source "{source.name}": reads {place} twice'
            elif key in writers:
                yield f'source "{source.name}": the sink "{writers[key]}" writes to {place}'
            elif key in streams:
                yield f'source "{source.name}": the source "{streams[key]}" reads {place} already'
            seen.add(key)
            if isinstance(place, str) or (place.exists() and not place.is_file()):
                streams[key] = source.name


def _key(place: Path | str) -> FileKey | None:
    return place if isinstance(place, str) else key_of(place)
