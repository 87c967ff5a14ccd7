"""What operators, producers and accidents do to a daemon, in an order of chance.

``plan(seed)`` is a list of actions that depends on the seed alone; ``Performance`` carries them
out and compares everything that can be seen with the model. A failure is repeated by its seed:
``python -m tests.adversaries.operations SEED``.
"""

from __future__ import annotations

import copy
import itertools
import json
import random
import signal
import sys
import tempfile
import time
from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from http import HTTPStatus
from http.client import HTTPException
from pathlib import Path
from threading import Thread
from typing import Any, Final, NamedTuple

import psutil

from tests.adversaries.harness import Answer, Daemon, Table
from tests.adversaries.model import Model, Outcome, Post, Switch, parse_offset

TERM: Final = signal.SIGTERM
STUCK: Final = "stuck"
"""The second sink takes nothing as long as this file is there."""

DRAINED: Final = "TERM"
"""The one kind of stop that waits until everything accepted is emitted."""

SLOW: Final = 10.0
"""Seconds after which a stop is remarked on."""

COME_AGAIN: Final = {429, 503, 507}


class Action(NamedTuple):
    kind: str
    arguments: Table


# ---- what to do


def plan(seed: int, length: int = 12) -> list[Action]:
    """Return what is done under a seed."""
    return Planner(seed).plan(length)


