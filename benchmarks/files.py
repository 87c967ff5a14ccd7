"""Measures filtering a file: Penstock against what people write, or take, instead of it."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Final, NamedTuple

from benchmarks import contenders
from benchmarks.contenders import Case
from benchmarks.events import write_clustered_events, write_events, write_wide_events
from benchmarks.reference import write_expected
from benchmarks.report import Measured, Section, errors_of_baseline, own_rate, rate, speed_table
from benchmarks.sizes import QUICK, REPETITIONS, SHARE, say

BASELINE_EVENTS: Final = 2_000 if QUICK else 10_000
BYTEWAX_EVENTS: Final = 1_000_000 // SHARE

Writer = Callable[[Path, int, int], None]


class Input(NamedTuple):
    """A file to filter: how many events over how many points, and who writes it."""

    name: str
    events: int
    points: int
    write: Writer

    def made(self, folder: Path) -> Case:
        """Write the file and its expected output."""
        name = self.name.replace(" ", "-")
        case = Case(folder, folder / name, folder / f"{name}.kept", self.events)
        self.write(case.source, self.events, self.points)
        write_expected(case.source, case.expected)
        return case


DENSE: Final = Input("1,000,000 points", 5_000_000 // SHARE, 1_000_000, write_events)
FEW: Final = Input("1,099 points", 5_000_000 // SHARE, 1_099, write_events)
CLUSTERS: Final = Input(
    "1,000 clusters in 64 bits", 5_000_000 // SHARE, 1_000_000, write_clustered_events
)
WIDE: Final = Input("12 fields", 5_000_000 // SHARE, 1_000_000, write_wide_events)


def measure(folder: Path, dense: Case) -> tuple[Section, list[Measured]]:
    """Measure all inputs; ``dense`` is the case of DENSE, which others use as well."""
    measured = {DENSE: _measure(DENSE.name, dense)}
    for each in (FEW, CLUSTERS, WIDE):
        say(f"  making {each.events:,} events: {each.name}")
        case = each.made(folder)
        measured[each] = _measure(each.name, case)
        case.source.unlink()
        case.expected.unlink()
    two = {each: found.runs["Penstock, 2 workers"] for each, found in measured.items()}
    plain = {each: found.runs["plain script"] for each, found in measured.items()}
    figures = {
        "dense": own_rate(two[DENSE]),
        "dense to plain": rate(two[DENSE]) / rate(plain[DENSE]),
        "few points": own_rate(two[FEW]),
        "clusters to dense": own_rate(two[CLUSTERS]) / own_rate(two[DENSE]),
        "wide to plain": rate(two[WIDE]) / rate(plain[WIDE]),
    }
    all_of_them = list(measured.values())
    text = f"{speed_table(all_of_them)}\n{errors_of_baseline(all_of_them)}{_missing()}"
    return Section("Files", text, figures), all_of_them


def _measure(name: str, case: Case) -> Measured:
    """Let all contenders filter the file in turn, so that a busy moment does not hit one alone."""
    say(f"  {name}")
    takers: dict[str, Callable[[], contenders.Run]] = {
        "plain script": lambda: contenders.run_plain_script(case),
        "DuckDB": lambda: contenders.run_duckdb(case),
        "Bytewax": lambda: contenders.run_bytewax(case, BYTEWAX_EVENTS),
        "Penstock, 1 worker": lambda: contenders.run_penstock(case, 1),
        "Penstock, 2 workers": lambda: contenders.run_penstock(case, 2),
    }
    for package in _not_installed():
        del takers[package]
    baseline = []
    runs: dict[str, list[contenders.Run]] = {taker: [] for taker in takers}
    for _ in range(REPETITIONS):
        baseline.append(contenders.run_baseline(case, BASELINE_EVENTS))
        for taker, run in takers.items():
            runs[taker].append(run())
    return Measured(name, baseline, runs)


def _not_installed() -> list[str]:
    return [name for name in ("DuckDB", "Bytewax") if not contenders.installed(name.lower())]


def _missing() -> str:
    return "".join(f"- {name} is not installed, and was left out\n" for name in _not_installed())
