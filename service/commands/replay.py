"""``penstock replay``: what another configuration would have made of events of before.

Everything heavy is imported when it is needed, so that ``--help`` and completion answer at once.
"""

from __future__ import annotations

import json
from pathlib import Path
from typing import TYPE_CHECKING

import click

from service.commands.asking import config_option, exit_codes, load_checked, say
from service.commands.spans import from_option, span_of, to_option

if TYPE_CHECKING:
    from service.replay import Comparison, Difference


@click.command()
@from_option
@to_option
@click.option("--json", "as_json", is_flag=True, help="Print each difference as JSON.")
@config_option
def replay(start: str | None, stop: str | None, as_json: bool, config: Path) -> None:
    """Run accepted events again, as they were decided and as --config would; changes nothing.

    Prints each event that is decided differently: "+" kept now and dropped then, "-" dropped now
    and kept then, "~" changed otherwise. An offset is "1234.17", or "1234" for a block with fewer
    than ten digits, a time "2026-11-20T08:00:00Z" or seconds since the epoch, "1795161600" or
    "@1795161600.5". Every event that the journal still holds
    before the first one is run as well, so that what is remembered is as it was. The journal is the
    one in state.directory of --config: usually a changed copy of the daemon's configuration.
    """
    from service.configured import configured_chain
    from service.journal.inspection import retained
    from service.replay import Replay
    from service.state_directory import existing_journal

    span = span_of(start, stop)
    with exit_codes(config):
        settings = load_checked(config)
        directory = existing_journal(settings.state)
        again = Replay(settings.event, configured_chain(settings), settings.workers.retries)
        for difference in again.differences(retained(directory), span):
            click.echo(_json(difference)) if as_json else say(_text(difference))
    _print_comparison(again.comparison)


def _text(difference: Difference) -> str:
    sign = "+" if difference.then is None else "-" if difference.now is None else "~"
    line = difference.now or difference.then or b""
    return f"{sign} {difference.offset} {line.decode(errors='backslashreplace')}"


def _json(difference: Difference) -> str:
    then, now = (
        None if line is None else line.decode(errors="backslashreplace")
        for line in (difference.then, difference.now)
    )
    return json.dumps({"offset": str(difference.offset), "then": then, "now": now})


def _print_comparison(comparison: Comparison) -> None:
    click.echo(f"{'events compared':<34} {comparison.events:>15,}", err=True)
    if comparison.first is not None:
        before = f"{comparison.warmed_up:>15,}  from {comparison.first} on"
        click.echo(f"{'events before, to fill memories':<34} {before}", err=True)
    click.echo(f"{'':<34} {'then':>15} {'now':>15}", err=True)
    for name in dict.fromkeys([*comparison.then, *comparison.now]):
        then, now = comparison.then[name], comparison.now[name]
        click.echo(f"{name:<34} {then:>15,} {now:>15,}", err=True)
