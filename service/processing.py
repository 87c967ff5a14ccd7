"""``penstock process``: the same pipeline over files, to their end."""

from __future__ import annotations

import logging
import shutil
import time
from collections.abc import Callable, Sequence
from contextlib import ExitStack
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any, Final

from service.configured import configured_chain, configured_sources
from service.dead_letter_file import DeadLetterFile
from service.deaths import NO_EVENT
from service.errors import Interrupted, OutcomeUnknown, PipelineFailed, QueueClosed, StorageFull
from service.journal.entry import Configuration
from service.pipeline import Pipeline
from service.recovery import configuration_of
from service.settings import PartSettings, Settings, SinkSettings, StateSettings
from service.signals import Stop
from service.sources.source import Source, Surroundings
from service.state_directory import Storage, lock_directory, open_storage

log = logging.getLogger(__name__)

LOOK: Final = 0.05
"""Seconds between two looks at how far it is."""

FLUSH: Final = 0.1
"""Seconds after which the disk is given what was written: at the end, all would take longer."""


SAVE_LIMIT: Final = 2.5
"""Seconds that saving where it is may take when it is interrupted."""

END_LIMIT: Final = 5.0
"""Seconds after which an interrupted run has ended, whatever its output is stuck at."""


@dataclass(frozen=True, slots=True)
class Summary:
    """What became of the events of all inputs.

    accepted = emitted + sum of ``dropped`` + ``dead``; ``dropped`` and ``shadow`` are by the
    middleware's name. ``deaths`` is what this run made dead letters of, by middleware or "no
    event": ``count``, and the ``first`` and ``last`` reason.
    """

    accepted: int
    emitted: int
    dropped: dict[str, int]
    shadow: dict[str, int]
    dead: int
    deaths: dict[str, dict[str, Any]]
    seconds: float
    events_per_second: float

    @property
    def had_no_event(self) -> bool:
        """Say whether there was input, and no line of it was an event."""
        passed = self.emitted + sum(self.dropped.values())
        return self.dead == self.accepted > 0 and not passed and {*self.deaths} == {NO_EVENT}


def over_files(settings: Settings, inputs: Sequence[str], output: str) -> Settings:
    """Return the settings with other sources and sinks; "-" is standard input or output.

    What can be read and written again is kept track of in OUTPUT.state, so that the same command
    goes on where an earlier one was killed. An input that is no file is read as a stream.
    """
    sources = []
    for index, each in enumerate(inputs):
        name, params = f"input-{index + 1}", {} if each == "-" else {"path": each}
        if each == "-" or not Path(each).is_file():
            sources.append(PartSettings(name=name, use="stdin", params=params))
        else:
            sources.append(PartSettings(name=name, use="ndjson", params={"paths": [each]}))
    state: dict[str, Any] = {"directory": Path(f"{output}.state").absolute(), "reserve": 1}
    if output == "-":
        sink = SinkSettings(name="output", use="stdout")
    else:
        kept = {"path": output, "existing": "truncate"}
        sink = SinkSettings(name="output", use="ndjson", params=kept)
    streams = any(source.use == "stdin" for source in sources) or output == "-"
    if streams or (Path(output).exists() and not Path(output).is_file()):
        state["durability"] = "off"
    return settings.model_copy(
        update={
            "source": tuple(sources),
            "sink": (sink,),
            "state": settings.state.model_copy(update=state),
        }
    )


def process(
    settings: Settings,
    inputs: Sequence[str],
    dead_letters: Path,
    stop: Stop,
    progress: Callable[[int], None],
) -> Summary:
    """Run the settings' sources (see ``over_files``) to their end.

    ``progress`` is told the bytes that are done. Raises ConfigurationError, PipelineFailed, and
    Interrupted where it was told to ``stop``: then the output holds a beginning of what it would
    have held.
    """
    began = time.perf_counter()
    chain = configured_chain(settings)
    configured = replace(configuration_of(settings, chain), inputs=_fingerprints(inputs))
    with ExitStack() as cleanup:
        storage = _storage(settings.state, configured, DeadLetterFile(dead_letters), cleanup)
        before = storage.recovered.checkpoint
        if before is not None:
            log.warning("going on where an earlier run ended, at block %s", before.block)
        durable = storage.checkpoints is not None
        pipeline = Pipeline(settings, storage, stop.wake, patient=False)
        surroundings = Surroundings(
            pipeline.queue,
            settings,
            lambda _, problem: pipeline.fail(problem),
            pipeline.intake.references,
            patient=False,
        )
        sources = configured_sources(settings, surroundings, pipeline.last_calls)

        save = _every(settings.state.checkpoint_interval, pipeline.checkpoint)
        flush = _every(FLUSH, lambda: _flush(pipeline, storage))

        def go_on() -> bool:
            progress(pipeline.statistics.settled_bytes)
            save()
            flush()
            return pipeline.problem is None and not stop.asked

        whole = saved = False
        stop.begin(pipeline.waits_for, END_LIMIT)
        try:
            pipeline.start()
            whole = _run_through(pipeline, sources, go_on)
            if whole:
                _flush(pipeline, storage)
            elif durable and stop.asked:
                saved = _save_here(pipeline, stop)
            progress(pipeline.statistics.settled_bytes)
        finally:
            pipeline.stop()
        pipeline.check()
        if pipeline.ending.stuck:
            log.warning("ended without waiting for: %s", ", ".join(pipeline.ending.stuck))
        totals = pipeline.statistics.totals()
        if not whole:
            done = totals.accepted - totals.in_flight
            raise Interrupted(_interruption(done, durable=durable, saved=saved))
        if durable:
            _remove(settings.state.directory)
    seconds = time.perf_counter() - began
    events = totals.accepted - (int(before.statistics["settled"]) if before else 0)
    return Summary(
        accepted=totals.accepted,
        emitted=totals.emitted,
        dropped=totals.dropped,
        shadow=totals.shadow,
        dead=totals.dead,
        deaths=pipeline.emitter.deaths.describe(),
        seconds=round(seconds, 3),
        events_per_second=round(events / seconds, 1),
    )


