"""Classes as users write them when they err: what becomes of a daemon that is given one.

Whatever the class does, the daemon starts or refuses with a message that names the part; no
confirmed event is lost; TERM is heard; and after ``kill -9`` it starts again, or names a way out
that works. ``python -m tests.adversaries.mistaken_classes`` prints the table,
with the name of a case as its argument what happened with this one.
"""

from __future__ import annotations

import json
import random
import re
import signal
import sys
import tempfile
import time
from collections.abc import Iterator
from http.client import HTTPException
from pathlib import Path
from typing import Final, NamedTuple

from tests.adversaries.harness import Daemon, Table, write_configuration

NAME: Final = "culprit"
"""The name of the part under test in the configuration."""

HEARD: Final = 10.0
"""Seconds within which a stop is heard."""

GOES_ON: Final = 25.0
"""Seconds within which other events flow, or a start says what is wrong."""

FAULTS: Final = {
    "raises": 'raise RuntimeError("broken on purpose")',
    "hangs": "time.sleep(3600)",
    "exits": "sys.exit(3)",
    "dies": "os._exit(3)",
}
HEADER: Final = """
import os
import sys
import time
from pathlib import Path

import numpy as np
from pydantic import BaseModel

from middleware import Middleware, SharedMiddleware


def armed():
    return Path("armed").exists()

"""
LOCAL: Final = (
    HEADER
    + """
class Culprit(Middleware):
    class Params(BaseModel):
        x: int = 1

    def handle(self, event):
        return event
"""
)
SHARED: Final = (
    HEADER
    + """
class Culprit(SharedMiddleware):
    class Params(BaseModel):
        x: int = 1

    def open(self):
        self.seen = {}

    def handle(self, event):
        self.seen[str(event["cid"])] = 1
        return event

    def snapshot(self):
        return self.seen

    def restore(self, state):
        self.seen = state
"""
)
SINK: Final = (
    HEADER
    + """
from service.sinks.sink import Sink

class Culprit(Sink):
    class Params(BaseModel):
        x: int = 1

    def write(self, emission):
        pass
"""
)
SOURCE: Final = (
    HEADER
    + """
from service.sources.source import Source

class Culprit(Source):
    class Params(BaseModel):
        x: int = 1

    def start(self):
        pass
"""
)
TEMPLATES: Final = {"local": LOCAL, "shared": SHARED, "sink": SINK, "source": SOURCE}
METHODS: Final[dict[str, list[tuple[str, str]]]] = {
    "local": [
        ("__init__", "self, *a, **k"),
        ("open", "self"),
        ("handle", "self, event"),
        ("handle_batch", "self, batch"),
        ("close", "self"),
    ],
    "shared": [
        ("__init__", "self, *a, **k"),
        ("open", "self"),
        ("handle", "self, event"),
        ("handle_batch", "self, batch"),
        ("snapshot", "self"),
        ("restore", "self, state"),
        ("close", "self"),
    ],
    "sink": [
        ("__init__", "self, *a, **k"),
        ("open", "self, position"),
        ("write", "self, emission"),
        ("position", "self"),
        ("flush", "self"),
        ("close", "self"),
    ],
    "source": [
        ("__init__", "self, *a, **k"),
        ("start", "self"),
        ("stop", "self"),
    ],
}
OWN: Final[dict[str, str]] = {
    "open": "self.seen = {}",
    "snapshot": "return self.seen",
    "restore": "self.seen = state",
    "handle": "return event",
    "handle_batch": "return np.ones(len(batch.cid), bool)",
}
"""What a method of a step does while it is not at fault."""


AT_ONCE: Final = {"handle", "handle_batch", "close", "stop"}
"""These are not asked while nothing has happened: to be at fault later is no other case."""


class Case(NamedTuple):
    name: str
    kind: str
    """local, shared, sink or source."""
    source: str
    """The text of the module."""
    always: bool
    """At fault from the first start on, not only after events were accepted."""


def with_method(kind: str, method: str, arguments: str, fault: str) -> str:
    """Return a module whose class has the fault in one method, when the file ``armed`` is there.

    In ``handle`` it strikes at events that have ``bad``.
    """
    own = OWN.get(method, "pass")
    if kind in {"local", "sink", "source"} and method in {"open", "snapshot", "restore"}:
        own = "pass"
    if kind == "sink" and method == "position":
        own = "return None"
    when = {
        "handle": 'armed() and event.get("bad")',
        "handle_batch": 'armed() and batch["bad"].count(1)',
    }.get(method, "armed()")
    if method == "__init__":
        own = "super().__init__(*a, **k)"
    reads = '    reads = ("cid", "bad")\n' if method == "handle_batch" else ""
    return (
        f"{TEMPLATES[kind]}\n{reads}"
        f"    def {method}({arguments}):\n"
        f"        if {when}:\n            {fault}\n"
        f"        {own}\n"
    )


