"""What a start with another configuration makes of the chain, and what that means, in sentences.

Nothing here reads or writes anything: two configurations and the chain as it was switched go in, a
chain and what to say about it come out.
"""

from __future__ import annotations

import json
import shlex
from collections.abc import Collection, Iterator, Mapping
from dataclasses import asdict, replace
from typing import Any, Final

import msgspec

from middleware.contract import SharedMiddleware
from middleware.errors import FAULTS
from middleware.loading import load_middleware
from service.chain import ChainVersion, Mode, Step
from service.journal.entry import Configuration

COMMANDS: Final = {Mode.ENABLED: "enable", Mode.SHADOW: "shadow", Mode.DISABLED: "disable"}

NO_REASON: Final = "no reason given"

LONGEST_SHOWN: Final = 80
"""Characters of a parameter's value in a sentence: it may be a list of 100,000 points."""


def same_configuration(before: Configuration, configured: Configuration) -> bool:
    """Say whether a file still says what it said."""
    return _encoded(before) == _encoded(configured)


def adopted(
    present: ChainVersion, before: Configuration, configured: Configuration, since: str
) -> ChainVersion:
    """Return the chain as it is from the offset ``since`` on.

    What was switched while it ran stays, but for steps whose table in the file was changed since
    ``before``. Steps with the same name and middleware keep what they remember.
    """

    def next_of(step: Step) -> Step:
        now, table = _named(present.steps, step.name), _named(before.steps, step.name)
        if now is None or table is None or now.use != step.use:
            return replace(step, since=since)
        if _table(table) == _table(step):
            return now
        resets = {what: each for what, each in now.switches.items() if what == "reset"}
        return replace(step, resets=now.resets, switches=resets, since=since)

    return ChainVersion(present.number + 1, tuple(map(next_of, configured.steps)))


def told_changes(
    present: ChainVersion, before: Configuration, configured: Configuration
) -> Iterator[str]:
    """Say what becomes of each step and its memory: a sentence for each one that is touched.

    A step that stays as it was switched is told by ``told_switches``.
    """
    for key in sorted(before.event.keys() | configured.event.keys()):
        old, new = before.event.get(key), configured.event.get(key)
        if old != new:
            yield f"events are read with {key} = {_shown(new)} (was {_shown(old)})"
    there, wanted = _names(before.steps), _names(configured.steps)
    for step in before.steps:
        if step.name not in wanted:
            lost = ", and its memory is dropped" if step.shared else ""
            yield f"{step.name}: removed: events do not pass it any more{lost}"
    for step in configured.steps:
        if told := _becomes(step, present, before, wanted):
            yield f"{step.name}: {told}"
    stayed = [name for name in wanted if name in there]
    if stayed != [name for name in there if name in wanted]:
        yield f"the order of the steps is {' -> '.join(wanted)} now (was {' -> '.join(there)})"


def told_switches(chain: ChainVersion, configured: Configuration) -> Iterator[str]:
    """Say of each step that is not as the file has it since when, why, and how to go back."""
    for table in configured.steps:
        step = _named(chain.steps, table.name)
        if step is None:
            continue
        if differences := _differences(step, table):
            told = "; ".join(
                f"{_name(thing)}={ours} (the file says {theirs}), switched {_when(step, thing)}"
                for thing, ours, theirs in differences
            )
            back = " and ".join(_ways_back(step, table, [thing for thing, *_ in differences]))
            yield (
                f"{step.name}: stays as it was switched: {told}; to go back to what the file says: "
                f"{back}"
            )
        if step.resets:
            times = "once" if step.resets == 1 else f"{step.resets} times"
            last = _when(step, "reset")
            yield f"{step.name}: its memory was emptied {times} by reset, last {last}"


def told_memory(now: Step, step: Step) -> str:
    """Say what becomes of the memory of a step whose class stays, behind what else is said."""
    if not step.shared:
        return ""
    try:
        loaded = load_middleware(step.use)
        old, new = loaded.parse_params(now.params), loaded.parse_params(step.params)
        kept = not issubclass(loaded, SharedMiddleware) or loaded.keeps_memory(old, new)
    except FAULTS:  # of a class that knows them no more, or is odd
        return "; its memory is handed to it as it is"
    return "; its memory is kept" if kept else "; its memory is emptied: it is one of other params"


def told_positions(
    positions: Mapping[str, Any],
    origins: Mapping[str, Mapping[str, Any]],
    sinks: Collection[str],
    sources: Collection[str],
) -> Iterator[str]:
    """Say what becomes of the places in sinks and sources that came or went.

    ``positions`` are those of the sinks, ``origins`` those of the sources in the last checkpoint;
    ``sinks`` and ``sources`` are what is configured now.
    """
    for name in sorted({*positions} - {*sinks}):
        yield (
            f'sink "{name}": removed: how far it was is forgotten, and what is emitted from now on '
            "is never written there"
        )
    for name in sinks:
        if name not in positions:
            yield f'sink "{name}": new: it holds only what is emitted from now on'
    for name in sorted({*origins} - {*sources}):
        path, stop = origins[name]["path"], origins[name]["stop"]
        yield (
            f'source "{name}": removed: that it read {stop} bytes of {path} stays known under its '
            "name; a source with another name reads the file from its beginning"
        )