def _run_through(pipeline: Pipeline, sources: Sequence[Source], go_on: Callable[[], bool]) -> bool:
    """Run the sources to their end, one after the other; say whether all of it was emitted."""
    while go_on() and not pipeline.intake.recovered.wait(LOOK):
        pass
    for source in sources:
        if not go_on():
            return False
        source.start()
        while go_on() and not source.finished.wait(LOOK):
            pass
        # A stop gives back what was not accepted: here there is nobody to hand it in again.
        while go_on() and not source.all_accepted(LOOK):
            pass
        if not go_on():
            return False
    return pipeline.drain(go_on, checkpoint=False)


def _save_here(pipeline: Pipeline, stop: Stop) -> bool:
    """Save memory and positions as early as can be, with what workers have at hand; say whether.

    What was accepted beyond that is in the journal, what was not still lies in the inputs.
    """
    pipeline.queue.close()
    pipeline.queue.reject_waiting(QueueClosed("interrupted"))
    until = time.monotonic() + SAVE_LIMIT
    try:
        last = pipeline.intake.cut_short()
    except StorageFull:
        return False
    while pipeline.problem is None and not stop.at_once and time.monotonic() < until:
        if pipeline.checkpointer.wait_for(last, LOOK):  # it was tried: a full disk may refuse it
            break
    return pipeline.checkpointer.block >= last


def _remove(directory: Path) -> None:
    """Remove what is not needed any more."""
    try:
        shutil.rmtree(directory)
    except OSError as error:
        log.warning(
            "%s: cannot be removed (%s); the output is whole, remove this by hand",
            directory,
            error,
        )


def _interruption(events: int, *, durable: bool, saved: bool) -> str:
    """Say how far it came, and what the same command does next."""
    if saved:
        then = "the same command goes on from there"
    elif durable:
        then = "the same command goes on from where it was saved last, and writes the rest again"
    else:
        then = "the same command starts anew"
    return f"interrupted after {events} events; the output holds what was kept of these, and {then}"


def _every(seconds: float, do: Callable[[], object]) -> Callable[[], None]:
    """Return a function to be called often, which calls ``do`` once in so many seconds."""
    due = time.monotonic() + seconds

    def look() -> None:
        nonlocal due
        if time.monotonic() >= due:
            do()
            due = time.monotonic() + seconds

    return look


def _flush(pipeline: Pipeline, storage: Storage) -> None:
    """Have all output on the disk, before what could make it again is removed."""
    if storage.checkpoints is None:
        return
    try:
        pipeline.emitter.flush()
    except (OSError, OutcomeUnknown) as error:
        message = f"the output may not be on the disk whole ({error}): give the same command again"
        raise PipelineFailed(message) from error


def _fingerprints(inputs: Sequence[str]) -> tuple[tuple[str, int, int], ...]:
    """Return what tells whether the inputs are those of an earlier run."""
    found = []
    for path in (Path(each).absolute() for each in inputs if each != "-"):
        status = path.stat()
        found.append((str(path), status.st_size, status.st_mtime_ns))
    return tuple(found)


def _storage(
    state: StateSettings,
    configured: Configuration,
    dead_letters: DeadLetterFile,
    cleanup: ExitStack,
) -> Storage:
    """Open what an earlier run of the same kind left, or start anew."""
    if state.durability == "off":
        return open_storage(state, configured, dead_letters)
    cleanup.enter_context(lock_directory(state.directory, "give another --output"))
    try:
        storage = open_storage(state, configured, dead_letters)
        if storage.recovered.configuration == configured:
            return storage
        problem = "an input or the configuration was changed since"
        storage.journal.close()  # before another one is opened under the names of its files
    except PipelineFailed as error:  # whatever is lost there can be made again from the inputs
        problem = str(error)
    log.warning("an earlier run was interrupted, and this one starts anew: %s", problem)
    try:
        for folder in state.directory.iterdir():
            if folder.is_dir():
                shutil.rmtree(folder)
    except OSError as error:
        message = f"{state.directory}: cannot be emptied to start anew: {error}; remove it by hand"
        raise PipelineFailed(message) from error
    return open_storage(state, configured, dead_letters)
