"""The whole path in one thread, with every choice made by hypothesis.

Which block is cut where, which worker takes its next step, who dies when, what is switched before
which block: whatever the order, the output is what one loop over the events gives.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from functools import partial
from pathlib import Path

from hypothesis import given, settings
from hypothesis import strategies as st

from service.answer import Asker
from service.block import Block, Part
from service.chain import ChainVersion, Mode, Step
from service.dead_letter_file import DeadLetterFile
from service.dispatcher import Dispatcher
from service.emitter import Emitter
from service.origins import Origins
from service.outlet import Outlet
from service.passage import Result
from service.progress import local_lane
from service.runner import ChainRunner
from service.sequencer import Sequencer
from service.settings import EventSettings
from service.sinks.sink import Emission, Sink
from service.snapshot import Snapshot
from service.statistics import Statistics
from service.worker import Task

SETTINGS = EventSettings()
STEPS = (
    Step("blocklist", "blocklist", Mode.ENABLED, {"cids": [7]}, shared=False),
    Step("adjacent", "adjacent", Mode.ENABLED, {"window": 30.0}, shared=True),
    Step("wide", "adjacent", Mode.SHADOW, {"window": 9.0, "radius": 3}, shared=True),
)


class ListSink(Sink):
    """Keeps what it is given."""

    def __init__(self) -> None:
        super().__init__(None)
        self.lines = b""

    def write(self, emission: Emission) -> None:
        self.lines += emission.lines


class SimulatedWorker:
    """A worker without a process: takes tasks, and runs the first when it is told to."""

    def __init__(self) -> None:
        self.in_flight: dict[int, int] = {}
        self.tasks: list[Task] = []

    def wake(self) -> None:
        """Do nothing: the simulation lets every worker take what it can."""


@dataclass
class Simulation:
    """A pipeline whose every step is taken on demand."""

    workers: int
    checkpoint_size: int
    sink: ListSink = field(default_factory=ListSink)
    generation: int = 0

    def __post_init__(self) -> None:
        self.statistics = Statistics(step.name for step in STEPS)
        self.dispatcher = Dispatcher(
            self._finished,
            workers=self.workers,
            retries=2,
            room=1 << 40,
            checkpoint_size=self.checkpoint_size,
            remembers=True,
        )
        letters = DeadLetterFile(Path("/nonexistent/never-written"))
        self.emitter = Emitter(
            {"list": Outlet(self.sink)},
            letters,
            Origins(),
            self.statistics,
            self.dispatcher.settled,
        )
        self.links = [SimulatedWorker() for _ in range(self.workers)]
        self.dispatcher.connect(self.links)
        self.start_state_host()

    def _finished(self, block: Block, result: Result) -> None:
        self.emitter.offer(block, result)

    def start_state_host(self) -> None:
        askers = [Asker(local_lane(), 0) for _ in STEPS]
        start = self.dispatcher.snapshot
        self.sequencer = Sequencer(STEPS, askers, None if start is None else Snapshot.decode(start))
        self.generation += 1
        self.dispatcher.state_ready(self.generation, "")
        self.asked = self.sequencer.block
        for link in self.links:
            for task in [task for task in link.tasks if task.generation != self.generation]:
                link.tasks.remove(task)
                self.dispatcher.state_lost(link, task.block.number)

    def kill_state_host(self) -> None:
        self.dispatcher.state_died([], "died")
        self.start_state_host()

    def accept(self, block: Block) -> None:
        self.statistics.accept(block)
        self.dispatcher.accept(block)

    def take_all(self) -> None:
        for link in self.links:
            while (task := self.dispatcher.take(link)) is not None:
                link.tasks.append(task)

    def runnable(self) -> list[SimulatedWorker]:
        """Return the workers whose first block is next in the sequencer, or was answered."""
        return [
            link
            for link in self.links
            if link.tasks and link.tasks[0].block.number <= self.asked + 1
        ]

    def run(self, link: SimulatedWorker, *, dies: bool) -> None:
        task = link.tasks[0]
        runner = ChainRunner(SETTINGS, local_lane(), 0, self.sequencer.ask)
        result = runner.run(task.block, task.blame, task.settled)
        self.asked = max(self.asked, task.block.number)
        if dies:
            self.kill(link)
            return
        link.tasks.pop(0)
        self.dispatcher.done(link, task.block.number, result)
        while self.emitter.emit_next():
            pass
        self.take_checkpoint()

    def kill(self, link: SimulatedWorker) -> None:
        link.tasks.clear()
        self.dispatcher.worker_died(link, [], "died")

    @property
    def settled(self) -> bool:
        return self.dispatcher.wait_until_settled(0)

    def take_checkpoint(self) -> None:
        barrier = self.dispatcher.next_barrier(limit=0)
        if barrier is not None:
            snapshot = self.sequencer.snapshot(barrier.block).encoded()
            self.dispatcher.adopt_snapshot(barrier, snapshot)


@dataclass(frozen=True)
class Switch:
    """What is switched, before a block."""

    name: str
    mode: Mode | None = None
    window: float | None = None
    reset: bool = False


switches = st.one_of(
    st.builds(
        Switch, st.sampled_from(["adjacent", "wide", "blocklist"]), mode=st.sampled_from(Mode)
    ),
    st.builds(Switch, st.sampled_from(["adjacent", "wide"]), window=st.sampled_from([3.0, 60.0])),
    st.builds(Switch, st.sampled_from(["adjacent", "wide"]), reset=st.just(True)),
)
events = st.lists(
    st.tuples(st.integers(0, 12), st.integers(0, 120).map(float)), min_size=1, max_size=6
)
blocks = st.lists(st.tuples(st.lists(switches, max_size=2), events), min_size=1, max_size=12)


def sequentially(script: list[tuple[ChainVersion, list[bytes], list[tuple[int, float]]]]) -> bytes:
    """Return what one loop over the events keeps, a middleware instance for each shared step."""
    loaded = {step.name: step.load() for step in STEPS}
    for middleware in loaded.values():
        middleware.open()
    resets = dict.fromkeys(loaded, 0)
    kept = b""
    for chain, lines, pairs in script:
        for step in chain.steps:
            if step.resets != resets[step.name]:
                resets[step.name] = step.resets
                loaded[step.name] = step.load()
                loaded[step.name].open()
            loaded[step.name].close()
            loaded[step.name].params = loaded[step.name].parse_params(step.params)
            loaded[step.name].open()
        for line, (cid, time) in zip(lines, pairs, strict=True):
            event = {"cid": cid, "time": time}
            for step in chain.steps:
                if step.mode is Mode.DISABLED:
                    continue
                if loaded[step.name].handle(event) is None and step.mode is Mode.ENABLED:
                    break
            else:
                kept += line
    return kept


@settings(max_examples=150, deadline=None)
@given(
    script=blocks,
    workers=st.integers(1, 4),
    checkpoint_size=st.sampled_from([1, 200, 1 << 30]),
    data=st.data(),
)
def test_output_is_the_sequential_answer_whatever_happens(
    script: list[tuple[list[Switch], list[tuple[int, float]]]],
    workers: int,
    checkpoint_size: int,
    data: st.DataObject,
) -> None:
    simulation = Simulation(workers, checkpoint_size)
    chain = ChainVersion(1, STEPS)
    versions = []
    for switched, pairs in script:
        for each in switched:
            params = None if each.window is None else {"window": each.window}
            chain = chain.switched(each.name, mode=each.mode, params=params, reset=each.reset)
        lines = [b'{"cid":%d,"time":%.1f}\n' % pair for pair in pairs]
        versions.append((chain, lines, pairs))
    waiting = list(enumerate(versions, start=1))
    mishaps = 12
    while waiting or any(link.tasks for link in simulation.links) or not simulation.settled:
        choices = [partial(simulation.run, link, dies=False) for link in simulation.runnable()]
        if mishaps:
            choices += [partial(simulation.run, link, dies=True) for link in simulation.runnable()]
            choices += [partial(simulation.kill, link) for link in simulation.links if link.tasks]
            choices += [partial(simulation.kill_state_host)]
        if waiting:
            choices += [partial(accept_next, simulation, waiting)]
        choice = data.draw(st.sampled_from(choices), label="step")
        harmless = choice.func is accept_next or choice.keywords.get("dies") is False
        mishaps -= not harmless
        choice()
        simulation.take_all()
    assert simulation.sink.lines == sequentially(versions)
    totals = simulation.statistics.totals()
    assert totals.accepted == sum(len(pairs) for _, _, pairs in versions)
    assert totals.accepted == totals.emitted + sum(totals.dropped.values()) + totals.dead


def accept_next(
    simulation: Simulation,
    waiting: list[tuple[int, tuple[ChainVersion, list[bytes], list[tuple[int, float]]]]],
) -> None:
    number, (chain, lines, _) = waiting.pop(0)
    part = Part("simulation", len(lines), 1, 1.8e9)
    barrier = simulation.dispatcher.wants_barrier()
    simulation.accept(Block(number, b"".join(lines), (part,), chain, barrier))
