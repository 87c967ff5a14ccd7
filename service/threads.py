"""Threads that do not die in silence."""

from __future__ import annotations

import logging
from collections.abc import Callable
from threading import Thread

from middleware.errors import PenstockError

log = logging.getLogger(__name__)


def start_thread(name: str, target: Callable[[], None], failed: Callable[[str], None]) -> Thread:
    """Start a thread; what ``target`` raises is reported to ``failed``."""

    def run() -> None:
        try:
            target()
        except PenstockError as error:
            failed(str(error))
        except Exception as error:
            log.critical("%s: unexpected error", name, exc_info=True)
            failed(f"{name}: {type(error).__name__}: {error}")

    thread = Thread(target=run, name=name, daemon=True)
    thread.start()
    return thread