def changed(kind: str, old: str, new: str) -> str:
    assert old in TEMPLATES[kind], old
    return TEMPLATES[kind].replace(old, new)


def cases() -> Iterator[Case]:
    for kind, methods in METHODS.items():
        for method, arguments in methods:
            for what, fault in FAULTS.items():
                text = with_method(kind, method, arguments, fault)
                yield Case(f"{kind}-{method}-{what}", kind, text, always=True)
                if method not in AT_ONCE:
                    yield Case(f"{kind}-{method}-{what}-later", kind, text, always=False)
    for name, kind, text in (*modules(), *steps(), *memories(), *sinks(), *sources()):
        yield Case(f"{kind}-{name}", kind, text, always=True)


def modules() -> Iterator[tuple[str, str, str]]:
    """Yield what users get wrong around their class: name, kind, module."""
    for kind, text in TEMPLATES.items():
        yield "import-raises", kind, text + '\nraise RuntimeError("broken on purpose")\n'
        yield "import-missing", kind, "import no_such_package\n" + text
        yield "import-syntax", kind, text + "\ndef broken(:\n"
        yield "import-exits", kind, text + "\nsys.exit(3)\n"
        yield "import-prints", kind, text + '\nprint("hello")\n'
        yield "no-such-class", kind, text.replace("class Culprit", "class Other")
        yield "not-a-class", kind, text.replace("class Culprit", "class Other") + "\nCulprit = 3\n"
        yield "wrong-base", kind, re.sub(r"class Culprit\(.*\)", "class Culprit", text)
        yield "params-no-model", kind, text.replace("Params(BaseModel)", "Params")


def steps() -> Iterator[tuple[str, str, str]]:
    """Yield middleware that answer nonsense, or are not what they should be."""
    returned = {
        "text": '"kept"',
        "number": "5",
        "true": "True",
        "list": "[event]",
        "set-inside": '{**event, "x": {1}}',
        "no-cid": "{}",
        "nan-time": '{**event, "time": float("nan")}',
        "huge-cid": '{**event, "cid": 1 << 70}',
        "text-cid": '{**event, "cid": "a"}',
        "newline": '{**event, "x": "a\\nb"}',
        "surrogate": '{**event, "x": "\\ud800"}',
        "deep": '{**event, "x": eval("[" * 50 + "]" * 50)}',
    }
    for kind in ("local", "shared"):
        for name, value in returned.items():
            fault = f'return {value} if event.get("bad") else event'
            old = "return event\n"
            yield f"returns-{name}", kind, changed(kind, old, fault + "\n")
        masks = {
            "none": "None",
            "short": "np.ones(1, bool)",
            "numbers": "np.ones(len(batch.cid)) * 2",
            "list": "[True] * len(batch.cid)",
            "text": '"kept"',
            "events": "batch",
            "two-rows": "np.ones((2, len(batch.cid)), bool)",
        }
        for name, value in masks.items():
            method = f"\n    def handle_batch(self, batch):\n        return {value}\n"
            yield f"mask-{name}", kind, TEMPLATES[kind] + method
        head = "    def handle(self, event):\n"
        yield "no-handle", kind, changed(kind, head, "    def handel(self, event):\n")
        yield "async-handle", kind, changed(kind, head, "    async def handle(self, event):\n")
        yield "handle-takes-nothing", kind, changed(kind, head, "    def handle(self):\n")
        yield "handle-takes-two", kind, changed(kind, head, "    def handle(self, event, more):\n")
        yield "handle-yields", kind, changed(kind, "return event\n", "yield event\n")
        yield "prints", kind, changed(kind, head, head + '        print("hello", flush=True)\n')
        params = "        x: int = 1\n"
        yield "params-required", kind, changed(kind, params, "        x: int\n")
        body = "    class Params(BaseModel):\n"
        for name, reads in {"text": '("severity")', "number": "5", "numbers": "(1,)"}.items():
            yield f"reads-{name}", kind, changed(kind, body, f"    reads = {reads}\n{body}")
        counts = {
            "numpy": '"x", np.int64(2)',
            "float": '"x", 1.5',
            "text": '"x", "1"',
            "number": "3",
            "nan": '"x", float("nan")',
            "huge": '"x", 1 << 70',
        }
        for name, arguments in counts.items():
            call = f"        self.count({arguments})\n"
            yield f"count-{name}", kind, changed(kind, head, head + call)


