"""A daemon without processes over a real state directory, every step of it taken on demand.

Journal, checkpoints, dead letters and sink are the real ones, on real files. ``crash`` drops all
that is in memory, at any step; another life over the same directory is the next start.
"""

from __future__ import annotations

import shutil
from collections.abc import Iterable
from pathlib import Path
from threading import Thread
from typing import Any, Final
from unittest.mock import patch

from service.answer import Asker
from service.block import Block, Receipt, Submission
from service.chain import ChainVersion, Mode, Step
from service.checkpointer import Checkpointer
from service.dead_letter_file import DeadLetterFile
from service.dispatcher import Dispatcher
from service.emitter import Emitter
from service.errors import PipelineFailed
from service.event_queue import EventQueue
from service.intake import Intake
from service.journal.journal import BLOCK
from service.origins import Origins
from service.outlet import Outlet
from service.passage import Result
from service.progress import local_lane
from service.recovery import configuration_of
from service.runner import ChainRunner
from service.sequencer import Sequencer
from service.settings import BlockSettings, Settings, SinkSettings, StateSettings
from service.sinks.ndjson import NdjsonSink
from service.snapshot import Snapshot
from service.state_directory import open_storage
from service.statistics import Statistics, Totals
from tests.faults.failing_sink import FailingSink, Impatient
from tests.test_simulation import SimulatedWorker

LIMIT: Final = 20.0
"""Seconds that anything may take."""

SEGMENT: Final = 700
"""Bytes after which the journal begins the next segment: a few blocks; each goes when it can."""


