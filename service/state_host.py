"""The state host: one BaseManager process that holds the memory of all shared steps.

It listens on an AF_UNIX socket in a directory only its user may enter, with a random key. When it
dies, another one starts from the last snapshot and is asked again about every block since.
"""

from __future__ import annotations

import logging
import os
import secrets
import sys
import traceback
from collections.abc import Sequence
from dataclasses import dataclass, replace
from multiprocessing.connection import Connection
from multiprocessing.managers import BaseManager
from pathlib import Path
from threading import Lock
from typing import TYPE_CHECKING, Any

from middleware.errors import FAULTS, PenstockError, in_words
from middleware.loading import raised_at
from service.answer import Answer, Asker
from service.chain import Step
from service.child import end_child, start_child
from service.errors import PipelineFailed, ProcessLost, SnapshotHeldBack
from service.own_code import doing_and_ways_on, speaks
from service.progress import Place, Progress
from service.runtime_directory import reachable
from service.sequencer import Question, Sequencer
from service.shared_file import SharedFile
from service.snapshot import Encoded, Snapshot

if TYPE_CHECKING:
    from multiprocessing.context import ForkServerProcess

log = logging.getLogger(__name__)

START_LIMIT = 60.0
"""Seconds a state host may take to restore its memory and listen."""

BATCH_RAISED = 70
"""Exit code when a shared ``handle_batch`` raised, so that its memory cannot be trusted."""


VERSIONS = 4
"""Chain versions of which the state host knows a step's parameters without being told again."""


class StateManager(BaseManager):
    """The manager whose one object is the sequencer."""


class HostedSequencer:
    """The sequencer as the manager serves it: it does not outlive a memory it cannot trust.

    Parameters may be large, so that each worker tells a step's only once for each chain version.
    """

    def __init__(self, sequencer: Sequencer, memory: SharedFile) -> None:
        """``memory`` is where snapshots are put."""
        self._sequencer = sequencer
        self._memory = memory
        self._unsent: Snapshot | None = None
        self._put = 0
        self._steps: dict[tuple[int, int], Step] = {}

    def ask(self, question: Question, *, whole: bool) -> Answer | None:
        """Return the answer of one step to one block.

        Unless the question is ``whole``, its step lacks the parameters. None: these are not known
        here, ask with them.
        """
        place = question.index, question.version
        if whole:
            self._learn(place, question.step)
        elif (step := self._steps.get(place)) is None:
            return None
        else:
            question = replace(question, step=step)
        try:
            return self._sequencer.ask(question)
        except PipelineFailed:
            raise
        except FAULTS as error:  # half a batch may be remembered: start again without it
            where = "" if isinstance(error, PenstockError) else f" (at {raised_at(error)})"
            print(  # noqa: T201 - stderr is this process's log
                f"{question.step.name}: handle_batch raised {in_words(error)}{where} at block "
                f"{question.block}; its events are asked one by one, by another state host that "
                "starts from the last snapshot, nothing is lost",
                file=sys.stderr,
                flush=True,
            )
            os._exit(BATCH_RAISED)

    def _learn(self, place: tuple[int, int], step: Step) -> None:
        index, _ = place
        self._steps.setdefault(place, step)
        known = sorted(each for each in list(self._steps) if each[0] == index)
        for older in known[:-VERSIONS]:
            self._steps.pop(older, None)  # another thread may be at it, too

    def put_snapshot(self, block: int) -> str | None:
        """Put the snapshot taken at a barrier into the file; raises KeyError if there is none.

        It may be asked for again until it was taken out. Returns why it could not be put, None
        once it was: what is raised here looks, on the other side, like the end of the process.
        """
        try:
            if self._put == block and not self._memory.empty:
                return None  # nobody has heard that it is there
            if self._unsent is None or self._unsent.block != block:
                self._unsent = self._sequencer.snapshot(block)
            self._memory.put(self._unsent.pieces())
        except (OSError, MemoryError) as error:
            return str(error) or type(error).__name__
        self._unsent, self._put = None, block
        return None


class StateClient:
    """A connection to one state host, from a worker or from the daemon."""

    def __init__(self, address: str, key: bytes) -> None:
        """Connect; raises ProcessLost."""
        StateManager.register("sequencer", exposed=("ask", "put_snapshot"))
        try:
            manager = StateManager(address=reachable(address), authkey=key)
            manager.connect()
            self._sequencer: Any = manager.sequencer()  # type: ignore[attr-defined]  # registered
        except (OSError, EOFError) as error:
            raise ProcessLost("the state host is gone") from error
        self._told: dict[int, int] = {}

    def ask(self, question: Question) -> Answer:
        """Return the answer; raises ProcessLost when the state host dies before it gives one."""
        answer: Answer | None = None
        try:
            if self._told.get(question.index) == question.version:
                brief = replace(question, step=question.step.nameplate)
                answer = self._sequencer.ask(brief, whole=False)
            if answer is None:
                answer = self._sequencer.ask(question, whole=True)
        except (OSError, EOFError) as error:
            raise ProcessLost("the state host is gone") from error
        self._told[question.index] = question.version
        assert answer is not None  # noqa: S101 - a whole question has an answer
        return answer

    def put_snapshot(self, block: int) -> None:
        """Have the snapshot taken at a barrier put into the shared file.

        Raises ProcessLost, and SnapshotHeldBack when there is no room for it now.
        """
        try:
            problem: str | None = self._sequencer.put_snapshot(block)
        except (OSError, EOFError, KeyError) as error:
            raise ProcessLost("the state host is gone, or has another generation") from error
        if problem is not None:
            raise SnapshotHeldBack(f"there is no room for what the steps remember: {problem}")