CYCLE: Final = "\ndef cycle():\n    c = []\n    c.append(c)\n    return c\n\n"


def memories() -> Iterator[tuple[str, str, str]]:
    """Yield shared middleware whose memory cannot be kept."""
    restore = SHARED[SHARED.index("    def restore") :]
    snapshot = SHARED[SHARED.index("    def snapshot") : SHARED.index("    def restore")]
    yield "no-snapshot", "shared", SHARED.replace(snapshot, "")
    yield "no-restore", "shared", SHARED.replace(restore, "")
    yield "neither", "shared", SHARED.replace(snapshot, "").replace(restore, "")
    states = {
        "set": "set(self.seen)",
        "object": "object()",
        "numpy": "np.ones(3)",
        "numpy-inside": '{"a": np.int64(3)}',
        "lambda": "lambda: 1",
        "set-once-filled": '{"a": set(self.seen)} if self.seen else None',
        "huge-number": "{'a': 1 << 70}",
        "cycle": "cycle()",
        "surrogate": '"\\ud800"',
        "tuple-keys": "{(1, 2): 3}",
        "number-keys": "{1: 2}",
        "generator": "(x for x in self.seen)",
    }
    for name, value in states.items():
        text = changed("shared", "return self.seen\n", f"return {value}\n")
        text = text.replace("class Culprit", CYCLE + "class Culprit")
        yield f"snapshot-{name}", "shared", text


def sinks() -> Iterator[tuple[str, str, str]]:
    """Yield sinks that do not do what a sink does."""
    positions = {
        "set": "{1}",
        "object": "object()",
        "numpy": "np.int64(3)",
        "bytes": 'b"abc"',
        "cycle": "cycle()",
    }
    for name, value in positions.items():
        text = SINK.replace("class Culprit", CYCLE + "class Culprit")
        yield (
            f"position-{name}",
            "sink",
            f"{text}\n    def position(self):\n        return {value}\n",
        )
    head = "    def write(self, emission):\n"
    yield "no-write", "sink", changed("sink", head, "    def put(self, emission):\n")
    yield "write-takes-nothing", "sink", changed("sink", head, "    def write(self):\n")
    yield "async-write", "sink", changed("sink", head, "    async def write(self, emission):\n")
    yield "write-prints", "sink", changed("sink", "        pass\n", '        print("hello")\n')
    yield "open-takes-nothing", "sink", SINK + "\n    def open(self):\n        pass\n"
    yield "settled-ahead", "sink", changed("sink", head, f"    settled = 1 << 40\n\n{head}")
    yield "settled-text", "sink", changed("sink", head, f'    settled = "no"\n\n{head}')
    yield "no-super-init", "sink", SINK + "\n    def __init__(self, params):\n        pass\n"


def sources() -> Iterator[tuple[str, str, str]]:
    """Yield sources that do not do what a source does."""
    yield "no-start", "source", changed("source", "def start", "def begin")
    yield "start-takes-two", "source", changed("source", "start(self)", "start(self, queue)")
    yield "init-takes-one", "source", SOURCE + "\n    def __init__(self, params):\n        pass\n"
    puts = {
        "none": "None, b'x'",
        "text": '"text"',
        "number": "3",
        "none-as-name": 'None, b"{}\\n"',
    }
    for name, arguments in puts.items():
        call = f"start(self):\n        self.surroundings.queue.put({arguments})\n"
        yield f"puts-{name}", "source", changed("source", "start(self):\n        pass\n", call)
    endless = "start(self):\n        while True:\n            pass\n"
    yield (
        "start-runs-for-ever",
        "source",
        changed("source", "start(self):\n        pass\n", endless),
    )


# ---- what becomes of it


def configuration(case: Case, *, without: bool = False) -> Table:
    part = {"name": NAME, "use": "mistaken:Culprit"}
    tables: Table = {
        "source": [{"name": "push", "use": "http"}],
        "middleware": [{"name": "block", "use": "blocklist", "params": {"cids": [9]}}],
        "sink": [{"name": "kept", "use": "ndjson", "params": {"path": "kept.ndjson"}}],
        "http": {"listen": "127.0.0.1:0"},
        "workers": {"count": 1, "deadline": 1.0},
        "state": {"checkpoint_interval": 0.2, "reserve": 1},
    }
    table = {"local": "middleware", "shared": "middleware"}.get(case.kind, case.kind)
    if not without:
        tables[table].append(part)
    return tables


