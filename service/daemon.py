"""The daemon: the pipeline with its sources, its scheduler and its HTTP server."""

from __future__ import annotations

import logging
import time
from collections.abc import Collection
from typing import Final

from apscheduler.events import EVENT_JOB_MAX_INSTANCES, EVENT_JOB_MISSED
from flask_apscheduler import APScheduler

from service.admin.api import make_app
from service.admin.dead_letters import dead_letters_api
from service.admin.health import health_mounts
from service.configured import configured_sources
from service.dead_letter_store import DeadLetterStore
from service.errors import PipelineFailed
from service.event_queue import QueueServer
from service.finishing import check_ended, storage_to_start
from service.http_server import HttpServer
from service.left_out import excluding
from service.locks import STOPPED_EARLY
from service.operation import Operation
from service.pipeline import Pipeline
from service.settings import Settings
from service.signals import Stop
from service.sources.calls import call_all
from service.sources.mount import Mount
from service.sources.source import Source, Surroundings
from service.state_directory import lock_directory

log = logging.getLogger(__name__)

START_LIMIT: Final = 90.0
"""Seconds until the state host and the workers must be ready; they have limits of their own."""

HELD_BACK_LIMIT: Final = 3.0
"""Seconds a stop waits for a sink, or for a last checkpoint, where nothing gets on.

What is left is kept. With the second that what is stuck may take to end, that is less than five.
"""

END_LIMIT: Final = 30.0
"""Seconds that the daemon may take to end once there is nothing left to emit, or no way to."""


