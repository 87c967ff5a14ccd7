"""A daemon is told to stop, in every way and at every moment: it hears, and ends within a bound.

``python -m tests.adversaries.stops COUNT`` prints how many of so many stops were not heard.
"""

from __future__ import annotations

import itertools
import random
import signal
import sys
import tempfile
import time
from collections import Counter
from collections.abc import Iterator
from pathlib import Path
from threading import Event, Thread
from typing import Final, NamedTuple

from tests.adversaries.harness import Daemon, Table

TERM: Final = signal.SIGTERM
BOUND: Final = 20.0
"""Seconds after which a stop was not heard; it is 5 s that an idle machine has to keep."""

STOPS: Final[dict[str, tuple[list[signal.Signals], float, bool]]] = {
    "TERM": ([TERM], 0, False),
    "INT": ([signal.SIGINT], 0, False),
    "HUP": ([signal.SIGHUP], 0, False),
    "TERM to the group": ([TERM], 0, True),
    "INT to the group": ([signal.SIGINT], 0, True),
    "pair": ([TERM] * 2, 0, False),
    "pair, 1 ms": ([TERM] * 2, 0.001, False),
    "pair, 5 ms": ([TERM] * 2, 0.005, False),
    "pair to the group": ([TERM] * 2, 0.002, True),
    "TERM and INT": ([TERM, signal.SIGINT], 0.001, False),
    "burst": ([TERM] * 5, 0, False),
    "burst to the group": ([TERM] * 5, 0.001, True),
    "two senders": ([], 0, False),
}
MOMENTS: Final = ["starting", "recovering", "at ready", "later", "posting", "stuck"]
TOO_EARLY: Final = {129, 130, 143}
"""The exit codes of a daemon that was told to end before it had begun; of any other it is 0."""


class Stop(NamedTuple):
    how: str
    moment: str
    delay: float
    """Seconds, for the moments that are a matter of them."""


class Outcome(NamedTuple):
    seconds: float
    code: int | None
    problem: str
    """Empty when it was heard and ended as it should."""


def stops(seed: int = 0) -> Iterator[Stop]:
    """Return every combination, in an order of chance, then all of them again and again."""
    choice = random.Random(seed)
    every = list(itertools.product(STOPS, MOMENTS))
    while True:
        choice.shuffle(every)
        for how, moment in every:
            yield Stop(how, moment, choice.uniform(0.0, 0.9))


def configuration() -> Table:
    return {
        "source": [{"name": "push", "use": "http"}],
        "middleware": [{"name": "near", "use": "adjacent"}],
        "sink": [
            {"name": "kept", "use": "ndjson", "params": {"path": "kept.ndjson"}},
            {
                "name": "second",
                "use": "stuck_sinks:Refusing",
                "params": {"while_there": "stuck"},
            },
        ],
        "http": {"listen": "127.0.0.1:0"},
        "workers": {"count": 2},
        "state": {"reserve": 1},
    }


class Stopping:
    """One daemon's directory, with something to recover, for one stop after the other."""

    def __init__(self, directory: Path) -> None:
        self.daemon = Daemon(directory)
        self.stuck = directory / "stuck"
        self.number = 0

    def stop(self, stop: Stop) -> Outcome:
        """Start, reach the moment, send, wait; nothing runs afterwards."""
        daemon = self.daemon
        try:
            if stop.moment == "recovering":
                self.leave_something_to_recover()
            if stop.moment == "stuck":
                self.stuck.touch()
            daemon.start(configuration())
            if stop.moment in {"starting", "recovering"}:
                daemon.wait(stop.delay)
            else:
                daemon.wait_until_ready()
            if stop.moment == "stuck":
                self.post(100)
            if stop.moment == "later":
                time.sleep(stop.delay)
            return self.told(stop)
        finally:
            self.stuck.unlink(missing_ok=True)
            left = daemon.end()
            assert not left, f"outlived the daemon: {left}"

    def told(self, stop: Stop) -> Outcome:
        daemon, done = self.daemon, Event()
        producer = Thread(target=self.keep_posting, args=(done,), daemon=True)
        if stop.moment == "posting":
            producer.start()
            time.sleep(stop.delay / 10)
        signals, pause, group = STOPS[stop.how]
        began = time.monotonic()
        if stop.how == "two senders":
            daemon.send_from_two(TERM)
        else:
            daemon.send(signals, pause, to_group=group)
        if stop.moment == "stuck" and daemon.wait(1) is None:
            # One stop waits for the sink, as it should; the next ones do not.
            daemon.send([TERM] * 2, 0.3, to_group=False)
        code = daemon.wait(BOUND)
        took = time.monotonic() - began
        done.set()
        if producer.ident is not None:
            producer.join(BOUND)
        return Outcome(took, code, self.judged(code))

    def judged(self, code: int | None) -> str:
        log = self.daemon.log
        ends = {0}
        if "ready on" not in log:
            ends |= TOO_EARLY
        if not log:
            ends |= {-TERM, -signal.SIGINT, -signal.SIGHUP}
        if code is None:
            return f"not heard; {log[-300:]}"
        if code not in ends:
            return f"it ended with {code}; {log[-1000:]}"
        if "Traceback" in log or "Exception ignored" in log:
            return f"a traceback; {log[-1000:]}"
        return ""

    def leave_something_to_recover(self) -> None:
        self.daemon.start(configuration())
        self.daemon.wait_until_ready()
        for _ in range(5):
            self.post(2_000)
        self.daemon.kill()

    def post(self, count: int) -> None:
        self.number += count
        lines = (b'{"cid":%d,"time":%d}\n' % (n % 977, n) for n in range(count))
        answer = self.daemon.post(b"".join(lines))
        assert answer.status == 202, answer

    def keep_posting(self, done: Event) -> None:
        while not done.is_set():
            try:
                self.post(50)
            except Exception:  # noqa: BLE001 - the daemon is gone, or will take no more
                return


def main(count: int, seed: int) -> None:
    """Print each stop that went wrong, then the figures."""
    wrong: Counter[str] = Counter()
    longest = 0.0
    for number, stop in enumerate(itertools.islice(stops(seed), count), 1):
        with tempfile.TemporaryDirectory(prefix="penstock-tests-") as folder:
            try:
                outcome = Stopping(Path(folder)).stop(stop)
            except AssertionError as problem:
                outcome = Outcome(0, None, f"harness: {problem}")
        longest = max(longest, outcome.seconds)
        if outcome.problem:
            wrong["unheard" if outcome.code is None else "ended badly"] += 1
            sys.stdout.write(f"{stop}: {outcome}\n")
        wrong["slower than 5 s"] += outcome.seconds > 5
        if number % 20 == 0 or number == count:
            sys.stdout.write(f"{number} stops: {dict(wrong)}; the longest took {longest:.1f} s\n")
        sys.stdout.flush()


if __name__ == "__main__":
    main(int(sys.argv[1]), int([*sys.argv[2:3], "0"][0]))
