"""The daemon: the pipeline with its sources, its scheduler and its HTTP server."""

from __future__ import annotations

import fcntl
import logging
import os
import signal
from http import HTTPStatus
from pathlib import Path
from threading import Event, Thread
from types import FrameType
from typing import Final, TextIO

from apscheduler.events import EVENT_JOB_MAX_INSTANCES, EVENT_JOB_MISSED
from flask import Flask
from flask_apscheduler import APScheduler
from waitress.channel import HTTPChannel
from waitress.server import create_server
from waitress.task import ErrorTask

from service.admin.api import make_app
from service.admin.problems import problem
from service.configured import configured_sources
from service.errors import PipelineFailed
from service.event_queue import QueueServer
from service.operation import Operation
from service.pipeline import Pipeline
from service.settings import Address, Settings
from service.sources.http import AT_ONCE
from service.sources.source import Source, Surroundings

log = logging.getLogger(__name__)

START_LIMIT: Final = 60.0
"""Seconds until the state host and the workers must be ready."""

OPERATORS: Final = 4
"""Server threads that posts of events can never take from the operators."""


class Daemon:
    """One daemon over one state directory."""

    def __init__(self, settings: Settings) -> None:
        """Load everything the settings name; raises ConfigurationError, PipelineFailed."""
        self._settings = settings
        directory = settings.state.directory
        self._lock = _lock(directory)
        self._wake = Event()
        self._signals = 0
        self._pipeline = Pipeline(settings, directory / "dead.ndjson", self._wake.set)
        self.operation = Operation(self._pipeline)
        self._scheduler = _scheduler(self.operation)
        self._app = make_app(self.operation)
        self._scheduler.init_app(self._app)
        surroundings = Surroundings(
            self._pipeline.queue, settings, self._pipeline.fail, self._scheduler, self._app
        )
        self._sources: list[Source] = configured_sources(settings, surroundings)
        self._queue_server = QueueServer(
            self._pipeline.queue, self._pipeline.runtime_directory, directory / "queue.json"
        )

    def run(self) -> None:
        """Run until TERM or INT, then drain; raises PipelineFailed when it cannot go on.

        Started in this order, the way out before the way in:
        1. the HTTP port is taken, so that nothing was emitted when it cannot be;
        2. the pipeline, so that what comes in can go through;
        3. the sources and the queue's socket; then the HTTP server answers.
        """
        for number in (signal.SIGTERM, signal.SIGINT):
            signal.signal(number, self._told_to_stop)
        try:
            server = HttpServer(self._app, self._settings)
            self._pipeline.start()
            self._pipeline.wait_until_ready(START_LIMIT, lambda: not self._signals)
            self._queue_server.start()
            self._scheduler.start()
            for source in self._sources:
                source.start()
            server.start()
            log.info("ready on http://%s", server.address)
            self._wake.wait()
            drained = self._wind_up(server)
        finally:
            self._queue_server.close()
            self._pipeline.stop()
        self._pipeline.check()
        if not drained:
            left = self.operation.statistics().in_flight
            message = f"stopped at once: {left} events in flight were accepted but not emitted"
            raise PipelineFailed(message)

    def _wind_up(self, server: HttpServer) -> bool:
        """Stop taking in, emit what was accepted, then stop answering; in this order.

        1. Not ready any more, so that balancers and operators see it.
        2. The sources and the scheduler hand in nothing more.
        3. The pipeline drains; producers who wait for a receipt get it.
        4. The HTTP server finishes its answers and closes.
        """
        self.operation.draining = True
        if self._pipeline.problem is None:
            log.info("stopping: what was accepted is still emitted; a second signal stops at once")
        for source in self._sources:
            source.stop()
        self._scheduler.shutdown(wait=False)
        drained = self._pipeline.drain(lambda: self._signals <= 1)
        server.close()
        if drained:
            log.info("stopped: everything accepted was emitted")
        return drained

    def _told_to_stop(self, number: int, frame: FrameType | None) -> None:
        # A handler only takes note; the loops act.
        del number, frame
        self._signals += 1
        self._wake.set()


class ProblemTask(ErrorTask):  # type: ignore[misc]  # waitress ships no types
    """Answers what never reaches Flask, such as a body that is too large, as a problem, too."""

    def execute(self) -> None:
        """Write the answer."""
        error = self.request.error
        status = HTTPStatus(error.code)
        response = problem(status, f"{error.reason}: {error.body}".replace("\r\n", " "))
        body = response.get_data()
        self.status = f"{status.value} {status.phrase}"
        self.response_headers = [("Content-Type", response.content_type), ("Connection", "close")]
        self.content_length = len(body)
        self.close_on_finish = True
        self.write(body)


class Channel(HTTPChannel):  # type: ignore[misc]  # as above
    """A connection whose errors are problems."""

    error_task_class = ProblemTask


class HttpServer:
    """Waitress in a thread of this process: Flask for the operators and the http source."""

    def __init__(self, app: Flask, settings: Settings) -> None:
        """Take the address; raises PipelineFailed when another has it."""
        listen = settings.http.listen
        try:
            self._server = create_server(
                app,
                host=listen.host,
                port=listen.port,
                threads=AT_ONCE + OPERATORS,
                max_request_body_size=settings.http.max_body,
                connection_limit=1000,
                ident="penstock",
            )
        except OSError as error:
            message = (
                f"cannot listen on {listen}: {error.strerror}; set http.listen to another port"
            )
            raise PipelineFailed(message) from error
        self._server.channel_class = Channel
        self.address = str(Address(listen.host, self._server.effective_port))

    def start(self) -> None:
        """Answer requests; those that came before have waited."""
        Thread(target=self._server.run, name="http", daemon=True).start()

    def close(self) -> None:
        """Let the answers under way finish, then close."""
        self._server.task_dispatcher.shutdown(cancel_pending=False, timeout=5)
        self._server.close()


def _lock(directory: Path) -> TextIO:
    """Hold the state directory for this process alone; raises PipelineFailed."""
    directory.mkdir(parents=True, exist_ok=True)
    lock = (directory / "lock").open("a+")
    try:
        fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except OSError:
        lock.seek(0)
        owner = lock.read().strip() or "unknown"
        lock.close()
        message = (
            f"{directory}: another penstock runs here (pid {owner}); "
            "stop it, or give this one a state.directory of its own"
        )
        raise PipelineFailed(message) from None
    lock.truncate(0)
    lock.write(f"{os.getpid()}\n")
    lock.flush()
    return lock


def _scheduler(operation: Operation) -> APScheduler:
    """Return the scheduler; its own REST API stays off: it would run any code it is sent."""
    scheduler = APScheduler()
    scheduler.api_enabled = False

    def missed(event: object) -> None:
        del event
        operation.missed_ticks += 1

    scheduler.add_listener(missed, EVENT_JOB_MISSED | EVENT_JOB_MAX_INSTANCES)
    return scheduler
