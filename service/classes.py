"""Whether the classes, as they are now, take what a start hands them: params and memories of then.

All of it is asked before anything is written.
"""

from __future__ import annotations

import logging
from collections.abc import Iterator
from dataclasses import replace

import msgspec

from middleware.errors import ConfigurationError
from service.chain import ChainVersion, Step
from service.errors import PipelineFailed
from service.journal.entry import Configuration
from service.recovery import Recovered
from service.snapshot import Encoded, Snapshot

log = logging.getLogger(__name__)


def check_classes(recovered: Recovered) -> None:
    """See that blocks accepted before find every class as they need it; raises PipelineFailed.

    The message names each that is missing, or does not accept the params of then, and the ways on.
    """
    problems: dict[str, str] = {}
    for step in _needed(recovered):
        try:
            step.load()
        except ConfigurationError as error:
            problems[step.name] = (
                f"{step.name}: {recovered.pending} blocks that were accepted before need it as it "
                f"was then, and it cannot be loaded: {error}; bring it back, or let them pass it "
                f"undecided: penstock run --without {step.name}"
            )
    if problems:
        raise PipelineFailed("\n".join(problems.values()))


def _needed(recovered: Recovered) -> Iterator[Step]:
    """Yield each step that pending blocks pass, with each of the params that it has on the way.

    Its memory is restored under those that it was kept with.
    """
    if not recovered.pending:
        return
    start = recovered.start.chain
    kept = _kept_with_other_params(_memory(recovered), start)
    seen = set()
    for step in [*start.steps, *kept, *(step for each in recovered.chains for step in each.steps)]:
        if (identity := _identity(step)) not in seen:
            seen.add(identity)
            yield step


def of_then(recovered: Recovered, configured: Configuration) -> list[Step]:
    """Return each step that a start loads as the file does not have it, once.

    As pending blocks pass it, as its memory was kept, and as it was switched.
    """
    kept = _kept_with_other_params(_memory(recovered), recovered.chain)
    adopted = recovered.adopting(configured).steps
    steps = {_identity(step): step for step in [*_needed(recovered), *kept, *adopted]}
    there = {_identity(step) for step in configured.steps}
    return [step for identity, step in steps.items() if identity not in there]


def _identity(step: Step) -> tuple[str, str, bytes]:
    return step.name, step.use, msgspec.msgpack.encode(step.params, order="deterministic")


def outgrown(recovered: Recovered) -> dict[str, str]:
    """Return what memories in the checkpoint the classes do not take under the params of then.

    By the step's name, what the class says. None is, while blocks wait: that is refused before.
    """
    found = {}
    for step in _kept_with_other_params(_memory(recovered), recovered.chain):
        try:
            step.load()
        except ConfigurationError as error:
            found[step.name] = str(error)
    return found


def handed_over(memory: Snapshot, chain: ChainVersion, outgrown: dict[str, str]) -> Snapshot:
    """Return the memories of a chain, those that were ``outgrown`` under the present params."""
    memories = []
    for each in memory.of(chain.steps).memories.values():
        if each.name in outgrown:
            log.warning(
                "%s: its class does not accept the params any more that its memory was kept under "
                "(%s): it is opened with the present ones, and the memory is handed to it",
                each.name,
                outgrown[each.name],
            )
            each = replace(each, params=dict(chain.step(each.name).params))  # noqa: PLW2901 - the same one
        memories.append(each)
    return Snapshot(memory.block, memories)


def _memory(recovered: Recovered) -> Encoded | None:
    return None if recovered.checkpoint is None else recovered.checkpoint.memory


def _kept_with_other_params(memory: Encoded | None, chain: ChainVersion) -> Iterator[Step]:
    """Yield the steps of a chain whose memory was kept under other params, with these."""
    if memory is None:
        return
    snapshot = Snapshot.decode(memory)
    for step in chain.steps:
        kept = snapshot.memory(step)
        if step.shared and kept is not None and kept.params != step.params:
            yield replace(step, params=kept.params)


def check_switched(chain: ChainVersion, configured: Configuration) -> None:
    """See that the classes still accept what was switched while it ran; raises PipelineFailed.

    ``chain`` is what the start is about to adopt. What the file says was checked before.
    """
    problems = []
    for step in chain.steps:
        if step.params is next(
            (each.params for each in configured.steps if each.name == step.name), None
        ):
            continue
        try:
            step.load()
        except ConfigurationError as error:
            problems.append(
                f"{step.name}: its params were switched while it ran, and its class does not "
                f"accept them any more: {error}; bring the class of before back, or change params "
                f"in its table in the file, since a table that was changed wins over what was "
                f"switched, or leave it out: penstock run --without {step.name}"
            )
    if problems:
        raise PipelineFailed("\n".join(problems))
