"""What Penstock is to reach. Speeds differ from machine to machine; the ratios are what counts."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Final, Literal, NamedTuple

from benchmarks.report import table


class Unit(NamedTuple):
    """How a figure is written: a format, and how much of the figure is one of the unit."""

    format: str
    scale: float = 1.0

    def written(self, value: float) -> str:
        """Write a value with its unit."""
        return self.format.format(value / self.scale)


MILLIONS: Final = Unit("{:.2f} M/s", 1e6)
EACH: Final = Unit("{:,.0f}/s")
PERCENT: Final = Unit("{:.0f} %", 0.01)
TIMES: Final = Unit("{:.2f} x")
MILLISECONDS: Final = Unit("{:.1f} ms", 0.001)
SECONDS: Final = Unit("{:.2f} s")
MEGABYTES: Final = Unit("{:.0f} MB", 1e6)
BYTES: Final = Unit("{:.1f} bytes")
OF_A_CORE: Final = Unit("{:.2f} % of a core")


class Target(NamedTuple):
    """One figure, by the name a section gives it, and where it is to lie."""

    figure: str
    what: str
    bound: Literal[">=", "<="]
    limit: float
    unit: Unit

    def met(self, value: float) -> bool:
        """Say whether a value is where it is to lie."""
        return value >= self.limit if self.bound == ">=" else value <= self.limit


TARGETS: Final = (
    Target("dense", "1,000,000 points, 2 workers, by its own clock", ">=", 4e6, MILLIONS),
    Target("dense to plain", "the same, start to end, to the plain script", ">=", 7.0, TIMES),
    Target("few points", "1,099 points, 2 workers, by its own clock", ">=", 4e6, MILLIONS),
    Target("clusters to dense", "points all over 64 bits, to dense ones", ">=", 0.7, PERCENT),
    Target("wide to plain", "12 fields, start to end, to the plain script", ">=", 3.0, TIMES),
    Target("process full to off", "`process`, durability full to off", ">=", 0.6, PERCENT),
    Target("ingest large", "durable ingest, posts of 1 MB", ">=", 1.5e6, MILLIONS),
    Target("ingest large full to off", "the same, full to off", ">=", 0.6, PERCENT),
    Target("ingest single", "durable ingest, one event a post, 8 clients", ">=", 2_500, EACH),
    Target("latency p50", "post to line in the file, p50", "<=", 0.005, MILLISECONDS),
    Target("latency p99", "post to line in the file, p99", "<=", 0.025, MILLISECONDS),
    Target("handle", "a user's `handle`, event by event", ">=", 1.2e6, MILLIONS),
    Target("shared handle", "the same with a shared memory", ">=", 0.8e6, MILLIONS),
    Target("five steps", "5 built-in steps, to 1", ">=", 0.5, PERCENT),
    Target("busy", "a step of 40 ms an event, 2 workers to 1", ">=", 1.9, TIMES),
    Target("time growth", "time an event, slowest tenth to first", "<=", 1.1, PERCENT),
    Target("memory growth", "memory, whole stream to its first tenth", "<=", 1.1, PERCENT),
    Target("memory", "memory, the most of all processes together", "<=", 300e6, MEGABYTES),
    Target("bytes a point", "each of millions of remembered points", "<=", 64, BYTES),
    Target("many points to few", "`process` among these, to among 1,000", ">=", 0.6, PERCENT),
    Target("many points to few, alone", "`adjacent` alone, the same", ">=", 0.6, PERCENT),
    Target("idle", "daemon, idle", "<=", 0.5, OF_A_CORE),
    Target("ready", "daemon, start to ready", "<=", 1.5, SECONDS),
    Target("help", "`penstock --help`", "<=", 0.25, SECONDS),
)


def target_table(figures: Mapping[str, float]) -> str:
    """Return a row per target: what is wanted, what was measured, whether it was met.

    Raises KeyError for a figure that no target asks for.
    """
    unknown = figures.keys() - {target.figure for target in TARGETS}
    if unknown:
        raise KeyError(f"no target asks for {', '.join(sorted(unknown))}")
    return table(
        ("what", "target", "measured", "met"), [_row(each, figures) for each in TARGETS], left=1
    )


def _row(target: Target, figures: Mapping[str, float]) -> tuple[str, ...]:
    wanted = f"{target.bound} {target.unit.written(target.limit)}"
    value = figures.get(target.figure)
    if value is None:
        return target.what, wanted, "not measured", ""
    return target.what, wanted, target.unit.written(value), "yes" if target.met(value) else "no"
