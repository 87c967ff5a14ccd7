"""Measures chains of users: their own middleware, event by event, several steps, heavy ones."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any, Final

from benchmarks.contenders import CONFIG, Case, Run, configured, run_penstock
from benchmarks.events import write_events
from benchmarks.reference import write_kept
from benchmarks.report import Section, own_rate, table
from benchmarks.sizes import REPETITIONS, SHARE, say

EVENTS: Final = 2_000_000 // SHARE
BUSY_EVENTS: Final = 500 // SHARE

SINK: Final = '[[sink]]\nname = "kept"\nuse = "ndjson"\nparams = { path = "var/kept.ndjson" }\n'
FINE_BLOCKS: Final = '[block]\nbytes = "128B"\n[event]\nmax_event_bytes = "128B"\n'
"""Two events a block: with the usual blocks, a few slow events would all be one worker's."""

STEP: Final = '[[middleware]]\nname = "{name}"\nuse = "{use}"\n'
BLOCKLISTS: Final = "".join(
    f"{STEP.format(name=f'blocked-{number}', use='blocklist')}"
    f"params = {{ cids = {list(range(1_000 * number, 1_000 * number + 500))} }}\n"
    for number in range(4)
)
"""They look at every event and block none, so that the output is the one of ``adjacent``."""


def measure(folder: Path, dense: Case) -> Section:
    """Measure each chain with two workers, and the heavy one also with one."""
    say("chains")
    source = folder / "chains"
    write_events(source, EVENTS, 1_000_000)
    handle = _case(source, "third", lambda event: bool(event["cid"] % 3))
    shared = _case(source, "first", _first_of_each())
    own = "benchmarks.middleware"
    configurations = {
        "a user's `handle`": (handle, _chain(f"{own}.every_third:EveryThird")),
        "a user's `handle`, shared": (shared, _chain(f"{own}.first_of_each:FirstOfEach")),
        "`adjacent`": (dense, CONFIG.read_text()),
        "4 x `blocklist`, `adjacent`": (dense, f"{BLOCKLISTS}{CONFIG.read_text()}"),
    }
    runs: dict[str, list[Run]] = {name: [] for name in configurations}
    for _ in range(REPETITIONS):
        for number, (name, (case, text)) in enumerate(configurations.items()):
            config = configured(folder, f"chain-{number}", text)
            runs[name].append(run_penstock(case, 2, config))
    busy = _busy(folder, f"{_chain(f'{own}.busy:Busy')}{FINE_BLOCKS}")
    rates = {name: own_rate(found) for name, found in runs.items()}
    rows = [(name, f"{rate:,.0f}") for name, rate in rates.items()]
    rows += [(f"40 ms an event, workers: {count}", f"{rate:.1f}") for count, rate in busy.items()]
    one, five = rates["`adjacent`"], rates["4 x `blocklist`, `adjacent`"]
    figures = {
        "handle": rates["a user's `handle`"],
        "shared handle": rates["a user's `handle`, shared"],
        "five steps": five / one,
        "busy": busy[2] / busy[1],
    }
    return Section("Chains", table(("chain", "events/s by its own clock"), rows), figures)


def _busy(folder: Path, text: str) -> dict[int, float]:
    """Return the events/s by the number of workers."""
    source = folder / "busy"
    write_events(source, BUSY_EVENTS, 1_000)
    case = Case(folder, source, source, BUSY_EVENTS)  # it passes every event
    config = configured(folder, "chain-busy", text)
    return {workers: run_penstock(case, workers, config).own_rate or 0.0 for workers in (1, 2)}


def _case(source: Path, name: str, keep: Callable[[dict[str, Any]], bool]) -> Case:
    case = Case(source.parent, source, source.with_suffix(f".{name}"), EVENTS)
    write_kept(case.source, case.expected, keep)
    return case


def _first_of_each() -> Callable[[dict[str, Any]], bool]:
    seen: set[int] = set()

    def keep(event: dict[str, Any]) -> bool:
        before = len(seen)
        seen.add(event["cid"])
        return len(seen) > before

    return keep


def _chain(use: str) -> str:
    return f"{STEP.format(name='own', use=use)}{SINK}"
