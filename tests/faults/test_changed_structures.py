"""However a life ends, the next one may have another chain: nothing that was confirmed is lost.

Lives over one directory, each with another structure, in one process with real workers: stopped,
stopped at once, killed, killed while the one before is finished, with checkpoints that fail or are
slow, the last block being a barrier or not. What comes out is what one loop makes of all that was
confirmed, each event under the structure it was accepted under.
"""

from __future__ import annotations

import errno
import json
import os
import random
import shutil
from collections import Counter
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from itertools import count
from pathlib import Path
from typing import Any, Final
from unittest.mock import patch

import pytest

from service.block import Submission
from service.checkpoint import Checkpoint, CheckpointFiles
from service.dead_letter_file import DeadLetterFile
from service.errors import Interrupted, PipelineFailed
from service.finishing import finished, storage_to_start
from service.pipeline import Pipeline
from service.settings import Settings
from service.signals import Stop
from service.state_directory import Storage
from tests.faults.budget import faults
from tests.faults.one_process import put_back
from tests.faults.stuck_sink import OPEN

pytestmark = pytest.mark.timeout(3_600)

ASKED: Final = 3
"""So often a finishing asks whether to go on until it is told not to."""

LIMIT: Final = 30.0
"""Seconds that anything may take."""

BLOCKED: Final = {"name": "blocked", "use": "blocklist", "params": {"cids": [7]}}
ADJACENT: Final = {"name": "adjacent", "use": "adjacent"}
STRUCTURES: Final = ((), (ADJACENT,), (BLOCKED, ADJACENT), (ADJACENT, BLOCKED), (BLOCKED,))
STOPS: Final = ("stopped", "stopped at once", "killed")
FINISHINGS: Final = ("well", "well", "killed after its barrier", "failing", "slow", "told to stop")
ALL_KINDS: Final = {*STOPS, *(f"finishing: {how}" for how in FINISHINGS)}


class ToldToStop(Stop):
    """Told to stop in the midst of it, by how often that is asked."""

    def __init__(self) -> None:
        super().__init__()
        self._asked = 0

    @property
    def asked(self) -> bool:
        self._asked += 1
        return self._asked > ASKED


class Reference:
    """What one loop makes of the events, whose memory lasts while its step is in the chain."""

    def __init__(self) -> None:
        self.kept: list[bytes] = []
        self._latest: dict[int, float] = {}
        self._structure: list[str] = []

    def structured(self, structure: tuple[dict[str, Any], ...]) -> None:
        """Go on with another structure, which holds from here on."""
        self._structure = [step["name"] for step in structure]
        if "adjacent" not in self._structure:
            self._latest = {}

    def take(self, lines: list[bytes]) -> None:
        self.kept += [line for line in lines if all(map(self._passes(line), self._structure))]

    def _passes(self, line: bytes) -> Callable[[str], bool]:
        event = json.loads(line)
        return lambda name: event["cid"] != 7 if name == "blocked" else self._is_new(**event)

    def _is_new(self, cid: int, time: float) -> bool:
        near = [self._latest[c] for c in (cid - 1, cid, cid + 1) if c in self._latest]
        self._latest[cid] = max(time, self._latest.get(cid, time))
        return not near or not -300 < time - max(near) < 300


