"""The power goes at any moment: what was confirmed is there, and the answer is the one answer."""

from __future__ import annotations

import os
import random
from collections import Counter
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Final

import pytest

from service.chain import ChainVersion, Mode
from tests.faults.budget import faults
from tests.faults.recorded_disk import RecordedDisk
from tests.faults.simulated_daemon import SEGMENT, SimulatedDaemon
from tests.test_simulation import STEPS, sequentially

pytestmark = pytest.mark.timeout(3_600)

Pairs = list[tuple[int, float]]
Accepted = tuple[ChainVersion, list[bytes], Pairs]

ACTIONS: Final = 200
LOSSES: Final = 25
"""Losses of power in one recorded life."""


@dataclass
class Life:
    """What was done in one recorded life, and how much of it was confirmed when."""

    accepted: list[Accepted] = field(default_factory=list)
    confirmed: list[tuple[int, int]] = field(default_factory=list)
    """(changes of the disk, blocks): that many blocks were confirmed after that many changes."""

    def confirmed_at(self, change: int) -> int:
        return max((blocks for at, blocks in self.confirmed if at <= change), default=0)


@dataclass(frozen=True)
class Start:
    """How each life over a directory starts."""

    directory: Path
    durability: str
    segment: int

    def __call__(self) -> SimulatedDaemon:
        return SimulatedDaemon(
            self.directory,
            STEPS,
            checkpoint_size=400,
            durability=self.durability,
            segment=self.segment,
        )


def live(start: Start, choice: random.Random) -> tuple[Life, RecordedDisk]:
    """Start a daemon, then record what it does to the disk while it is given work."""
    start().stop()
    disk = RecordedDisk(start.directory)
    life = Life()
    chain = ChainVersion(1, STEPS)
    with disk.recording():
        daemon = start()
        for _ in range(ACTIONS):
            action = choice.choice(["submit"] * 4 + ["step"] * 10 + ["barrier", "switch"])
            match action:
                case "submit":
                    pairs = some_events(choice)
                    daemon.submit(as_lines(pairs))
                    life.accepted.append((chain, as_lines(pairs), pairs))
                    life.confirmed.append((len(disk.changes), len(life.accepted)))
                case "step":
                    daemon.step()
                case "barrier":
                    daemon.intake.place_barrier()
                case "switch":
                    name, mode = choice.choice(["adjacent", "wide"]), choice.choice(list(Mode))
                    daemon.switch(name, mode=mode, params=None, reset=False)
                    chain = chain.switched(name, mode=mode)
        daemon.crash()
    return life, disk


def some_events(choice: random.Random) -> Pairs:
    return [
        (choice.randrange(12), float(choice.randrange(120))) for _ in range(choice.randint(1, 5))
    ]


def as_lines(pairs: Pairs) -> list[bytes]:
    return [b'{"cid":%d,"time":%.1f}\n' % pair for pair in pairs]


def blocks_in(daemon: SimulatedDaemon, accepted: list[Accepted]) -> int:
    """Return how many of the accepted blocks a daemon knows; fails if that is no whole number."""
    events = daemon.totals.accepted
    for blocks in range(len(accepted) + 1):
        if sum(len(lines) for _, lines, _ in accepted[:blocks]) == events:
            return blocks
    raise AssertionError(f"{events} events are no beginning of what was accepted")


@pytest.mark.parametrize("durability", ["full", "normal"])
def test_a_loss_of_power_loses_nothing_that_was_promised(
    tmp_path: Path, durability: str, record_property: Callable[[str, Any], None]
) -> None:
    seen: Counter[str] = Counter()
    wanted = faults(300 if durability == "full" else 100)
    seed = 0
    while seen["losses"] < wanted:
        seed += 1
        choice = random.Random(seed)
        segment = choice.choice([SEGMENT, 100_000])
        start = Start(tmp_path / f"var-{seed}", durability, segment)
        life, disk = live(start, choice)
        for _ in range(min(LOSSES, wanted - seen["losses"])):
            at = choice.randrange(len(disk.changes) + 1)
            disk.lose_power(at, choice)
            where = f"seed {seed}, after change {at} of {len(disk.changes)}"
            daemon = start()
            daemon.drain()
            blocks = blocks_in(daemon, life.accepted)
            confirmed = life.confirmed_at(at)
            assert daemon.kept == sequentially(life.accepted[:blocks]), where
            assert blocks >= confirmed or durability == "normal", where
            pairs = some_events(choice)
            chain = daemon.intake.chain
            daemon.submit(as_lines(pairs))
            daemon.drain()
            after = [*life.accepted[:blocks], (chain, as_lines(pairs), pairs)]
            assert daemon.kept == sequentially(after), where
            daemon.crash()
            seen["losses"] += 1
            seen["unconfirmed survived"] += blocks > confirmed
            seen["confirmed lost"] += blocks < confirmed
            seen["something was accepted"] += confirmed > 0
    record_property("faults", dict(seen))
    assert seen["something was accepted"] > wanted // 2
    assert bool(seen["confirmed lost"]) == (durability == "normal")


def test_a_start_names_what_a_loss_of_power_took(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    start = Start(tmp_path / "var", "normal", SEGMENT)
    daemon = start()
    for number in range(3):
        daemon.submit([b'{"cid":%d,"time":1.0}\n' % number])
    daemon.crash()
    log = next((start.directory / "journal").glob("*-wal"))
    os.truncate(log, log.stat().st_size - 100)
    start().crash()
    start().stop()
    named = [each.getMessage() for each in caplog.records if "gone" in each.getMessage()]
    assert named == 2 * [
        "block 3 is gone, offsets 3.0 to 3.*: lost with the power, for it was not synced"
    ], "each start does, until a checkpoint lies after it"
    start().stop()
    assert len([each for each in caplog.records if "gone" in each.getMessage()]) == 2
