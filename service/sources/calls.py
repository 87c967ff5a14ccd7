"""Starting and stopping sources: whatever the code of one does, it keeps nothing else waiting."""

from __future__ import annotations

import time
from collections.abc import Callable, Sequence
from threading import Thread
from typing import Final, Literal

from middleware.errors import FAULTS, in_words
from middleware.loading import raised_at
from service.sources.source import Source
from service.threads import ended

LIMIT: Final = 3.0
"""Seconds that all sources together may keep a start, or a stop, waiting."""

_LOOK: Final = 0.05

_LATE: Final = (
    "{}() has not returned for {:g} s, where it should return at once and leave the work to a "
    "thread (self.start_thread); to go on without this source: penstock run --without {}"
)


def call_all(
    sources: Sequence[Source], method: Literal["start", "stop"], go_on: Callable[[], bool]
) -> None:
    """Call a method of every source, each in a thread, and wait for them while ``go_on`` says yes.

    What one raises, or that it does not return, is its ``problem`` alone.
    """
    began = time.monotonic()
    calls = {source.name: _begin(source, method) for source in sources}
    for source in sources:
        call = calls[source.name]
        while not ended(call, _LOOK) and go_on() and time.monotonic() - began < LIMIT:
            pass
        late = _late(source, method)
        if call.is_alive() and go_on():
            source.fail(late)
        if not call.is_alive() and source.problem == late:
            source.problem = None  # it returned just now


def _begin(source: Source, method: str) -> Thread:
    # Not ``start_thread``: what the source's own code does wrong is told in one line.
    call = Thread(target=_call, args=(source, method), name=f"{method} {source.name}", daemon=True)
    call.start()
    return call


def _call(source: Source, method: str) -> None:
    source.note(method)
    try:
        getattr(source, method)()
    except FAULTS as error:  # of whatever kind
        source.fail(
            f"{method}() raised {in_words(error)} (at {raised_at(error)}); mend its class and "
            "restart the daemon, or run it without this source: penstock run --without "
            f"{source.name}"
        )
    else:
        if source.problem == _late(source, method):
            source.problem = None
    finally:
        source.note("")


def _late(source: Source, method: str) -> str:
    return _LATE.format(method, LIMIT, source.name)