def _becomes(
    step: Step, present: ChainVersion, before: Configuration, wanted: Collection[str]
) -> str | None:
    now, table = _named(present.steps, step.name), _named(before.steps, step.name)
    if now is None or table is None:
        return _added(step, before, wanted)
    if now.use != step.use:
        lost = ", so its memory begins empty" if step.shared or now.shared else ""
        return f"its class is {step.use} now (was {now.use}){lost}"
    if now.shared != step.shared:
        what = "remembers now, and begins empty" if step.shared else "remembers nothing any more"
        return f"its class {what}"
    if _table(table) != _table(step):
        return f"its table was changed: {_changed(now, step)}"
    return None if _differences(now, step) else f"unchanged{told_memory(now, step)}"


def _added(step: Step, before: Configuration, wanted: Collection[str]) -> str:
    """Tell a step that was not there from one that bore another name."""
    if not step.shared:
        return "added"
    gone = [each.name for each in before.steps if each.use == step.use and each.name not in wanted]
    if not gone:
        return "added: its memory begins empty"
    return (
        f"added: its memory begins empty, since memory goes by name: what {' and '.join(gone)} "
        "remembered is not taken over"
    )


def _changed(now: Step, step: Step) -> str:
    differences = [
        f"{_name(thing)}: {theirs} (switched {_when(now, thing)}) -> {ours}"
        if thing in now.switches
        else f"{_name(thing)}: {theirs} -> {ours}"
        for thing, ours, theirs in _differences(step, now)
    ]
    told = ", ".join(differences) or "it says now how it was switched before"
    return told + told_memory(now, step)


def _differences(step: Step, other: Step) -> list[tuple[str, str, str]]:
    """Return what of a step's mode and params is not as in the other: how it is in both."""
    found = []
    if step.mode != other.mode:
        found.append(("mode", str(step.mode), str(other.mode)))
    for name in sorted(step.params.keys() | other.params.keys()):
        ours, theirs = step.params.get(name, _DEFAULT), other.params.get(name, _DEFAULT)
        if _encoded(ours) != _encoded(theirs):
            found.append((f"params.{name}", _shown(ours), _shown(theirs)))
    return found


def _name(thing: str) -> str:
    return thing.removeprefix("params.")


def _when(step: Step, thing: str) -> str:
    """Say since when a thing is as it was switched, and why."""
    switch = step.switches.get(thing)
    if switch is None:  # by a version that kept the last one only
        return f"at offset {step.since} or before ({step.reason or NO_REASON})"
    return f"at offset {switch.since}, {switch.time} ({switch.reason or NO_REASON})"


def _ways_back(step: Step, table: Step, things: Collection[str]) -> Iterator[str]:
    if "mode" in things:
        yield f"penstock middleware {COMMANDS[table.mode]} {step.name}"
    names = [_name(thing) for thing in things if thing != "mode"]
    if names:
        values = _as_in_file(table)
        told = [f"{name}={_shown(values.get(name, _DEFAULT))}" for name in names]
        if any(name not in values or len(_json(values[name])) > LONGEST_SHOWN for name in names):
            yield f"`penstock middleware set {step.name}` with {', '.join(names)} as in the file"
        else:
            yield f"penstock middleware set {step.name} {' '.join(map(shlex.quote, told))}"


def _as_in_file(table: Step) -> dict[str, Any]:
    """Return the parameters of a table, with the defaults of those that it does not name."""
    try:
        parsed = load_middleware(table.use).parse_params(table.params)
        defaults = parsed.model_dump(mode="json")
    except FAULTS:  # of a class; the defaults are only to be told
        defaults = {}
    return {**defaults, **table.params}


class _Default:
    """Stands for a parameter that a table does not name."""


_DEFAULT: Final = _Default()


def _shown(value: Any) -> str:
    if value is _DEFAULT:
        return "its default"
    text = _json(value)
    return text if len(text) <= LONGEST_SHOWN else text[: LONGEST_SHOWN - 1] + "…"


def _json(value: Any) -> str:
    return json.dumps(msgspec.to_builtins(value), ensure_ascii=False)


def _named(steps: Collection[Step], name: str) -> Step | None:
    return next((step for step in steps if step.name == name), None)


def _names(steps: Collection[Step]) -> list[str]:
    return [step.name for step in steps]


def _table(step: Step) -> bytes:
    """Return what the configuration file says of a step, to be compared: a NaN equals itself."""
    none = {"since", "reason", "switches"}
    return _encoded({name: value for name, value in asdict(step).items() if name not in none})


def _encoded(value: Any) -> bytes:
    """Return a value to be compared as the journal holds it: a date is its text there."""
    if value is _DEFAULT:
        return b""
    return msgspec.msgpack.encode(value, order="deterministic")
