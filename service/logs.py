"""Log lines on standard error: for people on a terminal, as JSON otherwise.

In JSON each line is one object, whoever wrote it: Penstock, a library, a warning, a traceback, or
code of a user's own that prints, in the daemon or in a child. It has ``event``, ``level``,
``logger``, ``process`` and ``timestamp``, and ``exception`` where there is one.
"""

from __future__ import annotations

import io
import logging
import sys
import threading
from types import TracebackType
from typing import TextIO

import structlog

from middleware.wording import printable

log = logging.getLogger("printed")


def configure_logs(level: int = logging.INFO) -> None:
    """Send every log line to standard error, from now on."""
    stream = sys.stderr
    terminal = stream.isatty()
    shared: list[structlog.typing.Processor] = [
        structlog.stdlib.add_log_level,
        structlog.stdlib.add_logger_name,
        structlog.processors.TimeStamper(fmt="iso", utc=True),
        _add_process,
    ]
    render: list[structlog.typing.Processor] = (
        [_steer_no_terminal, structlog.dev.ConsoleRenderer()]
        if terminal
        else [structlog.processors.format_exc_info, structlog.processors.JSONRenderer()]
    )
    handler = _Handler(stream)
    handler.setFormatter(
        structlog.stdlib.ProcessorFormatter(
            foreign_pre_chain=shared,
            processors=[structlog.stdlib.ProcessorFormatter.remove_processors_meta, *render],
        )
    )
    root = logging.getLogger()
    root.handlers = [handler]
    root.setLevel(level)
    # These say at "info" what is no news: each job run, each request.
    for noisy in ("apscheduler", "waitress", "werkzeug"):
        logging.getLogger(noisy).setLevel(logging.WARNING)
    logging.captureWarnings(capture=True)
    sys.excepthook = _log_exception
    threading.excepthook = lambda raised: _log_exception(
        raised.exc_type, raised.exc_value, raised.exc_traceback
    )
    if not terminal:
        sys.stdout = sys.stderr = LoggedLines(stream)


def _log_exception(
    kind: type[BaseException], error: BaseException | None, traceback: TracebackType | None
) -> None:
    if error is not None:
        log.critical("unexpected error: %s", error, exc_info=(kind, error, traceback))


def _add_process(
    _: object, __: str, entry: structlog.typing.EventDict
) -> structlog.typing.EventDict:
    entry["process"] = getattr(entry["_record"], "process_title", "penstock")
    return entry


def _steer_no_terminal(
    _: object, __: str, entry: structlog.typing.EventDict
) -> structlog.typing.EventDict:
    entry["event"] = printable(str(entry["event"]), keep="\n")
    return entry


class _Handler(logging.StreamHandler[TextIO]):
    """Writes log lines, as long as somebody takes them: nothing else depends on that."""

    def handleError(self, record: logging.LogRecord) -> None:  # noqa: N802 - logging calls it so
        """Drop a line that cannot be written: there is nowhere to tell it.

        What is wrong with the line itself is told, as ever.
        """
        if not isinstance(sys.exception(), OSError):
            super().handleError(record)


class LoggedLines(io.TextIOBase):
    """Where others print to: each line that is written there becomes a log line."""

    encoding = "utf-8"
    errors = "backslashreplace"

    def __init__(self, stream: TextIO) -> None:
        self._stream = stream
        self._rest = ""
        self._lock = threading.Lock()
        self._own = threading.local()

    def fileno(self) -> int:
        """Return where the log goes."""
        return self._stream.fileno()

    def writable(self) -> bool:
        """Say yes."""
        return True

    def write(self, text: str) -> int:
        """Log the lines that are complete."""
        if getattr(self._own, "at_work", False):  # the log complains, and not about itself
            return len(text)
        with self._lock:
            *lines, self._rest = (self._rest + text).split("\n")
        self._own.at_work = True
        try:
            for line in lines:
                log.error("%s", line)
        finally:
            self._own.at_work = False
        return len(text)

    def flush(self) -> None:
        """Do nothing: half a line is no line yet."""
