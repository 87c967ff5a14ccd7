"""One file of a crashed daemon's state is damaged: the start is right or refused, a repair exact.

Refused: the message names the file and nothing is written. After ``penstock journal repair``, what
is emitted again is all but the events of the blocks that the repair named.
"""

from __future__ import annotations

import random
import re
import signal
from collections import Counter
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Final
from unittest.mock import patch

import pytest

from service.chain import ChainVersion
from service.checkpoint import CheckpointFiles
from service.errors import PipelineFailed
from service.journal import inspection
from tests.conftest import Command, StartDaemon
from tests.daemon.running import RunningDaemon
from tests.daemon.switched import parse_offset
from tests.faults.budget import faults
from tests.faults.posting import some_events
from tests.faults.simulated_daemon import SEGMENT, SimulatedDaemon
from tests.journal import damage
from tests.sequential import sequential
from tests.test_simulation import STEPS, sequentially

pytestmark = pytest.mark.timeout(3_600)

Pairs = list[tuple[int, float]]
KINDS: Final = ("journal", "journal", "high-water", "checkpoint")


@dataclass
class Copy:
    """A folder as a crash left it, of which one file after the other is damaged."""

    folder: Path
    state: Path

    def __post_init__(self) -> None:
        self._original = self.folder.with_name("original")
        damage.crashed(self.folder, self._original)

    def damage(self, random: random.Random) -> tuple[str, Path]:
        """Bring everything back and damage one file; return what kind of file, and which."""
        while True:
            damage.crashed(self._original, self.folder)
            kind = random.choice(KINDS)
            path = random.choice(self._files(kind))
            before = path.read_bytes()
            damage.at_random(path, random)
            if path.read_bytes() != before:
                return kind, path

    @property
    def checkpoint(self) -> int:
        """The block after which a start goes on."""
        found = CheckpointFiles(self.state / "checkpoints").load()
        assert found is not None
        return found.block

    def _files(self, kind: str) -> list[Path]:
        if kind == "checkpoint":
            return damage.files(self.state / "checkpoints")
        files = damage.files(self.state / "journal")
        return [path for path in files if (path.name == "high-water") == (kind == "high-water")]


def names(message: str, kind: str, path: Path) -> bool:
    """Say whether a message names the damaged file, and for the journal the entries or blocks."""
    if kind != "journal":
        return f"{path.parent.name}/{path.name}" in message
    segment = path.name.removesuffix("-wal")
    return segment in message or "missing before it" in message


def gone_in(findings: list[inspection.Finding]) -> set[int]:
    return {block for each in findings for block in range(each.blocks[0], each.blocks[1] + 1)}


@pytest.mark.parametrize("segment", [SEGMENT, 100_000], ids=["many segments", "one segment"])
def test_a_repair_loses_exactly_the_blocks_that_it_names(
    tmp_path: Path, segment: int, record_property: Callable[[str, object], None]
) -> None:
    seen: Counter[str] = Counter()
    with patch("os.fsync", lambda _: None):  # nothing loses its power here
        accepted = live(tmp_path / "var", segment)
        copy = Copy(tmp_path / "var", tmp_path / "var")
        for seed in range(faults(100)):
            kind, path = copy.damage(random.Random(seed))
            outcome = start_and_repair(copy, segment, accepted, kind, path)
            seen[f"{kind}: {outcome}"] += 1
    record_property("faults", dict(seen))
    assert seen.total() == faults(100)
    assert seen["journal: repaired"] >= faults(100) // 10
    assert seen["high-water: repaired"]
    assert seen["checkpoint: right"]


def live(directory: Path, segment: int) -> dict[int, tuple[ChainVersion, list[bytes], Pairs]]:
    """Let a daemon accept, emit and save, then crash; return what it accepted by block."""
    choice = random.Random(3)
    chain = ChainVersion(1, STEPS)
    daemon = SimulatedDaemon(directory, STEPS, checkpoint_size=1_200, segment=segment)
    accepted = {}
    for number in range(30):
        pairs = [(choice.randrange(12), float(choice.randrange(120))) for _ in range(5)]
        lines = [b'{"cid":%d,"time":%.1f}\n' % pair for pair in pairs]
        receipt = daemon.submit(lines, f"key {number}")
        accepted[receipt.first.block] = (chain, lines, pairs)
        for _ in range(choice.randrange(5)):
            daemon.step()
    daemon.crash()
    return accepted


