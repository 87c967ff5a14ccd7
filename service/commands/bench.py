"""``penstock bench``: which step of a chain the time goes to, and how to speed it up.

Everything heavy is imported when it is needed, so that ``--help`` and completion answer at once.
"""

from __future__ import annotations

import json
from pathlib import Path
from typing import TYPE_CHECKING

import click

from service.commands.asking import config_option, exit_codes, load_checked

if TYPE_CHECKING:
    from service.bench import Measurement, Stage


@click.command()
@click.option(
    "--events",
    "path",
    type=click.Path(exists=True, dir_okay=False, path_type=Path),
    help="Your own events, NDJSON; without it, events with a point and a time are generated.",
)
@click.option("--points", type=click.IntRange(1), help="Points of generated events. [100000]")
@click.option(
    "--count",
    type=click.IntRange(1, 10_000_000),
    default=200_000,
    show_default=True,
    help="Events at most; a slow chain gets fewer.",
)
@click.option("--json", "as_json", is_flag=True, help="Print the figures as JSON.")
@config_option
def bench(path: Path | None, points: int | None, count: int, as_json: bool, config: Path) -> None:
    """Measure the chain step by step, in this process; takes about ten seconds at most.

    Reads and decodes events, asks every middleware and writes what is kept to a temporary file:
    the daemon, its journal and the sinks are not touched. Prints events/s and the share of the time
    of each stage, and which one to speed up.
    """
    if path is not None and points is not None:
        raise click.UsageError("--points goes with generated events, not with --events.")
    with exit_codes(config):
        settings = load_checked(config)
        from service.bench import measure
        from service.sample_events import generated_lines, read_lines

        if path is None:
            lines = generated_lines(settings.event, points or 100_000, count)
        else:
            lines = read_lines(path, count)
        found = measure(settings, lines)
    if found.failed is not None:
        click.echo(
            f"penstock: {found.dead} of {found.events} events could not be handled, such as by "
            f"{found.failed}; give events that can be, with --events FILE, for figures that count",
            err=True,
        )
    if as_json:
        click.echo(json.dumps(found.document()))
    else:
        _print_table(found, len(lines))


def _print_table(found: Measurement, given: int) -> None:
    from service.bench import advice

    width = max(len(stage.name) for stage in found.stages)
    click.echo(f"{'':<{width}}  {'asked by':<8}  {'events':>12}  {'events/s':>12}  {'time':>5}")
    for stage in found.stages:
        click.echo(
            f"{stage.name:<{width}}  {stage.form or '':<8}  {stage.events:>12,}  "
            f"{_rate(stage):>12}  {stage.share:>5.0%}"
        )
    rate = found.events / found.seconds
    click.echo(f"{'in all':<{width}}  {'':<8}  {found.events:>12,}  {rate:>12,.0f}  {1:>5.0%}")
    if found.events < given:
        click.echo(f"Of {given:,} events only so many: more would have taken too long.", err=True)
    click.echo(f"\n{advice(found)}.")


def _rate(stage: Stage) -> str:
    return "" if stage.rate is None else f"{stage.rate:,.0f}"