class Trial:
    """One case in one directory."""

    def __init__(self, directory: Path, case: Case) -> None:
        self.case = case
        self.directory = directory
        self.daemon = Daemon(directory)
        self.problems: list[str] = []
        self.story: list[str] = []
        self.confirmed: list[bytes] = []
        self.stranded = False
        """No start that anybody would think of worked any more."""
        (directory / "mistaken.py").write_text(case.source)

    def run(self) -> list[str]:
        """Return what is wrong."""
        case = self.case
        write_configuration(self.directory, configuration(case))
        try:
            if case.always:
                (self.directory / "armed").touch()
            self.check()
            if self.started():
                self.use()
                if not case.always:
                    (self.directory / "armed").touch()
                    self.use(bad=True)
                    self.operate()
                    self.daemon.kill()
                    if self.started("after kill -9, at fault"):
                        self.use(bad=True)
                else:
                    self.use(bad=True)
                    self.operate()
                    self.use()
                    self.daemon.kill()
                    self.started("after kill -9")
                self.stop()
            self.start_without()
            self.compare()
        except (AssertionError, OSError, HTTPException, TimeoutError) as problem:
            self.problems.append(f"{type(problem).__name__}: {str(problem)[:600]}")
        finally:
            left = self.daemon.end()
            if left:
                self.problems.append(f"left behind: {left}")
        self.problems = list(dict.fromkeys(self.problems))
        return self.problems

    def check(self) -> None:
        try:
            done = self.daemon.command("check", "--config", "penstock.toml")
        except TimeoutError:
            raise
        except Exception as problem:  # noqa: BLE001 - a hang is one, too
            self.problems.append(f"check: {type(problem).__name__}")
            return
        text = (done.stdout + done.stderr).decode(errors="replace")
        self.story.append(f"check -> {done.returncode}: {text.strip()[-300:]}")
        if "Traceback" in text:
            self.problems.append(f"check: a traceback: {text[-300:]}")
        if done.returncode not in {0, 78}:
            self.problems.append(f"check ends with {done.returncode}: {text[-200:]}")
        if done.returncode and NAME not in text:
            self.problems.append(f"check does not name the part: {text[-200:]}")

    def started(self, when: str = "first start", *options: str) -> bool:
        """Start; where it refuses, try the way out it names."""
        tried: set[str] = set()
        given = list(options)
        for _ in range(4):
            self.daemon.start(None, *given)
            state = self.outcome_of_start()
            log = self.daemon.log
            self.story.append(f"{when} {given} -> {state}: {last_lines(log)}")
            if state == "ready":
                return True
            if state == "waits":  # for a sink or a step, and says so; told to, it ends
                self.daemon.send([signal.SIGTERM], 0, to_group=False)
                if self.daemon.wait(HEARD) is None:
                    self.problems.append(f"{when}: TERM is not heard while it waits")
                    self.daemon.kill()
            elif state == "neither":
                self.problems.append(f"{when}: neither ready nor ended: {last_lines(log)}")
                self.daemon.kill()
            elif "Traceback" in plain(log):
                self.problems.append(f"{when}: a traceback: {last_lines(log)}")
            if NAME not in log:
                self.problems.append(f"{when} {given}: the part is not named: {last_lines(log)}")
            ways = [way for way in ways_out(log) if way not in tried]
            if not ways:
                break
            tried.add(ways[0])
            given = [*options, *ways[0].split()]
        if when != "first start":
            self.problems.append(f"{when}: no way out that works is named: {last_lines(log)}")
        return False

    def outcome_of_start(self) -> str:
        """Return ready (still so after a moment), waits (for what it names), ended, or neither."""
        end = time.monotonic() + GOES_ON
        while time.monotonic() < end:
            if self.daemon.running.poll() is not None:
                return "ended"
            if "ready on http" in self.daemon.log:
                self.daemon.wait_until_ready()
                if self.daemon.wait(0.3) is None:
                    return "ready"
                return "ended"
            if self.case.kind == "sink" and "the stream waits" in last_lines(self.daemon.log):
                return "waits"
            if "s have passed while" in self.daemon.log:
                return "waits"
            time.sleep(0.02)
        return "neither"

    def use(self, *, bad: bool = False) -> None:
        """Post, and see the events come out; a daemon that ended is started as it says."""
        if self.daemon.running.poll() is not None and not self.ended_in_use():
            return
        first = len(self.confirmed)
        mark = b',"bad":1' if bad else b""
        lines = [b'{"cid":%d,"time":%d,"n":%d}\n' % (n % 5, n, n) for n in range(first, first + 4)]
        lines[1] = lines[1].replace(b"}", mark + b"}")
        for _ in range(2):
            try:
                answer = self.daemon.post(b"".join(lines), f"post-{first}")
                assert answer.status == 202, f"a post is answered {answer}"
                if not set(lines) <= set(self.confirmed):
                    self.confirmed += lines
                self.wait_until_emitted()
            except (OSError, HTTPException):
                if not self.ended_in_use():
                    return
            else:
                return
        self.problems.append("it ended in use again and again")

    def wait_until_emitted(self) -> None:
        """Wait until nothing is in flight, or the stats say that the sink is waited for."""
        end = time.monotonic() + GOES_ON
        while self.daemon.stats()["in_flight"] and not self.sink_waits():
            assert time.monotonic() < end, f"events are stuck: {self.daemon.stats()}"
            time.sleep(0.05)

    def sink_waits(self) -> bool:
        """Say whether the stream waits for the sink, and says so: then nothing is wrong."""
        return NAME in self.daemon.stats().get("sinks", {})

    def ended_in_use(self) -> bool:
        """Judge a daemon that ended by itself, and start it again."""
        if self.daemon.wait(GOES_ON) is None:
            raise AssertionError("it runs and does not answer")
        log = self.daemon.log
        code = self.daemon.running.poll()
        self.story.append(f"ended in use with {code}: {last_lines(log)}")
        if self.case.kind in {"local", "shared"}:
            self.problems.append(f"a step ended the daemon: {last_lines(log)}")
        if NAME not in last_lines(log):
            self.problems.append(f"ended, and the part is not named: {last_lines(log)}")
        if "Traceback" in plain(log):
            self.problems.append(f"ended with a traceback: {last_lines(log)}")
        ways = ways_out(log)
        if self.started("after it ended"):
            return True
        return bool(ways) and self.started("after it ended", *ways[0].split())

    def operate(self) -> None:
        """Switch and reset, as operators do when something seems wrong."""
        if self.case.kind not in {"local", "shared"} or self.daemon.running.poll() is not None:
            return
        if self.daemon.ask("GET", f"/api/v1/middleware/{NAME}").status != 200:
            return  # it was left out, as the refusal said
        json_type = {"Content-Type": "application/json"}
        for method, path, document in [
            ("PATCH", NAME, {"params": {"x": 2}}),
            ("POST", f"{NAME}/reset", {"reason": "try"}),
            ("PATCH", NAME, {"mode": "shadow"}),
            ("PATCH", "block", {"mode": "disabled"}),
            ("PATCH", "block", {"mode": "enabled"}),
            ("PATCH", NAME, {"mode": "disabled"}),
            ("PATCH", NAME, {"mode": "enabled"}),
        ]:
            body = json.dumps(document).encode()
            began = time.monotonic()
            try:
                answer = self.daemon.ask(
                    method, f"/api/v1/middleware/{path}", body, json_type, limit=20
                )
            except TimeoutError:
                self.problems.append(f"{method} {path} {document}: no answer in 20 s")
                continue
            except (OSError, HTTPException) as problem:
                self.problems.append(f"{method} {path} {document}: {problem!r}")
                if not self.ended_in_use():
                    return
                continue
            self.story.append(f"{method} {path} {document} -> {answer.status} {answer.document}")
            if answer.status not in {200, 400, 409, 422} and time.monotonic() - began < 20:
                self.problems.append(f"{method} {path} {document}: {answer}"[:400])
        host = self.daemon.stats()["state_host"]
        if host and host["restarts"] > 30:
            self.problems.append(f"{host['restarts']} restarts of the state host")

    def stop(self) -> None:
        """TERM is heard within its bound; a second one ends a stream that waits for a sink."""
        if self.daemon.running.poll() is not None:
            return
        waits = bool(self.daemon.stats().get("sinks"))
        began = time.monotonic()
        self.daemon.send([signal.SIGTERM], 0, to_group=False)
        code = self.daemon.wait(HEARD)
        if code is None:
            if not waits:
                self.problems.append(f"TERM is not done in 10 s: {last_lines(self.daemon.log)}")
            self.daemon.send([signal.SIGTERM], 0, to_group=False)
            code = self.daemon.wait(HEARD)
            if code is None:
                self.problems.append("two TERMs are not heard in 20 s")
                self.daemon.kill()
        took = time.monotonic() - began
        self.story.append(f"TERM -> {code} in {took:.1f} s: {last_lines(self.daemon.log)}")
        if code not in {None, 0} and self.case.kind in {"local", "shared"}:
            self.problems.append(f"the stop ends with {code}: {last_lines(self.daemon.log)}")
        if len(self.daemon.log.splitlines()) > 400:
            self.problems.append(f"{len(self.daemon.log.splitlines())} lines of log")

    def start_without(self) -> None:
        """Mend it as anybody would: take the table out. Everything confirmed then comes out."""
        write_configuration(self.directory, configuration(self.case, without=True))
        if self.daemon.running.poll() is None:
            self.daemon.kill()
        self.daemon.start()
        state = self.outcome_of_start()
        if state != "ready":
            log = self.daemon.log
            self.story.append(f"without its table: {state}: {last_lines(log)}")
            for way in ways_out(log):
                if self.daemon.running.poll() is None:
                    self.daemon.kill()
                self.daemon.start(None, *way.split())
                state = self.outcome_of_start()
                self.story.append(f"{way} -> {state}: {last_lines(self.daemon.log)}")
                if state == "ready":
                    break
            else:
                self.problems.append(f"without its table: {state}: {last_lines(log)}")
        self.stranded = state != "ready"
        assert not self.stranded, "no start works any more"
        try:
            self.daemon.settle()
        except AssertionError:
            self.problems.append(
                f"without its table events are stuck: {last_lines(self.daemon.log)}"
            )

    def compare(self) -> None:
        """Everything confirmed is in the file, or a dead letter."""
        kept = (self.directory / "kept.ndjson").read_bytes().splitlines()
        numbers = {json.loads(line)["n"] for line in kept}
        stats = self.daemon.stats()
        if len(numbers) != len(kept):
            self.problems.append(f"{len(kept) - len(numbers)} lines are there twice")
        if len(numbers) + stats["dead"] + sum(stats["dropped"].values()) != len(self.confirmed):
            self.problems.append(
                f"{len(self.confirmed)} confirmed, {len(numbers)} kept, {stats['dead']} dead, "
                f"dropped {stats['dropped']}, accepted {stats['accepted']}"
            )