class Planner:
    """Draws actions; knows the configuration that would be in force."""

    def __init__(self, seed: int) -> None:
        self.choice = random.Random(seed)
        self.names = (f"step-{number}" for number in itertools.count())
        self.paths = (f"kept-{number}.ndjson" for number in itertools.count(1))
        self.keys = itertools.count()
        self.events = itertools.count()
        self.clock = 1.7e9
        steps = [self.step() for _ in range(self.choice.randrange(1, 4))]
        sink = {"name": "kept", "use": "ndjson", "params": {"path": "kept.ndjson"}}
        stuck = self.choice.choice(["stuck_sinks:Refusing", "stuck_sinks:Blocking"])
        self.configuration: Table = {
            "source": [{"name": "push", "use": "http"}],
            "middleware": steps,
            "sink": [sink, {"name": "second", "use": stuck, "params": {"while_there": STUCK}}],
            "http": {"listen": "127.0.0.1:0"},
        }
        self.tables()

    def plan(self, length: int) -> list[Action]:
        actions = [Action("start", {"configuration": copy.deepcopy(self.configuration)})]
        kinds = {
            "post": 30,
            "switch": 12,
            "reset": 4,
            "again": 6,
            "kill child": 8,
            "stop": 12,
            "kill": 12,
            "redrive": 3,
        }
        while len(actions) < length:
            (kind,) = self.choice.choices(list(kinds), list(kinds.values()))
            if kind == "switch" and not self.configuration["middleware"]:
                continue
            if kind == "reset" and not self.with_memory():
                continue
            actions += getattr(self, kind.replace(" ", "_"))()
        return [*actions, Action("post", {"posts": self.posts()}), Action("end", {})]

    def step(self) -> Table:
        name = next(self.names)
        use = self.choice.choice(["adjacent", "adjacent", "blocklist", "tagger", "other"])
        table: Table = {"name": name, "use": use, "params": self.params(use)}
        table["use"] = {"tagger": "steps:Tagger", "other": "steps:EveryOther"}.get(use, use)
        if not self.choice.randrange(4):
            table["mode"] = self.choice.choice(["shadow", "disabled", "enabled"])
        return table

    def params(self, use: str) -> Table:
        choice = self.choice
        if use.endswith("adjacent"):
            return {
                "window": choice.choice([0.5, 2.0, 5.0, 20]),
                "radius": choice.choice([0, 1, 2, 7]),
                "refresh": choice.choice(["seen", "kept"]),
                "late": choice.choice(["keep", "suppress"]),
                "by": choice.choice([[], [], [], ["line"], ["line", "zone"]]),
            }
        if use.endswith("blocklist"):
            return {"cids": sorted(choice.sample(range(60), choice.randrange(1, 12)))}
        if use.lower().endswith("tagger"):
            return {"zones": choice.randrange(1, 6)}
        return {"of": choice.randrange(2, 6)}

    def tables(self) -> None:
        """Draw the settings that must never change the output."""
        choice = self.choice
        self.configuration["workers"] = {"count": choice.randrange(1, 4)}
        self.configuration["block"] = {
            "bytes": choice.choice(["1KiB", "4KiB", "3MiB"]),
            "linger": choice.choice([0, 0.0005, 0.02]),
        }
        self.configuration["event"] = {"max_event_bytes": "1KiB"}
        self.configuration["state"] = {
            "durability": choice.choice(["full", "normal"]),
            "checkpoint_interval": choice.choice([0.05, 0.2, "1h"]),
            "checkpoint_bytes": choice.choice(["1KiB", "16KiB", "512MiB"]),
            "reserve": 1,
        }

    def posts(self, most: int = 8) -> list[tuple[str, bytes]]:
        """Return posts, each with a key of its own."""
        return [
            (f"key-{next(self.keys)}", b"".join(self.lines(self.choice.randrange(1, 60))))
            for _ in range(self.choice.randrange(1, most))
        ]

    def lines(self, count: int) -> Iterable[bytes]:
        choice = self.choice
        for number in range(count):
            self.clock += choice.random() * 0.02
            event: Table = {
                "cid": choice.randrange(60),
                "time": round(
                    self.clock - (choice.random() * 30 if choice.random() < 0.1 else 0), 3
                ),
                "n": next(self.events),
            }
            if choice.random() < 0.5:
                event["line"] = choice.randrange(3)
            kind = choice.random() if number else 0.5  # a post needs a good event
            if kind < 0.005:
                event["trouble"] = "raise"
            elif kind < 0.01:
                event["time"] = 9_999_999_999.0
            yield b"no event\n" if kind > 0.995 else json.dumps(event).encode() + b"\n"

    # ---- one kind of action each

    def post(self) -> list[Action]:
        return [Action("post", {"posts": self.posts()})]

    def switch(self) -> list[Action]:
        step = self.choice.choice(self.configuration["middleware"])
        change: Table = {}
        if self.choice.randrange(2):
            change["mode"] = self.choice.choice(["enabled", "shadow", "disabled"])
        if not change or self.choice.randrange(2):
            params = self.params(step["use"])
            params.pop("by", None)
            wanted = self.choice.randrange(1, len(params) + 1)
            change["params"] = dict(self.choice.sample(sorted(params.items()), wanted))
        posts = self.posts(4) if self.choice.randrange(2) else []
        return [Action("switch", {"name": step["name"], "change": change, "posts": posts})]

    def reset(self) -> list[Action]:
        step = self.choice.choice(self.with_memory())
        return [Action("switch", {"name": step["name"], "change": {"reset": True}, "posts": []})]

    def with_memory(self) -> list[Table]:
        shared = {"adjacent", "steps:EveryOther"}
        return [step for step in self.configuration["middleware"] if step["use"] in shared]

    def again(self) -> list[Action]:
        return [Action("again", {"pick": self.choice.random()})]

    def redrive(self) -> list[Action]:
        return [Action("look", {})]

    def kill_child(self) -> list[Action]:
        kind = self.choice.choice(["workers", "state_host"])
        return [
            Action(
                "kill child",
                {"child": kind, "posts": self.posts(), "after": self.choice.random() * 0.05},
            )
        ]

    def stop(self) -> list[Action]:
        how = self.choice.choice(list(STOPS))
        stuck = not self.choice.randrange(3)
        arguments = {"how": how, "posts": self.posts(), "stuck": stuck}
        return [Action("stop", arguments), *self.next_life()]

    def kill(self) -> list[Action]:
        how = self.choice.choice(["daemon", "group"])
        after = self.choice.random() * self.choice.choice([0.01, 0.1])
        return [
            Action(
                "kill",
                {
                    "how": how,
                    "posts": self.posts(12),
                    "after": after,
                    "stuck": not self.choice.randrange(3),
                },
            ),
            *self.next_life(),
        ]

    def next_life(self) -> list[Action]:
        if self.choice.random() < 0.7:
            self.reconfigure()
        actions = []
        for _ in range(self.choice.choice([0, 0, 0, 1, 3])):
            how = self.choice.choice(["kill", "group", *STOPS])
            arguments = {"how": how, "after": self.choice.random() * 1.0}
            arguments["configuration"] = copy.deepcopy(self.configuration)
            actions.append(Action("broken start", arguments))
        return [*actions, Action("start", {"configuration": copy.deepcopy(self.configuration)})]

    def reconfigure(self) -> None:
        """Change the configuration in one way or two."""
        changes = [
            *(self.add, self.remove, self.rename, self.reorder, self.change_params),
            *(self.change_mode, self.tables, self.sinks, self.change_path),
        ]
        for change in self.choice.sample(changes, self.choice.randrange(1, 3)):
            change()

    def any_step(self) -> Table:
        """Return a step of the chain; a table of nobody where there is none."""
        steps = self.configuration["middleware"]
        return self.choice.choice(steps) if steps else self.step()

    def add(self) -> None:
        steps = self.configuration["middleware"]
        steps.insert(self.choice.randrange(len(steps) + 1), self.step())

    def remove(self) -> None:
        steps = self.configuration["middleware"]
        del steps[: self.choice.randrange(2)]

    def rename(self) -> None:
        self.any_step()["name"] = next(self.names)

    def reorder(self) -> None:
        self.choice.shuffle(self.configuration["middleware"])

    def change_params(self) -> None:
        step = self.any_step()
        step["params"] = self.params(step["use"])

    def change_mode(self) -> None:
        self.any_step()["mode"] = self.choice.choice(["enabled", "shadow", "disabled"])

    def change_path(self) -> None:
        self.configuration["sink"][0]["params"] = {"path": next(self.paths)}

    def sinks(self) -> None:
        sinks = self.configuration["sink"]
        if len(sinks) > 2:
            sinks.pop()
        else:
            path = next(self.paths)
            sinks.append({"name": path[:-7], "use": "ndjson", "params": {"path": path}})