def start_and_repair(
    copy: Copy,
    segment: int,
    accepted: dict[int, tuple[ChainVersion, list[bytes], Pairs]],
    kind: str,
    path: Path,
) -> str:
    """Start, and if that is refused repair and start again; return how it went."""
    where = f"{kind} {path}"
    kept = (copy.folder / "kept.ndjson").read_bytes()
    outcome = "right"
    lost: set[int] = set()
    daemon = started(copy, segment)
    if isinstance(daemon, str):
        assert names(daemon, kind, path), f"{where}: {daemon}"
        assert (copy.folder / "kept.ndjson").read_bytes() == kept, where
        journal = copy.state / "journal"
        assert not inspection.verify(journal).clean, f"{where}: {daemon}"
        findings = inspection.repair(journal, copy.state / "aside")
        assert inspection.verify(journal).clean, where
        lost = {block for block in gone_in(findings) if block > copy.checkpoint}
        outcome = "repaired"
        daemon = started(copy, segment)
        assert isinstance(daemon, SimulatedDaemon), f"{where}: repaired, and yet: {daemon}"
    daemon.drain()
    left = [each for block, each in accepted.items() if block not in lost]
    assert daemon.kept == sequentially(left), f"{where}: {outcome}, {lost} lost"
    last = daemon.submit([b'{"cid":900,"time":1.0}\n']).first.block
    assert last > max(accepted), f"{where}: a number is given again"
    daemon.drain()
    assert daemon.kept.endswith(b'{"cid":900,"time":1.0}\n'), where
    daemon.crash()
    return outcome


def started(copy: Copy, segment: int) -> SimulatedDaemon | str:
    """Start; return the message of one that cannot."""
    try:
        return SimulatedDaemon(copy.folder, STEPS, segment=segment)
    except PipelineFailed as error:
        return str(error)


BODIES: Final = 24
CONFIG: Final = ("--config", "penstock.toml")


def test_a_daemon_starts_right_or_says_what_to_do_and_then_starts(
    start_daemon: StartDaemon,
    penstock: Command,
    tmp_path: Path,
    record_property: Callable[[str, object], None],
) -> None:
    (tmp_path / "work").mkdir()
    tables = {
        "middleware": [{"name": "adjacent", "use": "adjacent"}],
        "state": {"directory": "work/var", "checkpoint_bytes": "16KiB", "reserve": 1},
        "sink": [{"name": "kept", "use": "ndjson", "params": {"path": "work/kept.ndjson"}}],
    }
    daemon = start_daemon(**tables)
    accepted: dict[int, bytes] = {}
    for number in range(BODIES):
        body = some_events(number, 40)
        accepted[parse_offset(daemon.accept(body)["first"])[0]] = body
    killed(daemon)
    copy = Copy(tmp_path / "work", tmp_path / "work" / "var")
    assert 0 < copy.checkpoint < max(accepted)
    seen: Counter[str] = Counter()
    wanted = faults(8)
    for seed in range(wanted):
        kind, path = copy.damage(random.Random(seed))
        where = f"seed {seed}: {kind} {path}"
        daemon = start_daemon(ready=False, **tables)
        lost: set[int] = set()
        outcome = "right"
        if not came_up(daemon):
            assert names(daemon.log, kind, path), f"{where}: {daemon.log}"
            assert "Traceback" not in daemon.log, where
            assert kind != "checkpoint", where
            assert penstock("journal", "verify", *CONFIG).returncode == 1, where
            repaired = penstock("journal", "repair", *CONFIG)
            assert repaired.returncode == 0, f"{where}: {repaired.stderr!r}"
            gone = gone_according_to(repaired.stdout.decode())
            lost = {block for block in gone if block > copy.checkpoint}
            assert penstock("journal", "verify", *CONFIG).returncode == 0, where
            outcome = "repaired"
            daemon = start_daemon(**tables)
        left = b"".join(body for block, body in accepted.items() if block not in lost)
        daemon.settle()
        kept = (copy.folder / "kept.ndjson").read_bytes()
        assert kept == sequential(left.splitlines(keepends=True)), f"{where}: {lost} lost"
        killed(daemon)
        seen[f"{kind}: {outcome}"] += 1
    record_property("faults", dict(seen))
    assert seen.total() == wanted
    assert seen["journal: repaired"]


def came_up(daemon: RunningDaemon) -> bool:
    """Wait until a daemon is ready, or has ended because it cannot start."""
    try:
        daemon.wait_until_ready()
    except AssertionError:
        assert daemon.wait() == 1, daemon.log
        return False
    return True


def killed(daemon: RunningDaemon) -> None:
    daemon.signal(signal.SIGKILL)
    assert daemon.wait() == -signal.SIGKILL


def gone_according_to(output: str) -> set[int]:
    """Return the blocks that a repair says are gone."""
    gone: set[int] = set()
    for first, last in re.findall(r"the events of blocks? (\d+)(?: to (\d+))? \(", output):
        gone |= set(range(int(first), int(last or first) + 1))
    return gone
