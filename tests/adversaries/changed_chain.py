"""A daemon whose sink is stuck is stopped, and started with another chain: nothing may be lost.

Every event was confirmed before the stop. What the next lives write must be what the chain under
which each event was accepted makes of it. ``python -m tests.adversaries.changed_chain`` prints
the table.
"""

from __future__ import annotations

import itertools
import json
import os
import random
import signal
import sys
import tempfile
import time
from collections.abc import Callable, Iterator
from http.client import HTTPException
from pathlib import Path
from typing import Any, Final, NamedTuple

from tests.adversaries.harness import Daemon, Table
from tests.adversaries.model import Model, Post, parse_offset

EVENTS: Final = 3_000
POSTS: Final = 30

BLOCKLIST: Final[Table] = {"name": "block", "use": "blocklist", "params": {"cids": [3]}}
ADJACENT: Final[Table] = {"name": "near", "use": "adjacent", "params": {"window": 2.0}}
OTHER: Final[Table] = {"name": "other", "use": "steps:EveryOther", "params": {"of": 3}}
TAGGER: Final[Table] = {"name": "tagger", "use": "steps:Tagger", "params": {"zones": 4}}

BEFORE: Final = [BLOCKLIST, ADJACENT, OTHER]
CHANGES: Final[dict[str, list[Table]]] = {
    "nothing": BEFORE,
    "params": [BLOCKLIST, {**ADJACENT, "params": {"window": 5.0}}, OTHER],
    "added": [*BEFORE, TAGGER],
    "removed": [BLOCKLIST, OTHER],
    "renamed": [BLOCKLIST, {**ADJACENT, "name": "close"}, OTHER],
    "reordered": [OTHER, ADJACENT, BLOCKLIST],
    "another use": [BLOCKLIST, {**OTHER, "name": "near"}],
    "emptied": [],
}

TERM: Final = signal.SIGTERM
STUCK: Final = ["refusing", "blocking", "fifo"]


def twice(number: signal.Signals, pause: float, *, group: bool = False) -> Callable[[Daemon], None]:
    def stop(daemon: Daemon) -> None:
        daemon.send([number, number], pause, to_group=group)

    return stop


def killed_after_term(daemon: Daemon) -> None:
    daemon.send([TERM], 0, to_group=False)
    time.sleep(0.3)  # so that it drains
    daemon.kill()


def one_hangup(daemon: Daemon) -> None:
    daemon.send([signal.SIGHUP, TERM], 0.3, to_group=False)


STOPS: Final[dict[str, Callable[[Daemon], None]]] = {
    "TERM twice": twice(TERM, 0.3),
    "TERM twice at once": twice(TERM, 0.002),
    "INT twice": twice(signal.SIGINT, 0.3),
    "TERM twice to the group": twice(TERM, 0.3, group=True),
    "HUP and TERM": one_hangup,
    "TERM, kill": killed_after_term,
    "kill": Daemon.kill,
    "kill of the group": Daemon.kill_group,
}


class Case(NamedTuple):
    stop: str
    barrier: bool
    """A checkpoint was due with the last block."""
    change: str
    stuck: str
    killed_starts: int
    """How many starts with the new chain are killed on their way."""


def cases(seed: int = 0) -> Iterator[Case]:
    """Return every combination, in an order of chance, then all of them again and again."""
    every = list(itertools.product(STOPS, [True, False], CHANGES, STUCK, [0, 0, 0, 2]))
    choice = random.Random(seed)
    while True:
        choice.shuffle(every)
        yield from itertools.starmap(Case, every)


class Result(NamedTuple):
    lost: int
    """Confirmed events that are in no output although they should be."""
    problem: str
    """What else was wrong; empty when all was well."""
    stopped: bool
    """It ended within the bound at the stop."""


def body(first: int, count: int) -> list[bytes]:
    choice = random.Random(first)
    return [
        b'{"cid":%d,"time":%.2f,"n":%d}\n' % (choice.randrange(600), 1.7e9 + n / 50, n)
        for n in range(first, first + count)
    ]


def run(directory: Path, case: Case) -> Result:
    """Play one case in an empty directory."""
    daemon = Daemon(directory)
    try:
        result = play(daemon, case)
    except (AssertionError, OSError) as problem:
        result = Result(-1, str(problem).strip()[-1500:], stopped=True)
    if left := daemon.end():
        result = result._replace(problem=f"outlived the daemon: {left}; {result.problem}")
    return result