@dataclass(frozen=True, slots=True)
class StatePlan:
    """All a state host needs to know at its start."""

    address: str
    key: bytes
    steps: tuple[Step, ...]
    retries: int


class StateHost:
    """The daemon's side: starts one state host after the other, each a generation."""

    def __init__(self, folder: Path, steps: Sequence[Step], retries: int) -> None:
        self._folder = folder
        self.steps = steps
        self._retries = retries
        self.key = secrets.token_bytes(32)
        self.generation = 0
        self.address = ""
        self._listened = False
        """Whether the present generation did: only then there was a socket."""
        self._process: ForkServerProcess | None = None
        self._progress = Progress(0)
        self._memory: SharedFile | None = None
        """Where snapshots pass to the present generation, and from it; another has another one."""
        self._changing = Lock()

    def start(self, snapshot: Encoded | None) -> None:
        """Start a new generation from a snapshot and wait until it listens.

        Raises PipelineFailed when a middleware cannot be opened or restored, ProcessLost when the
        process dies on the way, OSError when there is none to be had.
        """
        self._progress = Progress(len(self.steps))
        memory = self._next_generation()
        memory.put([] if snapshot is None else [snapshot])
        self._process, pipe = start_child(
            "penstock-state",
            self._folder,
            "service.state_host:run_state_host",
            self._progress,
            memory,
        )
        plan = StatePlan(self.address, self.key, tuple(self.steps), self._retries)
        try:
            pipe.send(plan)
            if not speaks(pipe, "the state host", self.places, self.steps, START_LIMIT):
                what = doing_and_ways_on(self.places(), self.steps)
                raise PipelineFailed(f"the state host was not ready within {START_LIMIT:g} s{what}")
            problem = pipe.recv()
        except (EOFError, OSError) as error:
            how = f"exit code {self.wait()}"
            raise ProcessLost(f"the state host died while starting ({how})") from error
        finally:
            pipe.close()
        if problem is not None:
            raise PipelineFailed(f"the state host cannot start: {problem}")
        self._listened = True

    def snapshot(self, address: str, block: int) -> memoryview:
        """Return the encoded snapshot that the host at ``address`` took at a barrier.

        Raises ProcessLost, and SnapshotHeldBack when there is no room for it now.
        """
        try:
            StateClient(address, self.key).put_snapshot(block)
        except ProcessLost:
            if self.address == address and not Path(address).exists():
                self.kill()  # nobody reaches it any more; the next one has another socket
            raise
        with self._changing:
            if self._memory is None or address != self.address:
                raise ProcessLost("the state host is gone, and what it put in with it")
            return self._memory.take()

    def close(self) -> None:
        """Let go of what is shared; there is nothing to be had from here any more."""
        with self._changing:
            if self._memory is not None:
                self._memory.close()
            self._memory = None

    def _next_generation(self) -> SharedFile:
        self.close()
        if self._listened and not Path(self.address).exists():
            log.warning("%s: the state host's socket was removed by someone", self.address)
        self._listened = False
        self._folder.mkdir(mode=0o700, parents=True, exist_ok=True)
        with self._changing:
            self.generation += 1
            self.address = str(self._folder / f"state-{self.generation}")
            self._memory = SharedFile()
            return self._memory

    def wait(self) -> int:
        """Wait until the state host is dead; return its exit code."""
        assert self._process is not None  # noqa: S101 - started before it is waited for
        self._process.join()
        end_child(self._process)
        return self._process.exitcode or 0

    def kill(self) -> None:
        """End the process at once."""
        if self._process is not None:
            self._process.kill()

    @property
    def pid(self) -> int | None:
        """The process id, None before the first start."""
        return self._process.pid if self._process is not None else None

    def places(self) -> list[Place]:
        """Return where each step is, or was when the process died."""
        return list(self._progress.places())


def run_state_host(pipe: Connection, progress: Progress, memory: SharedFile) -> None:
    """Take the plan, restore the memory, then serve until killed."""
    try:
        plan: StatePlan = pipe.recv()
        hosted = HostedSequencer(_restored(plan, progress, memory), memory)
        StateManager.register("sequencer", lambda: hosted, exposed=("ask", "put_snapshot"))
        server = StateManager(address=reachable(plan.address), authkey=plan.key).get_server()
    except EOFError:
        return
    except Exception as error:  # noqa: BLE001 - told to the daemon, which ends with it
        known = isinstance(error, PenstockError)
        if not known or not isinstance(error.__cause__, PenstockError | None):
            traceback.print_exc()
        pipe.send(str(error) if known else in_words(error))
        return
    pipe.send(None)
    pipe.close()
    server.serve_forever()


def _restored(plan: StatePlan, progress: Progress, memory: SharedFile) -> Sequencer:
    """Return the sequencer as of the snapshot given, which takes no memory from then on."""
    askers = [Asker(progress.lane(index), plan.retries) for index in range(len(plan.steps))]
    snapshot = memory.take()
    return Sequencer(plan.steps, askers, Snapshot.decode(snapshot) if snapshot else None)
