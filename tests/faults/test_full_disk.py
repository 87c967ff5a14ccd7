"""A disk fills up: nothing new is taken, what was confirmed comes out, and with room it goes on."""

from __future__ import annotations

import os
import random
import shutil
import subprocess
from collections.abc import Iterator
from pathlib import Path
from typing import Final

import pytest

from tests.daemon.running import eventually
from tests.daemon.switched import Suppressor
from tests.faults.mortal_daemon import MortalDaemon
from tests.faults.producers import Producers

pytestmark = pytest.mark.timeout(300)

DISK: Final = 14 << 20
BALLAST: Final = 6 << 20
BODIES: Final = 450
"""Of 16 kB each, nearly all of which is kept: more than fits beside the ballast."""


@pytest.fixture
def disk(tmp_path: Path) -> Iterator[Path]:
    """Return a folder that is a small disk of its own."""
    mount, unmount = shutil.which("mount"), shutil.which("umount")
    if os.geteuid() != 0 or mount is None or unmount is None:
        pytest.skip("only root can mount a small disk")
    folder = tmp_path / "disk"
    folder.mkdir()
    options = ["-t", "tmpfs", "-o", f"size={DISK}", "tmpfs", str(folder)]
    if subprocess.run([mount, *options], check=False, timeout=30).returncode:
        pytest.skip("a small disk cannot be mounted here")
    yield folder
    subprocess.run([unmount, str(folder)], check=True, timeout=30)


def bodies() -> list[bytes]:
    """Return bodies of events, so far apart in space and time that all but a few are kept."""
    choice = random.Random(3)
    return [
        b"".join(
            b'{"cid":%d,"time":%d,"n":%d}\n' % (10 * choice.randrange(5_000), 1_000 * body, row)
            for row in range(500)
        )
        for body in range(BODIES)
    ]


def suppressed(confirmed: bytes) -> bytes:
    # Two producers: what comes late may meet what the suppressor was to forget by then.
    suppressor = Suppressor(window=300.0)
    return b"".join(line for line in confirmed.splitlines(keepends=True) if suppressor.passes(line))


@pytest.mark.parametrize("reserve", ["1500KiB", 1], ids=["with a reserve", "to the last byte"])
def test_a_full_disk_refuses_what_is_new_and_keeps_what_was_confirmed(
    tmp_path: Path, disk: Path, reserve: str | int
) -> None:
    (disk / "ballast").write_bytes(bytes(BALLAST))
    (tmp_path / "kept.ndjson").symlink_to(disk / "kept.ndjson")
    state = {"directory": str(disk / "var"), "reserve": reserve}
    bounds = {"retention_bytes": "1MiB", "retention_age": 0, "checkpoint_bytes": "512KiB"}
    daemon = MortalDaemon(
        tmp_path,
        middleware=[{"name": "adjacent", "use": "adjacent"}],
        sink=[{"name": "kept", "use": "ndjson", "params": {"path": str(disk / "kept.ndjson")}}],
        state=state | bounds,
        queue={"bytes": "256KiB"},
        block={"bytes": "64KiB"},
        event={"max_event_bytes": "4KiB"},
    )
    try:
        producers = Producers(daemon.port, bodies(), threads=2)
        try:
            producers.wait_for_refusal(507)
            assert not producers.done
            if reserve != 1:  # else what is on its way out may have to wait for room as well
                eventually(lambda: daemon.running.stats()["in_flight"] == 0, "all is emitted", 60)
            (disk / "ballast").unlink()
            producers.wait_for(BODIES)
        finally:
            producers.stop()
        stats = daemon.finish(producers, suppressed)
        assert stats["emitted"] * 30 > BALLAST
        assert daemon.running.stop() == 0
    finally:
        daemon.end()
