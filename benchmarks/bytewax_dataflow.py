"""The job as a dataflow of Bytewax, with one worker.

Its state is by key. An event's neighbours have other keys than the event itself, so the rule can
only be said with one key for all events: more workers would have nothing to do.

Usage: bytewax_dataflow.py INPUT OUTPUT
"""

from __future__ import annotations

import sys
from pathlib import Path

import bytewax.operators as op
import msgspec
from bytewax.connectors.files import FileSink, FileSource
from bytewax.dataflow import Dataflow
from bytewax.run import cli_main

from benchmarks.plain_script import NEVER, WINDOW, Event

Times = dict[int, float]

decode = msgspec.json.Decoder(Event).decode


def decide(times: Times | None, line: str) -> tuple[Times, tuple[str, ...]]:
    """Return the memory, and the line if it is kept."""
    times = {} if times is None else times
    event = decode(line)
    cid, time = event.cid, event.time
    before = times.get(cid, NEVER)
    near = max(before, times.get(cid - 1, NEVER), times.get(cid + 1, NEVER))
    if time > before:
        times[cid] = time
    return times, () if -WINDOW < time - near < WINDOW else (line,)


def main(source: Path, target: Path) -> None:
    """Keep what had nothing at its point or a neighbour in the last 300 s."""
    flow = Dataflow("suppress")
    lines = op.input("read", flow, FileSource(source))
    keyed = op.key_on("one_key", lines, lambda _: "all")
    op.output("write", op.stateful_flat_map("decide", keyed, decide), FileSink(target))
    cli_main(flow)


if __name__ == "__main__":
    main(Path(sys.argv[1]), Path(sys.argv[2]))
