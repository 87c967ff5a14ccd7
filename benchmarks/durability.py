"""Measures what it costs that nothing confirmed is lost: `process`, ingest, and its latency."""

from __future__ import annotations

from pathlib import Path
from statistics import median
from typing import Final

from benchmarks import contenders
from benchmarks.contenders import CONFIG, Case
from benchmarks.events import write_lone_events
from benchmarks.ingest import ingest, latency
from benchmarks.report import Section, own_rate, table
from benchmarks.sizes import QUICK, REPETITIONS, SHARE, say

DURABILITIES: Final = ("full", "off")
MEGABYTE: Final = 23_000
"""Events of about 43 bytes in one post of 1 MB."""

MANY_EVENTS: Final = 1_000_000 // SHARE
"""Events posted in large posts; so that two clients may post them in any order, all are kept."""

SINGLE_EVENTS: Final = 8_000 // SHARE
PACE: Final = 1_000.0
"""Posts a second while latency is measured."""

PACED_EVENTS: Final = 2_000 if QUICK else 8_000


def measure(folder: Path, dense: Case) -> Section:
    """Measure over ``dense``, and over events that are all kept."""
    say("durability")
    process = _process_rates(folder, dense)
    lone = lone_events(folder, "single", SINGLE_EVENTS)
    many = lone_events(folder, "many", MANY_EVENTS)
    large: dict[str, list[float]] = {each: [] for each in DURABILITIES}
    kept: dict[str, list[float]] = {each: [] for each in DURABILITIES}
    single: dict[str, list[float]] = {each: [] for each in DURABILITIES}
    for _ in range(REPETITIONS):
        for each in DURABILITIES:
            large[each].append(ingest(dense, MEGABYTE, 1, each))
            kept[each].append(ingest(many, MEGABYTE, 2, each))
            single[each].append(ingest(lone, 1, 8, each))
    paced = lone_events(folder, "paced", PACED_EVENTS)
    took = latency(folder, paced.source, PACE)
    rates = {
        "`process`, 2 workers, by its own clock": process,
        "posts of 1 MB, 1 client": {each: median(large[each]) for each in DURABILITIES},
        "posts of 1 MB, 2 clients, all kept": {each: median(kept[each]) for each in DURABILITIES},
        "posts of one event, 8 clients": {each: median(single[each]) for each in DURABILITIES},
    }
    rows = [
        (what, *(f"{found[each]:,.0f}" for each in DURABILITIES), f"{_ratio(found):.0%}")
        for what, found in rates.items()
    ]
    text = (
        f"{table(('events/s', 'full', 'off', 'full to off'), rows)}\n"
        f"- From the post to the line in the sink's file, {PACE:,.0f} posts a second of one event, "
        f"durability full: p50 {1000 * took.p50:.1f} ms, p99 {1000 * took.p99:.1f} ms\n"
    )
    figures = {
        "process full to off": _ratio(process),
        "ingest large": median(large["full"]),
        "ingest large full to off": median(large["full"]) / median(large["off"]),
        "ingest single": median(single["full"]),
        "latency p50": took.p50,
        "latency p99": took.p99,
    }
    return Section("Durability", text, figures)


def _process_rates(folder: Path, case: Case) -> dict[str, float]:
    runs: dict[str, list[contenders.Run]] = {each: [] for each in DURABILITIES}
    for _ in range(REPETITIONS):
        for each in DURABILITIES:
            text = f'{CONFIG.read_text()}\n[state]\ndurability = "{each}"\n'
            config = contenders.configured(folder, f"durability-{each}", text)
            runs[each].append(contenders.run_penstock(case, 2, config))
    return {each: own_rate(found) for each, found in runs.items()}


def _ratio(rates: dict[str, float]) -> float:
    return rates["full"] / rates["off"]


def lone_events(folder: Path, name: str, events: int) -> Case:
    """Write events that are all kept; the output is the input."""
    source = folder / name
    write_lone_events(source, events)
    return Case(folder, source, source, events)
