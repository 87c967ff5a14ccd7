"""What only one may write or read: a file of two sinks would be cut back by each at every start."""

from __future__ import annotations

from collections.abc import Collection, Iterable, Iterator, Mapping
from pathlib import Path

from middleware.errors import ConfigurationError, in_words
from middleware.loading import raised_at
from service.disk import FileKey, as_places, key_of
from service.sources.source import Source

Places = Collection[Path | str]


def read_by(source: Source) -> Places:
    """Return what a source reads; raises ConfigurationError whatever its class does instead."""
    try:
        return as_places(source.reads())
    except (Exception, SystemExit) as error:
        what = f"{type(source).__name__}.reads raised {in_words(error)} ({raised_at(error)})"
        message = (
            f"{what}; this is a fault of the class: mend it and start again, or run without this "
            f"source: penstock run --without {source.name}"
        )
        raise ConfigurationError(message) from error


def conflicts(reads: Iterable[tuple[str, Places]], writes: Mapping[str, Places]) -> Iterator[str]:
    """Yield a line for each file or stream that two sinks or sources cannot share.

    ``reads`` tells by their names what the sources read, ``writes`` what the sinks write.
    """
    writers: dict[FileKey, str] = {}
    for name, places in writes.items():
        for place in places:
            key = _key(place)
            if key in writers:
                yield f'sink "{name}": the sink "{writers[key]}" writes to {place} already'
            elif key is not None:
                writers[key] = name
    yield from _between_sources(reads, writers)


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
