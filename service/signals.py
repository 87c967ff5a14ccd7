"""One way to stop: whatever the process is doing, a signal is heard, and the process ends.

The kernel may interrupt any thread, and the main thread may be waiting for a lock or a disk. Then a
handler in Python would not run, or would run in the middle of what it disturbs. So the handlers do
nothing. The interpreter itself writes each signal's number to a socket, whichever thread was
interrupted, and one thread reads it here.
"""

from __future__ import annotations

import logging
import os
import signal
import socket
import time
from collections.abc import Callable
from contextlib import suppress
from math import inf
from threading import Event, Lock, Thread
from typing import Final

log = logging.getLogger(__name__)

HEARD: Final = frozenset({signal.SIGTERM, signal.SIGINT, signal.SIGHUP})
"""The signals that ask the process to stop: the whole group gets them, and children ignore them."""

ONE_PRESS: Final = 0.5
"""Seconds in which all signals count as one: a group gets one, and who started it sends it on."""

AT_ONCE_LIMIT: Final = 4.0
"""Seconds that stopping at once may take; then the process ends without what it waits for."""

WORD: Final = 5.0
"""Seconds between two words on what the process still waits for."""

SAYING: Final = 0.5
"""Seconds that the last word may take: who reads the log may be stuck, too."""

FAILED: Final = 1

_LOOK: Final = 0.1


class Stop:
    """Whether the process is to stop, and that it does.

    It is to stop once it was ``asked``, and ``at_once`` once it was asked again after a moment.
    Until ``begin`` there is nothing to stop, and a signal ends the process, after ``abandon``.
    """

    def __init__(self, abandon: Callable[[], object] = lambda: None) -> None:
        self._abandon = abandon
        self.signal: signal.Signals | None = None
        """The first signal that came."""
        self.at_once = False
        self._first = inf
        self._patience = inf
        self._deadline = inf
        self._next_word = inf
        self._doing: Callable[[], str] | None = None
        self._saying: Thread | None = None
        self._lock = Lock()
        self._woken = Event()
        self._ring: socket.socket | None = None

    @property
    def asked(self) -> bool:
        """Say whether the process was asked to stop."""
        return self.signal is not None

    def listen(self) -> None:
        """Hear the signals from now on; call it in the main thread.

        One that is ignored because of ``nohup`` stays ignored.
        """
        bell, self._ring = socket.socketpair()
        self._ring.setblocking(False)
        Thread(target=self._run, args=(bell,), name="signals", daemon=True).start()
        signal.set_wakeup_fd(self._ring.fileno(), warn_on_full_buffer=False)
        for number in HEARD:
            if number != signal.SIGHUP or signal.getsignal(number) != signal.SIG_IGN:
                signal.signal(number, lambda *_: None)

    def begin(self, doing: Callable[[], str], patience: float = inf) -> None:
        """From now on a signal is a request, since there is something to stop.

        ``doing`` tells in a few words what the process waits for. ``patience`` is how many seconds
        the process may take to end after the first request.
        """
        with self._lock:
            self._doing, self._patience = doing, patience

    def wait(self) -> None:
        """Wait until the process was asked to stop, or somebody calls ``wake``."""
        self._woken.wait()

    def wake(self) -> None:
        """Let ``wait`` return, since the process cannot go on."""
        self._woken.set()

    def end_within(self, seconds: float) -> None:
        """See to it that the process has ended after so many seconds, whatever keeps it."""
        with self._lock:
            self._deadline = min(self._deadline, time.monotonic() + seconds)
        if self._ring is not None:
            with suppress(OSError):  # full: it is about to look anyway
                self._ring.send(b"\0")

    def hear(self, number: signal.Signals, moment: float) -> None:
        """Take note of a signal that came at a moment of the monotonic clock."""
        with self._lock:
            if self._doing is None:
                self._abandon()
                os._exit(128 + number)
            if self.signal is None:
                self.signal, self._first = number, moment
                self._next_word = moment + WORD
                self._deadline = min(self._deadline, moment + self._patience)
            elif moment - self._first >= ONE_PRESS and not self.at_once:
                self.at_once = True
                self._deadline = min(self._deadline, moment + AT_ONCE_LIMIT)
        self._woken.set()

    def _run(self, bell: socket.socket) -> None:
        while True:
            idle = not self.asked and self._deadline == inf
            bell.settimeout(None if idle else _LOOK)
            with suppress(TimeoutError):
                numbers = bell.recv(4096)
                for number in HEARD.intersection(numbers):
                    self.hear(signal.Signals(number), time.monotonic())
            self._look(time.monotonic())

    def _look(self, now: float) -> None:
        if now >= self._deadline:
            self._say(log.critical, "does not end: %s; ended without that")
            os._exit(FAILED)
        if now >= self._next_word and not self.at_once:
            self._next_word = now + WORD
            self._say(log.warning, "still stopping: %s; a second signal stops at once")

    def _say(self, level: Callable[[str, str], None], message: str) -> None:
        """Log what the process waits for, from another thread: nothing may hold this one."""
        if self._saying is not None and self._saying.is_alive():
            return
        doing = self._doing or (lambda: "starting")
        self._saying = Thread(target=lambda: level(message, doing()), name="word", daemon=True)
        self._saying.start()
        self._saying.join(SAYING)