def plain(log: str) -> str:
    """Return what the daemon itself says: not the tracebacks that a line of JSON quotes."""
    return "\n".join(line for line in log.splitlines() if not line.startswith("{"))


def last_lines(log: str) -> str:
    """Return the end of a log, without the JSON around it."""
    told = []
    for line in log.strip().splitlines()[-3:]:
        try:
            event = json.loads(line)
            told.append(f"{event['event']} {str(event.get('exception', '')).strip()[-80:]}".strip())
        except ValueError:
            told.append(line.strip())
    return " | ".join(each for each in told if not each.startswith("ready on"))[-450:]


def ways_out(log: str) -> list[str]:
    """Return the options that the last lines of a log name as ways out."""
    found = re.findall(r"--(?:without|forget)[ =][a-z][a-z0-9_-]*", log[-3000:])
    return list(dict.fromkeys(each.replace("=", " ") for each in found))


def run(directory: Path, case: Case) -> Trial:
    trial = Trial(directory, case)
    trial.run()
    return trial


def main(wanted: str, every: int) -> None:
    """Run one case of ``every`` whose name matches; print what is wrong with each."""
    chosen = [case for case in cases() if re.search(wanted, case.name)]
    exact = [case for case in chosen if case.name == wanted]
    random.Random(every).shuffle(chosen)
    chosen = chosen[::every]
    failed = stranded = 0
    for case in exact or chosen:
        with tempfile.TemporaryDirectory(prefix="penstock-tests-") as folder:
            trial = run(Path(folder), case)
        failed += bool(trial.problems)
        stranded += trial.stranded
        sys.stdout.write(f"{case.name}: {'FAILS' if trial.problems else 'well'}\n")
        for problem in trial.problems:
            sys.stdout.write(f"    - {problem}\n")
        if exact:
            sys.stdout.write("\n".join(f"    . {line}" for line in trial.story) + "\n")
        sys.stdout.flush()
    sys.stdout.write(f"{failed} of {len(exact or chosen)} fail, {stranded} start no more\n")


if __name__ == "__main__":
    main("".join(sys.argv[1:2]), int([*sys.argv[2:3], "1"][0]))
