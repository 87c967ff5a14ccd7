"""The core over real files, in one thread, with every choice made by hypothesis, crashes included.

Accepted, switched, answered, emitted, saved, failed, crashed and started again in any order: the
sink holds, byte for byte, what one loop over the accepted events gives.
"""

from __future__ import annotations

import shutil
import tempfile
from collections import Counter
from collections.abc import Callable
from pathlib import Path
from typing import Any, ClassVar
from unittest.mock import patch

import pytest
from hypothesis import HealthCheck, settings
from hypothesis import strategies as st
from hypothesis.stateful import (
    RuleBasedStateMachine,
    initialize,
    precondition,
    rule,
    run_state_machine_as_test,
)

from service.block import Offset
from service.chain import ChainVersion
from service.errors import KeyReused
from tests.faults.budget import faults
from tests.faults.simulated_daemon import SimulatedDaemon
from tests.test_simulation import STEPS, Switch, events, sequentially, switches

pytestmark = pytest.mark.timeout(3_600)

Pairs = list[tuple[int, float]]


def as_lines(pairs: Pairs) -> list[bytes]:
    return [b'{"cid":%d,"time":%.1f}\n' % pair for pair in pairs]


class Crashes(RuleBasedStateMachine):
    """A daemon in all its lives, and what it has accepted in them."""

    injected: ClassVar[Counter[str]] = Counter()

    def __init__(self) -> None:
        super().__init__()
        self.directory = Path(tempfile.mkdtemp(prefix="penstock-crashes-"))
        self.accepted: list[tuple[ChainVersion, list[bytes], Pairs]] = []
        self.keys: dict[str, tuple[Offset, list[bytes], Pairs]] = {}
        self.chain = ChainVersion(1, STEPS)
        self.next_block = 1

    @initialize(workers=st.integers(1, 3), checkpoint_size=st.sampled_from([1, 150, 1 << 30]))
    def start(self, workers: int, checkpoint_size: int) -> None:
        self.workers, self.checkpoint_size = workers, checkpoint_size
        self._live()

    def _live(self) -> None:
        self.daemon = SimulatedDaemon(
            self.directory / "var",
            STEPS,
            workers=self.workers,
            checkpoint_size=self.checkpoint_size,
        )

    # ---- what producers and operators do

    @rule(pairs=events, keyed=st.booleans())
    def accept(self, pairs: Pairs, keyed: bool) -> None:
        self._accept(f"key {len(self.keys)}" if keyed else None, as_lines(pairs), pairs)

    @rule(batches=st.lists(events, min_size=2, max_size=5))
    def accept_several(self, batches: list[Pairs]) -> None:
        for pairs in batches:
            self._accept(None, as_lines(pairs), pairs)

    def _accept(self, key: str | None, lines: list[bytes], pairs: Pairs) -> None:
        receipt = self.daemon.submit(lines, key)
        assert not receipt.repeated
        assert receipt.first == Offset(self.next_block, 0)
        self.next_block += 1
        self.accepted.append((self.chain, lines, pairs))
        if key is not None:
            self.keys[key] = (receipt.first, lines, pairs)

    @precondition(lambda self: self.keys)
    @rule(data=st.data())
    def come_again_under_a_key(self, data: st.DataObject) -> None:
        key = data.draw(st.sampled_from(list(self.keys)), label="key")
        first, lines, pairs = self.keys[key]
        if self.daemon.remembers(first.block):
            receipt = self.daemon.submit(lines, key)
            assert (receipt.repeated, receipt.first) == (True, first)
            with pytest.raises(KeyReused):
                self.daemon.submit([*lines, lines[0]], key)
        else:
            self._accept(key, lines, pairs)

    @rule(switch=switches)
    def switch(self, switch: Switch) -> None:
        changes: dict[str, Any] = {
            "mode": switch.mode,
            "params": None if switch.window is None else {"window": switch.window},
            "reset": switch.reset,
        }
        switched = self.daemon.switch(switch.name, **changes)
        self.chain = self.chain.switched(switch.name, **changes)
        assert [step.mode for step in switched.steps] == [step.mode for step in self.chain.steps]

    @rule()
    def want_a_checkpoint(self) -> None:
        if self.daemon.intake.place_barrier() is not None:
            self.next_block += 1

    # ---- what the daemon does

    @precondition(lambda self: self.daemon.runnable())
    @rule(data=st.data(), dies=st.booleans())
    def work(self, data: st.DataObject, dies: bool) -> None:
        link = data.draw(st.sampled_from(self.daemon.runnable()), label="worker")
        self.injected["worker"] += dies
        self.daemon.run(link, dies=dies)

    @rule()
    def emit(self) -> None:
        self.daemon.emit()

    @rule()
    def save_a_checkpoint(self) -> None:
        self.daemon.save_checkpoint()

    @rule(steps=st.integers(1, 30))
    def go_on(self, steps: int) -> None:
        for _ in range(steps):
            self.daemon.step()

    # ---- what happens to it

    @rule()
    def the_state_host_dies(self) -> None:
        self.injected["state host"] += 1
        self.daemon.kill_state_host()

    @rule(times=st.integers(1, 3))
    def the_sink_fails(self, times: int) -> None:
        self.injected["sink"] += 1
        self.daemon.sink.failures = times

    @rule(half=st.binary(max_size=20))
    def crash(self, half: bytes) -> None:
        """Be killed, the sink having got ``half`` of a write."""
        self.injected["crash"] += 1
        self.daemon.crash()
        with (self.directory / "var" / "kept.ndjson").open("ab") as kept:
            kept.write(half)
        self._live()

    @rule(half=st.binary(max_size=20))
    def crash_before_a_checkpoint_has_its_name(self, half: bytes) -> None:
        self.injected["crash"] += 1
        self.daemon.crash()
        (self.directory / "var" / "checkpoints" / "9.unfinished").write_bytes(half)
        self._live()

    @rule()
    def restart(self) -> None:
        before = self.daemon.dispatcher.blocks_since_barrier
        self.daemon.stop()
        self.next_block += before > 0
        self._live()

    def teardown(self) -> None:
        try:
            self.daemon.drain()
            assert self.daemon.kept == sequentially(self.accepted)
            totals = self.daemon.totals
            assert totals.accepted == sum(len(lines) for _, lines, _ in self.accepted)
            assert totals.accepted == totals.emitted + sum(totals.dropped.values()) + totals.dead
            assert totals.emitted == self.daemon.kept.count(b"\n")
            assert totals.in_flight == totals.dead == 0
        finally:
            self.daemon.crash()
            shutil.rmtree(self.directory)


def test_crashes_at_any_step_change_no_byte(
    record_property: Callable[[str, object], None],
) -> None:
    Crashes.injected = Counter()
    with patch("os.fsync", lambda _: None):  # nothing here loses its power: that takes only time
        run_state_machine_as_test(
            Crashes,
            settings=settings(
                max_examples=faults(100),
                stateful_step_count=40,
                deadline=None,
                suppress_health_check=list(HealthCheck),
            ),
        )
    record_property("faults", dict(Crashes.injected))
    assert all(Crashes.injected[kind] for kind in ("crash", "worker", "state host", "sink"))
    assert Crashes.injected.total() >= faults(100)