def play(daemon: Daemon, case: Case) -> Result:
    stuck = daemon.directory / "stuck"
    model = Model()
    reader = make_stuck(daemon.directory, case.stuck)
    configuration: Table = {
        "source": [{"name": "push", "use": "http"}],
        "middleware": BEFORE,
        "sink": [
            {"name": "kept", "use": "ndjson", "params": {"path": "kept.ndjson"}},
            stuck_sink(case.stuck),
        ],
        "http": {"listen": "127.0.0.1:0"},
        "workers": {"count": 2},
        "state": {"checkpoint_interval": 0.2 if case.barrier else "1h", "reserve": 1},
    }
    daemon.start(configuration)
    daemon.wait_until_ready()
    model.chains.append(BEFORE)
    each = EVENTS // POSTS
    if case.barrier:
        time.sleep(0.3)  # so that a checkpoint is due
    for first in range(0, EVENTS, EVENTS if case.barrier else each):
        accept(daemon, model, 0, body(first, EVENTS if case.barrier else each))
    if case.barrier:
        time.sleep(0.3)
    STOPS[case.stop](daemon)
    stopped = daemon.wait() is not None
    if not stopped:
        daemon.kill()

    chain = CHANGES[case.change]
    stuck.unlink(missing_ok=True)
    if case.stuck == "fifo":  # the stuck sink is away, and kept alone goes on
        configuration["sink"] = configuration["sink"][:1]
    configuration["middleware"] = chain
    choice = random.Random(str(case))
    for _ in range(case.killed_starts):
        daemon.start(configuration)
        daemon.wait(choice.uniform(0.1, 0.8))
        daemon.kill()
    model.chains.append(chain)
    problem = ""
    stats = None
    try:
        daemon.start(configuration)
        daemon.wait_until_ready()
        accept(daemon, model, 1, body(EVENTS, 200))
        stats = daemon.settle()
        daemon.send([TERM], 0, to_group=False)
        code = daemon.wait()
        assert code == 0, f"the last stop ends with {code}"
    except (AssertionError, OSError, HTTPException) as error:
        problem = f"{error}; {daemon.log[-600:]}"
        daemon.end()
        daemon.start()  # as an operator would: perhaps a further start mends it
        daemon.wait(5)
        daemon.end()
    if reader is not None:
        os.close(reader)
    result = compared(daemon, model, stats, stopped=stopped)
    return result._replace(problem=f"{problem}; {result.problem}") if problem else result


def make_stuck(directory: Path, kind: str) -> int | None:
    """Make what holds the second sink up; returns an open reader that reads nothing."""
    if kind != "fifo":
        (directory / "stuck").touch()
        return None
    os.mkfifo(directory / "pipe")
    return os.open(directory / "pipe", os.O_RDONLY | os.O_NONBLOCK)


def stuck_sink(kind: str) -> Table:
    if kind == "fifo":
        return {"name": "second", "use": "ndjson", "params": {"path": "pipe"}}
    use = {"refusing": "stuck_sinks:Refusing", "blocking": "stuck_sinks:Blocking"}[kind]
    return {"name": "second", "use": use, "params": {"while_there": "stuck"}}


def accept(daemon: Daemon, model: Model, life: int, lines: list[bytes]) -> None:
    answer = daemon.post(b"".join(lines))
    assert answer.status == 202, answer
    model.posts.append(Post(life, parse_offset(answer.document["first"]), lines))


def compared(daemon: Daemon, model: Model, stats: Any, *, stopped: bool) -> Result:
    expected = model.outcome()
    kept = (daemon.directory / "kept.ndjson").read_bytes().splitlines(keepends=True)
    numbers = {json.loads(line)["n"] for line in kept}
    lost = sum(json.loads(line)["n"] not in numbers for line in expected.emitted)
    problem = ""
    if kept != expected.emitted:
        problem = f"kept {len(kept)} lines, expected {len(expected.emitted)}"
    elif stats is None:
        problem = "no stats"
    elif stats["accepted"] != expected.accepted:
        problem = f"accepted {stats['accepted']}, expected {expected.accepted}"
    elif stats["emitted"] != len(kept):
        problem = f"the stats say {stats['emitted']} emitted, the file holds {len(kept)}"
    elif +expected.dropped != {k: v for k, v in stats["dropped"].items() if v}:
        problem = f"dropped {stats['dropped']}, expected {dict(expected.dropped)}"
    return Result(lost, problem, stopped)


def main(count: int, seed: int) -> None:
    """Print a line for each case that went wrong, then the figures."""
    losing = wrong = unheard = 0
    began = time.monotonic()
    for number, case in enumerate(itertools.islice(cases(seed), count), 1):
        with tempfile.TemporaryDirectory(prefix="penstock-tests-") as folder:
            result = run(Path(folder), case)
        losing += result.lost > 0
        wrong += bool(result.problem)
        unheard += not result.stopped
        if result.problem or result.lost or not result.stopped:
            sys.stdout.write(f"{case}: {result}\n")
        if number % 10 == 0 or number == count:
            sys.stdout.write(
                f"{number} runs: {losing} lost events, {wrong} wrong, {unheard} stops unheard, "
                f"{time.monotonic() - began:.0f} s\n"
            )
        sys.stdout.flush()


if __name__ == "__main__":
    main(int(sys.argv[1]), int(sys.argv[2]) if len(sys.argv) > 2 else 0)