STOPS: Final[dict[str, tuple[list[signal.Signals], float, bool]]] = {
    DRAINED: ([TERM], 0, False),
    "INT": ([signal.SIGINT], 0, False),
    "TERM to the group": ([TERM], 0, True),
    "HUP": ([signal.SIGHUP], 0, False),
    "TERM TERM": ([TERM] * 2, 0, False),
    "TERM 1 ms TERM": ([TERM] * 2, 0.001, False),
    "TERM 5 ms TERM": ([TERM] * 2, 0.005, False),
    "TERM INT to the group": ([TERM, signal.SIGINT], 0, True),
    "burst": ([TERM] * 5, 0, False),
    "two senders": ([], 0, False),
}
GENTLE: Final = {DRAINED, "INT"}
"""After these everything accepted is emitted."""


# ---- doing it


class File(NamedTuple):
    """A file of a sink: from which life on it is written, and up to which."""

    sink: str
    path: str
    first: int
    exact_begin: bool
    """Nothing was in flight when it began."""
    last: int | None
    exact_end: bool


class Performance:
    """Carries a plan out in a directory."""

    def __init__(self, directory: Path) -> None:
        self.daemon = Daemon(directory)
        self.directory = directory
        self.model = Model()
        self.receipts: dict[str, tuple[str, str]] = {}
        self.bodies: dict[str, bytes] = {}
        self.open_posts: dict[str, int] = {}
        """The keys of posts that were not answered, with the life they were sent in."""
        self.files: list[File] = []
        self.drained = True
        self.remarks: list[str] = []
        """What was wrong and does not keep the plan from going on."""

    @property
    def life(self) -> int:
        return len(self.model.chains) - 1

    def do(self, action: Action) -> None:
        getattr(self, f"do_{action.kind.replace(' ', '_')}")(**action.arguments)

    def do_start(self, configuration: Table) -> None:
        self.daemon.start(configuration)
        self.daemon.wait_until_ready()
        self.enter(configuration)
        for key, life in list(self.open_posts.items()):
            self.confirm(key, life)

    def enter(self, configuration: Table) -> None:
        """Note the configuration of a life that has begun."""
        self.model.chains.append(copy.deepcopy(configuration["middleware"]))
        sinks = configuration["sink"]
        paths = {sink["params"]["path"]: sink["name"] for sink in sinks if sink["use"] == "ndjson"}
        self.files = [
            file._replace(last=self.life, exact_end=self.drained)
            if file.last is None and file.path not in paths
            else file
            for file in self.files
        ]
        known = {file.path for file in self.files}
        self.files += [
            File(name, path, self.life, self.drained, None, exact_end=True)
            for path, name in paths.items()
            if path not in known
        ]

    def do_broken_start(self, how: str, after: float, configuration: Table) -> None:
        """Start, and end it at any moment on its way; it may get ready, or not."""
        self.daemon.start(configuration)
        self.daemon.wait(after)
        if self.daemon.running.poll() is not None:
            raise AssertionError(f"the start ended by itself: {self.daemon.log[-3000:]}")
        if how == "kill":
            self.daemon.kill()
        elif how == "group":
            self.daemon.kill_group()
        else:
            self.end_by(how)
        ready = "ready on http" in self.daemon.log
        was = self.drained
        self.drained = how in GENTLE and ready
        if "ready on http" in self.daemon.log:
            self.drained, drained = was, self.drained
            self.enter(configuration)
            self.drained = drained
        else:
            self.drained = was

    def do_post(self, posts: list[tuple[str, bytes]]) -> None:
        for key, body in posts:
            self.bodies[key] = body
            self.confirm(key, None)

    def confirm(self, key: str, life: int | None) -> None:
        """Post until it is confirmed; ``life`` is the one in which it was sent before."""
        end = time.monotonic() + 30
        while True:
            answer = self.daemon.post(self.bodies[key], key)
            if answer.status in COME_AGAIN:
                assert time.monotonic() < end, f"not confirmed within 30 s: {answer}"
                time.sleep(0.02)
                continue
            self.confirmed(key, answer, life)
            return

    def confirmed(self, key: str, answer: Answer, life: int | None) -> None:
        assert answer.status == HTTPStatus.ACCEPTED, (key, answer)
        told = answer.document
        replayed = answer.headers.get("Idempotency-Replayed") == "true"
        assert not replayed or life is not None, f"{key} is told to be known: {told}"
        lines = self.bodies[key].splitlines(keepends=True)
        first, last = parse_offset(told["first"]), parse_offset(told["last"])
        assert (last[0], last[1] + 1) == (first[0], first[1] + len(lines)), (key, told, len(lines))
        accepted_in = life if replayed and life is not None else self.life
        self.model.posts.append(Post(accepted_in, first, lines))
        self.receipts[key] = (told["first"], told["last"])
        self.open_posts.pop(key, None)

    def do_again(self, pick: float) -> None:
        """Send a confirmed post again, as it was and with other events."""
        if not self.receipts:
            return
        key = list(self.receipts)[int(pick * len(self.receipts))]
        answer = self.daemon.post(self.bodies[key], key)
        assert answer.status == HTTPStatus.ACCEPTED, (key, answer)
        assert answer.headers.get("Idempotency-Replayed") == "true", (key, answer)
        assert (answer.document["first"], answer.document["last"]) == self.receipts[key], key
        other = self.daemon.post(b'{"cid":1,"time":0}\n', key)
        assert other.status == HTTPStatus.UNPROCESSABLE_ENTITY, (key, other)

    def do_look(self) -> None:
        stats = self.daemon.stats()
        assert balance(stats) == stats["accepted"], stats

    def do_switch(self, name: str, change: Table, posts: list[tuple[str, bytes]]) -> None:
        with Background(self, posts):
            if "reset" in change:
                told = self.daemon.operate("POST", f"{name}/reset", {"reason": "a test"})
            else:
                told = self.daemon.operate("PATCH", name, {**change, "reason": "a test"})
        switch = Switch(self.life, parse_offset(told["offset"]), name, change)
        self.model.switches.append(switch)

    def do_kill_child(self, child: str, posts: list[tuple[str, bytes]], after: float) -> None:
        with Background(self, posts):
            time.sleep(after)
            for process in self.daemon.children(child)[:1]:
                try:
                    process.kill()
                except psutil.NoSuchProcess:
                    continue

    def do_kill(
        self, how: str, posts: list[tuple[str, bytes]], after: float, *, stuck: bool
    ) -> None:
        with self.stuck_sink(stuck=stuck), Background(self, posts, cut=True):
            time.sleep(after)
            if how == "daemon":
                self.daemon.kill()
            else:
                self.daemon.kill_group()
        self.drained = False

    def do_stop(self, how: str, posts: list[tuple[str, bytes]], *, stuck: bool) -> None:
        with self.stuck_sink(stuck=stuck):
            if stuck:  # so that something is in flight
                self.do_post(posts)
                self.end_by(how, again=True)
            else:
                with Background(self, posts, cut=True):
                    self.end_by(how)
        self.drained = how in GENTLE and not stuck

    @contextmanager
    def stuck_sink(self, *, stuck: bool) -> Iterator[None]:
        """Let the second sink take nothing meanwhile."""
        file = self.directory / STUCK
        if stuck:
            file.touch()
        yield
        file.unlink(missing_ok=True)

    def end_by(self, how: str, *, again: bool = False) -> None:
        """Stop it; it must be over within the bound, with ``again`` after two more signals."""
        began = time.monotonic()
        if how == "two senders":
            self.daemon.send_from_two(TERM)
        else:
            signals, pause, group = STOPS[how]
            self.daemon.send(signals, pause, to_group=group)
        if again and self.daemon.wait(0.5) is None:
            self.daemon.send([TERM] * 2, 0.3, to_group=False)
        code = self.daemon.wait()
        log = self.daemon.log
        if code is None:
            self.remarks.append(f"{how} was not heard: {log[-2000:]}")
            self.daemon.kill()
            return
        if time.monotonic() - began > SLOW:
            self.remarks.append(f"{how} took {time.monotonic() - began:.1f} s: {log[-2000:]}")
        fine = {0, 143, 130} | ({129, -signal.SIGHUP} if how == "HUP" else set())
        if not log:  # before any of its own code ran
            fine |= {-signal.SIGTERM, -signal.SIGINT}
        if code not in fine:
            self.remarks.append(f"{how}: it ended with {code}: {log[-2000:]}")
        elif "Traceback" in log.replace("no such point", ""):
            self.remarks.append(f"{how}: a traceback: {log[-2000:]}")

    def do_end(self) -> None:
        """Compare all that can be seen while it runs, stop, compare the files."""
        expected = self.model.outcome()
        stats = self.daemon.settle()
        seen = {
            "accepted": stats["accepted"],
            "emitted": stats["emitted"],
            "dead": stats["dead"],
            "dropped": positive(stats["dropped"]),
        }
        wanted = {
            "accepted": expected.accepted,
            "emitted": len(expected.emitted),
            "dead": len(expected.dead),
            "dropped": positive(expected.dropped),
        }
        listed = self.daemon.command(
            "dead", "list", "--json", "--limit", "1000", "--url", self.daemon.url
        )
        assert listed.returncode == 0, listed
        dead = [each["id"] for each in json.loads(listed.stdout)["dead_letters"]]
        for key in list(self.receipts)[:: max(1, len(self.receipts) // 20)]:
            answer = self.daemon.post(self.bodies[key], key)
            assert answer.status == HTTPStatus.ACCEPTED, answer
            assert (answer.document["first"], answer.document["last"]) == self.receipts[key], answer
        self.end_by(DRAINED)
        self.compare_files(expected)
        assert dead[::-1] == expected.dead, f"dead letters {dead[::-1]}, expected {expected.dead}"
        assert seen == wanted, f"stats {seen}, expected {wanted}"
        shadow = positive(expected.shadow)
        assert positive(stats["shadow"]) == shadow, (stats["shadow"], shadow)
        left = self.daemon.end()
        assert not left, f"left behind: {left}"
        assert not self.remarks, "\n".join(self.remarks)

    def compare_files(self, expected: Outcome) -> None:
        """Each file is a slice of what was emitted; those of one sink hold everything once."""
        whole = expected.emitted
        begins = [*expected.begins, len(whole)]
        reached = 0  # so many are in the files of the sink that was always there
        for file in self.files:
            kept = (self.directory / file.path).read_bytes().splitlines(keepends=True)
            begin = begins[file.first]
            end = begins[file.last] if file.last is not None else len(whole)
            where = f"{file.path}, written from life {file.first} up to {file.last}"
            if not file.exact_end:
                at = whole.index(kept[-1]) + 1 if kept and kept[-1] in whole else begin
                assert at <= end, f"{where}: ends at {at} of {end}"
                end = at
            if not file.exact_begin:
                at = whole.index(kept[0]) if kept and kept[0] in whole else begin
                assert at <= begin, f"{where}: begins at {at} of {begin}"
                begin = at
            differs = difference(kept, whole[begin:end])
            assert kept == whole[begin:end], (
                f"{where}: {len(kept)} lines, expected {end - begin}; {differs}"
            )
            if file.sink == "kept" and kept:
                assert begin == reached, (
                    f"{where}: begins at {begin}; {reached} were written before"
                )
                reached = end
        assert reached == len(whole), f"the files of one sink end at {reached} of {len(whole)}"


class Background:
    """Posts from a second thread meanwhile; leaving waits until it is done."""

    def __init__(
        self, performance: Performance, posts: list[tuple[str, bytes]], *, cut: bool = False
    ) -> None:
        """With ``cut`` the connection may be cut: what is not confirmed is left for later."""
        self.performance, self.posts, self.cut = performance, posts, cut
        self.problem: BaseException | None = None
        self.thread = Thread(target=self.run, daemon=True)

    def __enter__(self) -> None:
        for key, body in self.posts:
            self.performance.bodies[key] = body
        self.thread.start()

    def __exit__(self, kind: type[BaseException] | None, *_: object) -> None:
        self.thread.join(60)
        assert not self.thread.is_alive(), "a producer waits for ever"
        if kind is None and self.problem is not None:
            raise self.problem

    def run(self) -> None:
        try:
            for key, _ in self.posts:
                self.performance.open_posts[key] = self.performance.life
                if not self.sent(key):
                    return
        except BaseException as problem:  # noqa: BLE001 - raised where the block ends
            self.problem = problem

    def sent(self, key: str) -> bool:
        """Post; False when the daemon is going, or gone."""
        performance = self.performance
        try:
            answer = performance.daemon.post(performance.bodies[key], key)
        except (OSError, HTTPException):
            if not self.cut:
                raise
            return False
        if answer.status in COME_AGAIN:
            assert self.cut or answer.status != HTTPStatus.SERVICE_UNAVAILABLE, answer
            del performance.open_posts[key]
            performance.bodies.pop(key)
            return False
        performance.confirmed(key, answer, None)
        return True


def balance(stats: Any) -> int:
    dropped = sum(stats["dropped"].values())
    return int(stats["emitted"] + dropped + stats["dead"] + stats["in_flight"])


def positive(counts: Table) -> Table:
    return {name: count for name, count in counts.items() if count}


def difference(kept: list[bytes], expected: list[bytes]) -> str:
    """Say where two outputs part."""
    for number, (one, other) in enumerate(zip(kept, expected, strict=False)):
        if one != other:
            return f"line {number} is {one!r}, expected {other!r}"
    longer = kept[len(expected) :] or expected[len(kept) :]
    return f"{'more' if len(kept) > len(expected) else 'missing'} {len(longer)}: {longer[:2]}"


def described(actions: list[Action]) -> str:
    """Return the plan, a line an action, for the message of a failure."""
    lines = []
    for number, action in enumerate(actions):
        shown = {k: v for k, v in action.arguments.items() if k != "posts"}
        posts = action.arguments.get("posts")
        lines.append(f"{number}: {action.kind} {shown}" + (f" {len(posts)} posts" if posts else ""))
    return "\n".join(lines)


def perform(directory: Path, seed: int, length: int = 12) -> None:
    """Carry out the plan of a seed; raises AssertionError with all that is needed to repeat it."""
    actions = plan(seed, length)
    performance = Performance(directory)
    number = 0
    try:
        for number, action in enumerate(actions):  # noqa: B007 - told in the message
            performance.do(action)
    except Exception as problem:
        message = (
            f"seed {seed}, length {length}, action {number}: {type(problem).__name__}: {problem}\n"
            f"{described(actions[: number + 1])}\nlogs in {directory}"
        )
        raise AssertionError(message) from problem
    finally:
        performance.daemon.end()


def main(first: int, count: int, length: int) -> None:
    """Perform many plans; keeps the folders of those that fail."""
    failed = []
    for seed in range(first, first + count):
        directory = Path(tempfile.mkdtemp(prefix=f"penstock-tests-{seed}-"))
        try:
            perform(directory, seed, length)
        except AssertionError as problem:
            failed.append(seed)
            sys.stdout.write(f"{problem}\n\n")
        sys.stdout.write(f"seed {seed} done; failed so far: {failed}\n")
        sys.stdout.flush()


if __name__ == "__main__":
    numbers = [int(each) for each in sys.argv[1:]]
    main(*(numbers + [1, 12][len(numbers) - 1 :])[:3])
