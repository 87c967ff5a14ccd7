"""However blocks are cut, spread, asked again and restored: the output of one process, in order."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from itertools import pairwise
from threading import Thread
from typing import Any

from hypothesis import given, settings
from hypothesis import strategies as st

from service.answer import NO_BLAME
from service.block import Block
from service.chain import ChainVersion, Mode
from service.passage import Result
from service.sequencer import Sequencer
from tests.core.examples import account_for, block, chain, line, runner, sequencer, step
from tests.middleware.reference import Reference

LIMIT = 20.0
FIRST = chain(step("adjacent", use="adjacent"), step("Even"), step("Tally", keep=3))


@dataclass(frozen=True)
class Plan:
    """Blocks, the thread that each goes to, and whether that one asks again."""

    blocks: list[Block]
    threads: list[int]
    again: list[bool]


events = st.tuples(st.integers(0, 6), st.integers(0, 12).map(lambda each: each * 75.0))
switches = st.one_of(
    st.fixed_dictionaries({"mode": st.sampled_from(list(Mode))}),
    st.just({"reset": True}),
    st.just({"params": None}),  # another value of what the step takes
)


@st.composite
def plans(draw: st.DrawFn) -> Plan:
    """Cut events into blocks, switch between some of them, make one of them a barrier."""
    cuts = draw(st.lists(st.lists(events, max_size=25), min_size=1, max_size=8))
    barrier = draw(st.integers(1, len(cuts)))
    version, blocks = FIRST, []
    for number, cut in enumerate(cuts, start=1):
        if draw(st.integers(0, 2)) == 0:
            version = _switched(draw, version)
        payload = b"".join(line(cid, time) for cid, time in cut)
        blocks.append(block(number, payload, version, barrier=number == barrier))
    each = st.lists(st.integers(0, 2), min_size=len(blocks), max_size=len(blocks))
    again = st.lists(st.booleans(), min_size=len(blocks), max_size=len(blocks))
    return Plan(blocks, draw(each), draw(again))


def _switched(draw: st.DrawFn, version: ChainVersion) -> ChainVersion:
    name = draw(st.sampled_from(["adjacent", "Even", "Tally"]))
    change: dict[str, Any] = dict(draw(switches))
    if "params" in change:
        taken = {
            "adjacent": {"window": draw(st.sampled_from([100.0, 600.0])), "radius": 2},
            "Even": {},
            "Tally": {"keep": draw(st.integers(0, 4))},
        }
        change["params"] = taken[name]
    return version.switched(name, **change)


class OneProcess:
    """What one process would do, event by event, with plain dictionaries."""

    def __init__(self) -> None:
        self.adjacent = Reference()
        self.seen: dict[int, int] = {}
        self.resets = {"adjacent": 0, "Tally": 0}

    def kept(self, each: Block) -> bytes:
        self._switch(each.chain)
        return b"".join(
            row for row in each.read().splitlines(keepends=True) if self._keeps(row, each.chain)
        )

    def _switch(self, version: ChainVersion) -> None:
        adjacent, tally = version.step("adjacent"), version.step("Tally")
        if adjacent.resets != self.resets["adjacent"]:
            self.adjacent = Reference()
        if tally.resets != self.resets["Tally"]:
            self.seen = {}
        self.resets = {"adjacent": adjacent.resets, "Tally": tally.resets}
        self.adjacent.window = adjacent.params.get("window", 300.0)
        self.adjacent.radius = adjacent.params.get("radius", 1)

    def _keeps(self, row: bytes, version: ChainVersion) -> bool:
        cid, time = (float(each.split(b":")[1]) for each in row.strip(b"{}\n").split(b","))
        event = {"cid": int(cid), "time": time}
        for each in version.steps:
            if each.mode is Mode.DISABLED:
                continue
            if not self._passes(each.name, event, each.params) and each.mode is Mode.ENABLED:
                return False
        return True

    def _passes(self, name: str, event: Mapping[str, Any], params: Mapping[str, Any]) -> bool:
        if name == "adjacent":
            return self.adjacent.keeps(event)
        if name == "Even":
            return bool(event["cid"] % 2 == 0)
        seen = self.seen[event["cid"]] = self.seen.get(event["cid"], 0) + 1
        return bool(seen <= params["keep"])


def spread(shared: Sequencer, plan: Plan, after: int = 0) -> list[bytes]:
    """Let three threads ask, each its blocks in rising order; return what was kept, in order."""
    found: dict[int, list[Result]] = {each.number: [] for each in plan.blocks[after:]}

    def work(mine: Sequence[int]) -> None:
        worker = runner(shared.ask)
        for index in mine:
            each = plan.blocks[index]
            for _ in range(1 + plan.again[index]):
                found[each.number].append(worker.run(each, NO_BLAME, 0))

    threads = [
        Thread(
            target=work,
            args=([i for i in range(after, len(plan.blocks)) if plan.threads[i] == thread],),
            daemon=True,
        )
        for thread in range(3)
    ]
    for thread in reversed(threads):
        thread.start()
    for thread in threads:
        thread.join(LIMIT)
        assert not thread.is_alive(), "a thread waits for ever"
    last = runner(shared.ask)
    for each in plan.blocks[after:]:  # all of them once more: nothing may have changed
        found[each.number].append(last.run(each, NO_BLAME, 0))
    for asked in found.values():
        assert len({result.kept for result in asked}) == 1
        for result in asked:
            account_for(result)
    return [asked[0].kept for asked in found.values()]


@settings(max_examples=60)
@given(plans())
def test_the_output_is_that_of_one_process(plan: Plan) -> None:
    one = OneProcess()
    expected = [one.kept(each) for each in plan.blocks]
    shared = sequencer(FIRST.steps)
    assert spread(shared, plan) == expected
    (barrier,) = [each.number for each in plan.blocks if each.barrier]
    restored = sequencer(FIRST.steps, shared.snapshot(barrier))
    assert spread(restored, plan, after=barrier) == expected[barrier:]


@settings(max_examples=40)
@given(st.lists(events, max_size=40), st.sets(st.integers(0, 40)), st.sets(st.integers(0, 40)))
def test_where_blocks_are_cut_makes_no_difference(
    rows: list[tuple[int, float]], some: set[int], others: set[int]
) -> None:
    def output(cuts: set[int]) -> bytes:
        edges = sorted({0, len(rows), *(cut for cut in cuts if cut < len(rows))})
        shared = sequencer(FIRST.steps)
        worker = runner(shared.ask)
        kept = b""
        for number, (first, stop) in enumerate(pairwise(edges), start=1):
            payload = b"".join(line(cid, time) for cid, time in rows[first:stop])
            kept += worker.run(block(number, payload, FIRST), NO_BLAME, 0).kept
        return kept

    assert output(some) == output(others) == output(set())