class Daemon:
    """One daemon over one state directory."""

    def __init__(
        self,
        settings: Settings,
        stop: Stop,
        forget: Collection[str] = (),
        without: Collection[str] = (),
    ) -> None:
        """Load everything the settings name, which were checked when they were read.

        The middleware named in ``forget`` start with an empty memory; what is named in
        ``without`` counts as if it were not there. Raises ConfigurationError, PipelineFailed, and
        Interrupted when it was told to stop meanwhile.

        1. The directory is locked, then read.
        2. What was accepted under another chain is finished with that one.
        """
        settings, exclusions = excluding(settings, without)
        self._settings = settings
        self._stop = stop
        directory = settings.state.directory
        self._lock = lock_directory(directory)
        log.info("the state is kept in %s", directory)
        self._dead_letters = DeadLetterStore(
            directory / "penstock.db", settings.event.max_event_bytes
        )
        self._storage = storage_to_start(
            settings, self._dead_letters, stop, exclusions=exclusions, forget=forget
        )
        self._pipeline = Pipeline(settings, self._storage, stop.wake)
        self.operation = Operation(self._pipeline)
        self._scheduler = _scheduler(self.operation)
        self._mounts: dict[str, Mount] = health_mounts(self.operation)
        self._app = make_app(self.operation, self._mounts)
        self._app.register_blueprint(
            dead_letters_api(self._dead_letters, self._pipeline.queue.submit),
            url_prefix="/api/v1/dead-letters",
        )
        self._scheduler.init_app(self._app)
        surroundings = Surroundings(
            self._pipeline.queue,
            settings,
            _source_failed,
            self._pipeline.intake.references,
            scheduler=self._scheduler,
            mounts=self._mounts,
        )
        self._sources: list[Source] = configured_sources(
            settings, surroundings, self._pipeline.last_calls
        )
        self.operation.sources = self._sources
        self._queue_server = QueueServer(
            self._pipeline.queue, self._pipeline.runtime_directory, directory / "queue.json"
        )

    def run(self) -> None:
        """Run until told to stop, then drain; raises PipelineFailed when it cannot go on.

        A daemon that is told so before it was ready takes nothing in and emits nothing more: what
        was accepted is in the journal.
        """
        ready = drained = False
        try:
            server = HttpServer(self._app, self._mounts, self._settings)
            self._stop.begin(self._pipeline.waits_for)
            ready = self._get_ready(server)
            if ready:
                log.info("ready on http://%s", server.address)
                self._stop.wait()
                drained = self._wind_up(server)
            elif self._stop.signal is not None:
                log.info("stopping (%s) before it was ready", self._stop.signal.name)
        finally:
            self._stop.end_within(END_LIMIT)
            self._queue_server.close()
            self._pipeline.stop()
        self._pipeline.check()
        left = self.operation.statistics().in_flight
        if not ready:
            log.info(STOPPED_EARLY)
        elif not drained:
            if self._settings.state.durability == "off":
                message = f"stopped at once: {left} events were accepted, not emitted, and are lost"
                raise PipelineFailed(message)
            log.warning("stopped at once: the next start emits the %s events in flight", left)
        check_ended(self._pipeline)

    def _get_ready(self, server: HttpServer) -> bool:
        """Start, the way out before the way in; say whether that was done before a signal.

        The HTTP port is taken already: nothing was emitted when it cannot be. In this order:
        1. the pipeline; once its processes are up, the HTTP server answers the operators;
        2. what the journal holds is emitted: it was accepted first;
        3. the sources and the queue's socket.
        """
        self._pipeline.start()
        began = time.monotonic()
        if not self._pipeline.wait_until(lambda: self._pipeline.up, lambda: self._starting(began)):
            return False
        server.start(self._pipeline.fail)
        if not self._pipeline.wait_until(
            lambda: self._pipeline.caught_up, lambda: not self._stop.asked
        ):
            return False
        self._queue_server.start()
        self._schedule()
        call_all(self._sources, "start", lambda: not self._stop.asked)
        return True

    def _starting(self, began: float) -> bool:
        if time.monotonic() - began > START_LIMIT:
            raise PipelineFailed("the workers did not get ready in time")
        return not self._stop.asked

    def _schedule(self) -> None:
        """Start the scheduler with the daemon's own jobs."""
        interval = self._settings.state.checkpoint_interval
        self._scheduler.add_job(
            id="checkpoint",
            func=self._pipeline.checkpoint,
            trigger="interval",
            seconds=interval,
            coalesce=True,
            max_instances=1,
            misfire_grace_time=None,
        )
        self._scheduler.add_job(
            id="purge dead letters",
            func=self._purge_dead_letters,
            trigger="interval",
            hours=1,
            coalesce=True,
            max_instances=1,
            misfire_grace_time=None,
        )
        self._scheduler.start()

    def _purge_dead_letters(self) -> None:
        """Forget the dead letters that were decided long ago, as the journal forgets events."""
        if self._storage.checkpoints is not None:
            before = time.time() - self._settings.state.retention_age
            try:
                self._dead_letters.purge(before, self._storage.checkpoints.oldest_block)
            except OSError as error:
                log.warning("old dead letters cannot be purged now: %s", error)

    def _wind_up(self, server: HttpServer) -> bool:
        """Stop taking in, emit what was accepted, then stop answering; in this order.

        1. Not ready any more, so that balancers and operators see it.
        2. The sources and the scheduler hand in nothing more.
        3. The pipeline drains; producers who wait for a receipt get it. A sink that holds the
           stream back, or a last checkpoint that cannot be written, is not waited for: the next
           start emits the rest.
        4. The HTTP server finishes its answers and closes.
        """
        self.operation.draining = True
        if self._stop.signal is not None and self._pipeline.problem is None:
            log.info(
                "stopping (%s): what was accepted is still emitted; a second signal stops at once",
                self._stop.signal.name,
            )
        began = time.monotonic()
        call_all(self._sources, "stop", lambda: not self._stop.at_once)
        self._scheduler.shutdown(wait=False)
        drained = self._pipeline.drain(
            lambda: not self._stop.at_once and not self._held_back(began)
        )
        server.close()
        if drained:
            log.info("stopped: everything accepted was emitted")
        for name, why in self._pipeline.emitter.troubles(HELD_BACK_LIMIT / 2).items():
            log.warning('the sink "%s" holds the stream back: %s', name, why)
        return drained

    def _held_back(self, since: float) -> bool:
        """Say whether nothing has got on for long, and nothing is lost by stopping."""
        held_back = min(self._pipeline.held_back(), time.monotonic() - since)
        kept = self._settings.state.durability != "off" or not self.operation.statistics().in_flight
        return held_back >= HELD_BACK_LIMIT and kept


def _scheduler(operation: Operation) -> APScheduler:
    """Return the scheduler; its own REST API stays off: it would run any code it is sent."""
    scheduler = APScheduler()
    scheduler.api_enabled = False

    def missed(event: object) -> None:
        del event
        operation.missed_ticks += 1

    scheduler.add_listener(missed, EVENT_JOB_MISSED | EVENT_JOB_MAX_INSTANCES)
    return scheduler


def _source_failed(name: str, problem: str) -> None:
    log.error('source "%s": %s; everything else goes on', name, problem)
