"""What the documentation promises, as one loop over everything that was confirmed.

It knows the confirmed posts by their offsets, the configurations of the daemon's lives, and the
switches with the offsets they were answered. Nothing in it comes from the daemon's own code.
"""

from __future__ import annotations

import copy
import json
from collections import Counter
from dataclasses import dataclass, field
from typing import Any, Final, NamedTuple

Offset = tuple[int, int]
Table = dict[str, Any]

FAR: Final = 4_000_000_000
"""An event later than this (seconds) lies more than a day ahead of any test."""


def parse_offset(text: str) -> Offset:
    block, _, row = text.partition(".")
    return int(block), int(row)


class FailedEventError(Exception):
    """A step failed at the event."""


class Adjacent:
    """The suppressor of the specification, decided the slow way."""

    def __init__(self) -> None:
        self.times: dict[str, dict[int, float]] = {}

    def keeps(self, event: Table, params: Table) -> bool:
        window, radius = params.get("window", 300.0), params.get("radius", 1)
        value = json.dumps([event.get(name) for name in params.get("by", [])], sort_keys=True)
        times = self.times.setdefault(value, {})
        cid, time = event["cid"], event["time"]
        near = [times[c] for c in range(cid - radius, cid + radius + 1) if c in times]
        keep = True
        if near:
            age = time - max(near)
            late = age <= -window
            keep = params.get("late", "keep") == "keep" if late else age >= window
        if keep or params.get("refresh", "seen") == "seen":
            times[cid] = max(time, times.get(cid, time))
        return bool(keep)


class Blocklist:
    def keeps(self, event: Table, params: Table) -> bool:
        return int(event["cid"]) not in set(params["cids"])


class Tagger:
    """The harness's own local step: it changes every event, and fails at some."""

    def changes(self, event: Table, params: Table) -> Table:
        if event.get("trouble") == "raise":
            raise FailedEventError
        return {**event, "zone": event["cid"] % params["zones"]}


class EveryOther:
    """The harness's own shared step: it counts the events of each point, and drops some."""

    def __init__(self) -> None:
        self.seen: Counter[int] = Counter()

    def keeps(self, event: Table, params: Table) -> bool:
        self.seen[event["cid"]] += 1
        return bool(self.seen[event["cid"]] % params["of"])


KINDS: Final[dict[str, Any]] = {
    "adjacent": Adjacent,
    "blocklist": Blocklist,
    "steps:Tagger": Tagger,
    "steps:EveryOther": EveryOther,
}


@dataclass
class Step:
    """A step as it is now: its table in the file, what operators switched, what it remembers."""

    table: Table
    mode: str
    params: Table
    memory: Any

    @classmethod
    def of(cls, table: Table) -> Step:
        mode, params = table.get("mode", "enabled"), dict(table.get("params", {}))
        return cls(copy.deepcopy(table), mode, params, KINDS[table["use"]]())

    def set(self, mode: str, params: Table) -> None:
        if params.get("by") != self.params.get("by"):  # other memories: nothing fits any more
            self.memory = KINDS[self.table["use"]]()
        self.mode, self.params = mode, params


class Post(NamedTuple):
    life: int
    first: Offset
    lines: list[bytes]


class Switch(NamedTuple):
    life: int
    offset: Offset
    name: str
    change: Table


@dataclass
class Outcome:
    """What must have become of the events."""

    accepted: int = 0
    dropped: Counter[str] = field(default_factory=Counter)
    shadow: Counter[str] = field(default_factory=Counter)
    dead: list[str] = field(default_factory=list)
    emitted: list[bytes] = field(default_factory=list)
    begins: list[int] = field(default_factory=list)
    """How many events had been emitted when each life began."""


class Model:
    """All that was confirmed."""

    def __init__(self) -> None:
        self.posts: list[Post] = []
        self.switches: list[Switch] = []
        self.chains: list[list[Table]] = []
        """The tables of the steps in each life."""

    def outcome(self) -> Outcome:
        """Take everything in the order of the offsets."""
        result = Outcome()
        steps: list[Step] = []
        for life, tables in enumerate(self.chains):
            steps = start(steps, tables)
            result.begins.append(len(result.emitted))
            switches = sorted((s for s in self.switches if s.life == life), key=lambda s: s.offset)
            for post in sorted(p for p in self.posts if p.life == life):
                while switches and switches[0].offset <= post.first:
                    apply(steps, switches.pop(0))
                for row, line in enumerate(post.lines, post.first[1]):
                    take(result, steps, (post.first[0], row), line)
            for switch in switches:
                apply(steps, switch)
        return result


def start(before: list[Step], tables: list[Table]) -> list[Step]:
    """Return the steps of a new life: those of the same name and use keep their memory."""
    known = {(step.table["name"], step.table["use"]): step for step in before}
    steps = []
    for table in tables:
        step = known.get((table["name"], table["use"])) or Step.of(table)
        if step.table != table:  # changed in the file: it wins over what was switched
            step.set(table.get("mode", "enabled"), dict(table.get("params", {})))
            step.table = copy.deepcopy(table)
        steps.append(step)
    return steps


def apply(steps: list[Step], switch: Switch) -> None:
    (step,) = [each for each in steps if each.table["name"] == switch.name]
    if switch.change.get("reset"):
        step.memory = KINDS[step.table["use"]]()
    else:
        params = {**step.params, **switch.change.get("params", {})}
        step.set(switch.change.get("mode", step.mode), params)


def take(result: Outcome, steps: list[Step], offset: Offset, line: bytes) -> None:
    """Let one line pass."""
    result.accepted += 1
    event = read(line)
    if event is None:
        result.dead.append(f"{offset[0]}.{offset[1]}")
        return
    changed = False
    for step in steps:
        if step.mode == "disabled":
            continue
        enabled = step.mode == "enabled"
        try:
            answer = ask(step, event)
        except FailedEventError:
            if enabled:
                result.dead.append(f"{offset[0]}.{offset[1]}")
                return
            continue
        if answer is None:
            (result.dropped if enabled else result.shadow)[step.table["name"]] += 1
            if enabled:
                return
        elif enabled and answer is not event:
            event, changed = answer, True
    written = json.dumps(event, separators=(",", ":")).encode() + b"\n" if changed else line
    result.emitted.append(written)


def ask(step: Step, event: Table) -> Table | None:
    """Return what a step makes of an event; raises FailedEventError."""
    if isinstance(step.memory, Tagger):
        return step.memory.changes(event, step.params)
    return event if step.memory.keeps(event, step.params) else None


def read(line: bytes) -> Table | None:
    """Return the event of a line; None if it is bad."""
    try:
        event = json.loads(line)
        good = isinstance(event, dict) and event["time"] < FAR and isinstance(event["cid"], int)
    except (ValueError, KeyError):
        return None
    return event if good else None