class SimulatedDaemon:
    """One life over a state directory; ``crash`` or ``stop`` ends it."""

    def __init__(
        self,
        directory: Path,
        steps: tuple[Step, ...],
        *,
        workers: int = 2,
        checkpoint_size: int = 1 << 30,
        durability: str = "full",
        segment: int = SEGMENT,
    ) -> None:
        """Start as a daemon does, but for its processes; raises PipelineFailed."""
        self.directory = directory
        self._settings = _settings(directory, durability, segment)
        self._steps = steps
        configured = configuration_of(self._settings, ChainVersion(1, steps))
        self._letters = DeadLetterFile(directory / "dead.ndjson")
        with patch("service.state_directory.SEGMENT_BYTES", (segment, segment)):
            storage = open_storage(self._settings.state, configured, self._letters)
        self._storage = storage.adopting(configured)
        self._storage.commit()
        self.problem: str | None = None
        checkpoint = self._storage.recovered.checkpoint
        start = self._storage.recovered.start
        self.statistics = Statistics(
            (step.name for step in steps), checkpoint.statistics if checkpoint else None
        )
        self.dispatcher = Dispatcher(
            self._finished,
            workers=workers,
            retries=0,
            room=1 << 40,
            checkpoint_size=checkpoint_size,
            remembers=True,
        )
        self.dispatcher.start_from(start.block, checkpoint.memory if checkpoint else None)
        self.queue = EventQueue(events=1 << 20, size=1 << 30)
        block = BlockSettings.model_validate({"linger": 0})
        self.intake = Intake(
            self.queue,
            self.dispatcher,
            self.statistics,
            block,
            self._storage.journal,
            self._storage.space,
        )
        self.intake.start_from(start)
        self.sink = FailingSink(NdjsonSink.Params(path=directory / "kept.ndjson"))
        with patch("service.emitter.Event", Impatient):
            self.emitter = Emitter(
                {"kept": Outlet(self.sink)},
                self._letters,
                Origins(checkpoint.origins if checkpoint else None),
                self.statistics,
                self.dispatcher.settled,
                after=start.block,
            )
        assert self._storage.checkpoints is not None
        self.checkpointer = Checkpointer(
            self.dispatcher,
            self.emitter,
            self._storage.journal,
            self._storage.checkpoints,
            self._storage.recovered.configuration,
            None,
        )
        self.links = [SimulatedWorker() for _ in range(workers)]
        self.dispatcher.connect(self.links)
        self._generation = 0
        self._asked = start.block
        self._start(checkpoint is None)

    # ---- what a daemon does

    def submit(self, lines: Iterable[bytes], key: str | None = None) -> Receipt:
        """Hand lines in and wait for the receipt."""
        data = b"".join(lines)
        submission = Submission("test", data, data.count(b"\n"), 1, 1.8e9, key, patient=False)
        return self.queue.submit(submission, limit=0).result(LIMIT)

    def switch(
        self, name: str, *, mode: Mode | None, params: dict[str, Any] | None, reset: bool
    ) -> ChainVersion:
        """Switch a step; the new chain holds for the next block."""
        return self.intake.switch(
            lambda chain, offset: chain.switched(
                name, mode=mode, params=params, reset=reset, since=str(offset)
            )
        )

    def runnable(self) -> list[SimulatedWorker]:
        """Return the workers whose first block is next in the sequencer, or was answered."""
        self._take_all()
        return [
            link
            for link in self.links
            if link.tasks and link.tasks[0].block.number <= self._asked + 1
        ]

    def run(self, link: SimulatedWorker, *, dies: bool = False) -> None:
        """Let a worker run its first block; ``dies``: it is answered, but tells nobody."""
        task = link.tasks[0]
        runner = ChainRunner(self._settings.event, local_lane(), 0, self._sequencer.ask)
        result = runner.run(task.block, task.blame, task.settled)
        self._asked = max(self._asked, task.block.number)
        if dies:
            self.kill_worker(link)
            return
        link.tasks.pop(0)
        self.dispatcher.done(link, task.block.number, result)

    def emit(self) -> bool:
        """Emit the next block if it is there."""
        return self.emitter.emit_next()

    def save_checkpoint(self) -> int | None:
        """Save the checkpoint of a barrier that has passed everything, if there is one."""
        barrier = self.dispatcher.next_barrier(limit=0)
        if barrier is None:
            return None
        memory = self._sequencer.snapshot(barrier.block).encoded()
        self.checkpointer.save(self.emitter.mark(barrier.block), memory)
        self.dispatcher.adopt_snapshot(barrier, memory)
        return barrier.block

    def drain(self) -> None:
        """Do all the work there is."""
        while self.step():
            pass
        assert self.dispatcher.wait_until_settled(0)

    def step(self) -> bool:
        """Take one step forward; False when there is nothing left to do."""
        if self.save_checkpoint() is not None or self.emit():
            return True
        if links := self.runnable():
            self.run(links[0])
            return True
        return False

    def remembers(self, block: int) -> bool:
        """Say whether a block is still in the journal, and its idempotency keys with it."""
        journal = self._storage.journal
        entries = journal.entries(journal.first - 1)
        return any((entry.kind, entry.block) == (BLOCK, block) for entry in entries)

    @property
    def totals(self) -> Totals:
        return self.statistics.totals()

    @property
    def kept(self) -> bytes:
        path = self.directory / "kept.ndjson"
        return path.read_bytes() if path.exists() else b""

    # ---- what happens to it

    def kill_worker(self, link: SimulatedWorker) -> None:
        """Let a worker die; its blocks are done again."""
        link.tasks.clear()
        self.dispatcher.worker_died(link, [], "died")

    def kill_state_host(self) -> None:
        """Let the memory go; another one is built from the last snapshot."""
        self.dispatcher.state_died([], "died")
        self._start_state_host()

    def crash(self) -> None:
        """Drop everything that is in memory; the files stay as they are at this moment."""
        self._end_intake()
        # To close is to write: SQLite takes its log up. So what is there now is put back after it.
        now = self.directory.with_name(f"{self.directory.name}-now")
        shutil.copytree(self.directory, now)
        self._close()
        shutil.rmtree(self.directory)
        now.rename(self.directory)

    def stop(self) -> None:
        """Stop as a daemon does: everything is emitted, then a last checkpoint."""
        self.intake.place_barrier()
        self.drain()
        self._end_intake()
        self._close()

    # ---- inside

    def _start(self, first: bool) -> None:
        checkpoint = self._storage.recovered.checkpoint
        self.sink.open(checkpoint.sinks.get("kept") if checkpoint else None)
        self._letters.open(checkpoint.dead_letters if checkpoint else None)
        if first:
            origin = Block(0, b"", (), self.intake.chain, barrier=True)
            mark = self.emitter.mark_now(origin)
            assert mark is not None
            self.checkpointer.save(mark, None)
        self._start_state_host()
        self._thread = Thread(target=self._take_in, name="intake", daemon=True)
        self._thread.start()
        if not self.intake.recovered.wait(LIMIT) or self.problem is not None:
            problem = self.problem or "the intake did not get through the journal"
            self.crash()
            raise PipelineFailed(problem)

    def _take_in(self) -> None:
        try:
            self.intake.run()
        except PipelineFailed as error:
            self.problem = str(error)
            self.intake.recovered.set()

    def _end_intake(self) -> None:
        self.intake.stop()
        self.dispatcher.close()
        self.queue.close()
        self._thread.join(LIMIT)
        assert not self._thread.is_alive()

    def _close(self) -> None:
        self.sink.close()
        self._letters.close()
        self._storage.journal.close()

    def _start_state_host(self) -> None:
        askers = [Asker(local_lane(), 0) for _ in self._steps]
        start = self.dispatcher.snapshot
        memory = None if start is None else Snapshot.decode(start)
        self._sequencer = Sequencer(self._steps, askers, memory)
        self._generation += 1
        self.dispatcher.state_ready(self._generation, "")
        self._asked = self._sequencer.block
        for link in self.links:
            for task in [task for task in link.tasks if task.generation != self._generation]:
                link.tasks.remove(task)
                self.dispatcher.state_lost(link, task.block.number)

    def _take_all(self) -> None:
        for link in self.links:
            while (task := self.dispatcher.take(link)) is not None:
                link.tasks.append(task)

    def _finished(self, block: Block, result: Result) -> None:
        self.emitter.offer(block, result)


def _settings(directory: Path, durability: str, segment: int) -> Settings:
    retention = {"retention_bytes": 4 * segment, "retention_age": 0 if segment == SEGMENT else "1d"}
    given = {"directory": directory, "durability": durability, "reserve": 1}
    state = StateSettings.model_validate(given | retention)
    return Settings(sink=(SinkSettings(name="kept", use="ndjson"),), state=state)
