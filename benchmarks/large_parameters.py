"""Measures what a block costs when a step's parameters are large.

    python -m benchmarks.large_parameters

Blocks of one event each go through ``penstock process`` with a blocklist. The time of a short run
is taken from that of a long one, so that only what each further block costs is left.
"""

from __future__ import annotations

import json
import subprocess
import sys
import tempfile
import time
from pathlib import Path
from statistics import median
from typing import Final

from benchmarks.contenders import PENSTOCK

BLOCKED: Final = (1, 100_000)
"""How many points the blocklist has."""

SHORT: Final = 2_000
LONG: Final = 12_000
"""Blocks in the two runs."""

RUNS: Final = 3


def main() -> None:
    """Print the milliseconds a block takes, by the size of the blocklist."""
    with tempfile.TemporaryDirectory(prefix="penstock-benchmarks-") as name:
        folder = Path(name)
        for points in BLOCKED:
            configuration = _configuration(folder, points)
            short, long = (
                median(_seconds(folder, configuration, blocks) for _ in range(RUNS))
                for blocks in (SHORT, LONG)
            )
            each = (long - short) / (LONG - SHORT)
            print(f"{points:>9,} blocked points: {each * 1000:.3f} ms a block of one event")


def _configuration(folder: Path, points: int) -> Path:
    path = folder / f"{points}.toml"
    path.write_text(
        "event = { max_event_bytes = 60 }\n"
        "block = { bytes = 60 }\n"
        "state = { durability = 'off' }\n"
        "[[middleware]]\nname = 'block'\nuse = 'blocklist'\n"
        f"params = {{ cids = {json.dumps(list(range(points)))} }}\n"
        "[[sink]]\nname = 'kept'\nuse = 'ndjson'\nparams = { path = 'kept.ndjson' }\n"
    )
    return path


def _seconds(folder: Path, configuration: Path, blocks: int) -> float:
    events = folder / f"{blocks}.ndjson"
    with events.open("w") as file:
        file.writelines(f'{{"cid": {10**6 + row}, "time": {row}.5}}\n' for row in range(blocks))
    began = time.perf_counter()
    subprocess.run(
        [PENSTOCK, "process", events, "--output", folder / "kept", "--config", configuration],
        check=True,
        stderr=subprocess.DEVNULL,
    )
    seconds = time.perf_counter() - began
    if (folder / "kept").read_bytes() != events.read_bytes():
        sys.exit("penstock kept something else than all events")
    return seconds


if __name__ == "__main__":
    main()