class Lives:
    """One directory, and the lives over it."""

    def __init__(self, directory: Path, choice: random.Random) -> None:
        self.directory = directory
        self.choice = choice
        self.reference = Reference()
        self.structure: tuple[dict[str, Any], ...] | None = None
        self.time = 0.0
        self.seen: Counter[str] = Counter()

    def settings(self, structure: tuple[dict[str, Any], ...]) -> Settings:
        sink = {"path": self.directory / "kept.ndjson"}
        return Settings.model_validate(
            {
                "middleware": structure,
                "sink": [
                    {"name": "kept", "use": "tests.faults.stuck_sink:StuckSink", "params": sink}
                ],
                "workers": {"count": 1},
                "state": {"directory": self.directory / "var", "reserve": 1},
                "block": {"linger": 0},
            }
        )

    def opened(self, structure: tuple[dict[str, Any], ...], finishing: str) -> Storage:
        """Start as a daemon does; raises PipelineFailed or Interrupted when it does not."""
        stop = ToldToStop() if finishing == "told to stop" else Stop()

        def counted(*arguments: Any) -> Storage:
            self.seen[f"finishing: {finishing}"] += 1
            return finished(*arguments)

        with FINISHED[finishing](self), patch("service.finishing.finished", counted):
            return storage_to_start(
                self.settings(structure),
                DeadLetterFile(self.directory / "dead"),
                stop,
            )

    def live(self, structure: tuple[dict[str, Any], ...], stop: str, finishing: str) -> bool:
        """Live one life, and end it; False when its start was refused."""
        OPEN.set()
        before = self.directory.with_name("killed")
        try:
            storage = self.opened(structure, finishing)
        except (Interrupted, PipelineFailed):
            if before.exists():
                put_back(before, self.directory)
            return False
        self.structure = structure
        self.reference.structured(structure)
        pipeline = Pipeline(self.settings(structure), storage, lambda: None)
        try:
            pipeline.start()
            assert pipeline.wait_until(lambda: pipeline.ready, lambda: True)
            if stop != "stopped":
                OPEN.clear()
            for _ in range(self.choice.randrange(4)):
                self.accept(pipeline)
                if self.choice.random() < 0.4:
                    pipeline.checkpoint()
            drained = stop == "stopped" and pipeline.drain(lambda: True)
            if stop == "killed":
                self.copy_to(before)
        finally:
            pipeline.stop()
        pipeline.check()
        assert drained == (stop == "stopped")
        if stop == "killed":
            put_back(before, self.directory)
        self.seen[stop] += 1
        return True

    def accept(self, pipeline: Pipeline) -> None:
        """Have some events confirmed."""
        lines = []
        for _ in range(self.choice.randrange(1, 6)):
            self.time += self.choice.choice((1, 50, 301))
            event = {"cid": self.choice.randrange(5, 10), "time": self.time}
            lines.append(json.dumps(event).encode() + b"\n")
        data = b"".join(lines)
        submission = Submission("test", data, len(lines), 1, 1.8e9, None, patient=False)
        pipeline.queue.submit(submission, limit=0).result(LIMIT)
        self.reference.take(lines)

    def copy_to(self, folder: Path) -> None:
        """Keep the directory as a kill would leave it now, but for sockets."""
        shutil.copytree(self.directory, folder, ignore=shutil.ignore_patterns("run-*"))

    @contextmanager
    def killed_after_its_barrier(self) -> Iterator[None]:
        def killed(files: CheckpointFiles, checkpoint: Checkpoint) -> None:
            del files, checkpoint
            if not self.directory.with_name("killed").exists():
                self.copy_to(self.directory.with_name("killed"))
            raise OSError(errno.EINTR, "killed")

        with self.limited(), patch.object(CheckpointFiles, "save", killed):
            yield

    @contextmanager
    def failing(self) -> Iterator[None]:
        def full(files: CheckpointFiles, checkpoint: Checkpoint) -> None:
            del files, checkpoint
            raise OSError(errno.EFBIG, "File too large")

        with self.limited(), patch.object(CheckpointFiles, "save", full):
            yield

    @contextmanager
    def limited(self) -> Iterator[None]:
        """No checkpoint is there within its limit."""
        with (
            patch("service.pipeline.CHECKPOINT_LIMIT", 0.0),
            patch("service.saving.SAVE_AGAIN", 0.0),
        ):
            yield

    @contextmanager
    def well(self) -> Iterator[None]:
        yield


FINISHED: Final = {
    "well": Lives.well,
    "told to stop": Lives.well,
    "slow": Lives.limited,
    "failing": Lives.failing,
    "killed after its barrier": Lives.killed_after_its_barrier,
}


def test_nothing_confirmed_is_lost_however_a_life_ends_and_whatever_the_next_chain_is(
    tmp_path: Path, record_property: Callable[[str, object], None]
) -> None:
    seen: Counter[str] = Counter()
    wanted = faults(4)
    for seed in count():
        if seed >= wanted and seen.keys() >= ALL_KINDS:
            break  # however few are wanted, each kind is among them
        choice = random.Random(seed)
        lives = Lives(tmp_path / str(seed) / "life", choice)
        lives.directory.mkdir(parents=True)
        for number in range(5 * seed, 5 * seed + 5):
            structure = choice.choice([each for each in STRUCTURES if each != lives.structure])
            finishing = FINISHINGS[number % len(FINISHINGS)]
            lives.live(structure, choice.choice(STOPS), finishing)
        assert lives.live((), "stopped", "well")
        kept = (lives.directory / "kept.ndjson").read_bytes()
        assert kept == b"".join(lives.reference.kept), f"seed {seed}: {dict(lives.seen)}"
        seen += lives.seen
    record_property("faults", dict(seen))


@pytest.mark.parametrize("first", ["stopped", "killed"])
def test_a_checkpoint_that_was_moved_past_confirmed_blocks_is_put_back(
    tmp_path: Path, first: str, caplog: pytest.LogCaptureFixture
) -> None:
    """As earlier versions moved it, and cut the file; the journal still holds all of it."""
    lives = Lives(tmp_path / "life", random.Random(3))
    lives.directory.mkdir()
    for stop in (first, "killed"):
        before = len(lives.reference.kept)
        while len(lives.reference.kept) == before:
            assert lives.live((ADJACENT,), stop, "well")
    with patch.object(Storage, "unfinished", lambda *_: False):
        storage = lives.opened((BLOCKED, ADJACENT), "well")
    storage.commit()
    storage.journal.close()
    assert storage.recovered.checkpoint is not None
    os.truncate(
        lives.directory / "kept.ndjson", storage.recovered.checkpoint.sinks["kept"]["length"]
    )
    assert lives.live((BLOCKED, ADJACENT), "stopped", "well")
    assert "are still in the journal, and are emitted now" in caplog.text
    kept = (lives.directory / "kept.ndjson").read_bytes()
    assert kept == b"".join(lives.reference.kept)
