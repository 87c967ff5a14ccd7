"""``penstock process``: the same pipeline over files, to their end."""

from __future__ import annotations

import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from threading import Event
from typing import Final

from service.configured import configured_sources
from service.pipeline import Pipeline
from service.settings import PartSettings, Settings
from service.sources.source import Surroundings

LOOK: Final = 0.05
"""Seconds between two looks at how far it is."""


@dataclass(frozen=True, slots=True)
class Summary:
    """What became of the events of all inputs.

    accepted = emitted + sum of ``dropped`` + ``dead``; ``dropped`` and ``shadow`` are by the
    middleware's name.
    """

    accepted: int
    emitted: int
    dropped: dict[str, int]
    shadow: dict[str, int]
    dead: int
    seconds: float
    events_per_second: float


def over_files(settings: Settings, inputs: Sequence[str], output: str) -> Settings:
    """Return the settings with other sources and sinks; "-" is standard input or output."""
    sources = []
    for index, each in enumerate(inputs):
        if each == "-":
            sources.append(PartSettings(name=f"input-{index + 1}", use="stdin"))
        else:
            paths = {"paths": [each]}
            sources.append(PartSettings(name=f"input-{index + 1}", use="ndjson", params=paths))
    if output == "-":
        sink = PartSettings(name="output", use="stdout")
    else:
        params = {"path": output, "existing": "truncate"}
        sink = PartSettings(name="output", use="ndjson", params=params)
    return settings.model_copy(update={"source": tuple(sources), "sink": (sink,)})


def process(
    settings: Settings,
    dead_letters: Path,
    stopped: Callable[[], bool],
    progress: Callable[[int], None],
) -> Summary:
    """Run the sources of the settings, one after the other, to their end.

    ``progress`` is told the bytes that are done; ``stopped`` is asked whether to stop at once, and
    then the output holds a beginning of what it would have held. Raises ConfigurationError,
    PipelineFailed.
    """
    failed = Event()
    pipeline = Pipeline(settings, dead_letters, failed.set)
    surroundings = Surroundings(pipeline.queue, settings, pipeline.fail)
    sources = configured_sources(settings, surroundings)

    def go_on() -> bool:
        progress(pipeline.statistics.settled_bytes)
        return not failed.is_set() and not stopped()

    if dead_letters.is_file():  # those of an earlier run; never a device
        dead_letters.unlink()
    began = time.perf_counter()
    try:
        pipeline.start()
        for source in sources:
            if not go_on():
                break
            source.start()
            while go_on() and not source.finished.wait(LOOK):
                pass
        pipeline.drain(go_on)
        progress(pipeline.statistics.settled_bytes)
    finally:
        pipeline.stop()
    pipeline.check()
    seconds = time.perf_counter() - began
    totals = pipeline.statistics.totals()
    return Summary(
        accepted=totals.accepted,
        emitted=totals.emitted,
        dropped=totals.dropped,
        shadow=totals.shadow,
        dead=totals.dead,
        seconds=round(seconds, 3),
        events_per_second=round(totals.accepted / seconds, 1),
    )
