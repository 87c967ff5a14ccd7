"""``penstock dead``: look through the dead letters of a daemon, re-drive or discard them."""

from __future__ import annotations

import json
import sys
from collections.abc import Callable
from datetime import UTC, datetime
from pathlib import Path
from typing import Any, Final

import click

from service.commands.asking import (
    FAILED,
    ask_daemon,
    config_option,
    json_option,
    say,
    url_option,
)

PATH: Final = "/dead-letters"
WIDTH: Final = 100
"""Characters of a reason in a list; ``show`` has all of it."""

Ask = Callable[[dict[str, Any]], Any]

status_option = click.option(
    "--status", type=click.Choice(["waiting", "redriven", "discarded"]), help="Only these."
)
middleware_option = click.option("--middleware", help="Only those that this middleware failed at.")
source_option = click.option("--source", help="Only those that came from this source.")
all_option = click.option("--all", "every", is_flag=True, help="All that wait, from the oldest on.")
reason_option = click.option("--reason", default="", help="Why; the daemon logs it.")
ids_argument = click.argument("ids", nargs=-1, metavar="[OFFSET...]")


@click.group()
def dead() -> None:
    """Look through dead letters, hand them in again, or discard them."""


@dead.command("list")
@status_option
@middleware_option
@source_option
@click.option("--after", metavar="OFFSET", help="Only those older than this one.")
@click.option("--limit", type=click.IntRange(1, 1_000), default=20, show_default=True)
@url_option
@json_option
@config_option
def list_letters(
    status: str | None,
    middleware: str | None,
    source: str | None,
    after: str | None,
    limit: int,
    url: str | None,
    as_json: bool,
    config: Path,
) -> None:
    """List dead letters, the newest first."""
    query = {
        "status": status,
        "middleware": middleware,
        "source": source,
        "after": after,
        "limit": limit,
    }
    answer = ask_daemon(config, url, "GET", PATH, query=query)
    if as_json:
        click.echo(json.dumps(answer))
        return
    rows = [
        (each["id"], each["status"], _where(each), f"{each['source']}:{each['line']}")
        for each in answer["dead_letters"]
    ]
    widths = [max(map(len, column)) for column in zip(*rows, strict=True)]
    for row, each in zip(rows, answer["dead_letters"], strict=True):
        cells = [text.ljust(width) for text, width in zip(row, widths, strict=True)]
        say("  ".join([*cells, _short(each["reason"])]))
    counts = ", ".join(f"{number} {name}" for name, number in answer["counts"].items())
    more = f"; for more: --after {answer['next']}" if answer["next"] else ""
    click.echo(f"in all {counts}{more}", err=True)


@dead.command()
@click.argument("letter_id", metavar="OFFSET")
@url_option
@json_option
@config_option
def show(letter_id: str, url: str | None, as_json: bool, config: Path) -> None:
    """Show one dead letter with its event and its traceback."""
    answer = ask_daemon(config, url, "GET", f"{PATH}/{letter_id}")
    if as_json:
        click.echo(json.dumps(answer))
        return
    changed = datetime.fromtimestamp(answer.pop("changed"), UTC)
    answer["status"] += f" since {changed.isoformat(timespec='seconds')}"
    whole = answer.pop("whole")
    if not whole:
        answer["status"] += ", and was cut: it cannot be re-driven"
    traceback = answer.pop("traceback", "")
    for name, value in answer.items():
        say(f"{name:<12}  {value}")
    if traceback:
        click.echo()
        say(traceback.rstrip(), keep="\n\t")


@dead.command()
@ids_argument
@all_option
@middleware_option
@source_option
@reason_option
@url_option
@json_option
@config_option
def redrive(
    ids: tuple[str, ...],
    every: bool,
    middleware: str | None,
    source: str | None,
    reason: str,
    url: str | None,
    as_json: bool,
    config: Path,
) -> None:
    """Hand the events in again; each gets a new offset, and passes the chain as it is now."""
    body = _decision(ids, every, middleware, source, reason)
    _decide(lambda body: ask_daemon(config, url, "POST", f"{PATH}/redrive", body), body, as_json)


@dead.command()
@ids_argument
@all_option
@middleware_option
@source_option
@click.option("--yes", is_flag=True, help="Do not ask whether all are meant.")
@reason_option
@url_option
@json_option
@config_option
def discard(
    ids: tuple[str, ...],
    every: bool,
    middleware: str | None,
    source: str | None,
    yes: bool,
    reason: str,
    url: str | None,
    as_json: bool,
    config: Path,
) -> None:
    """Mark dead letters as of no further interest; that is not undone."""
    body = _decision(ids, every, middleware, source, reason)
    if every and not yes:
        if not _somebody_watches():
            raise click.UsageError("--all is not undone, and nobody can be asked here: add --yes.")
        counts = ask_daemon(config, url, "GET", PATH, query={"limit": 1})["counts"]
        those = " with this middleware or source" if middleware or source else ""
        question = f"{counts['waiting']} dead letters wait. Discard all{those}? This is not undone."
        click.confirm(question, abort=True, err=True)
    _decide(lambda body: ask_daemon(config, url, "POST", f"{PATH}/discard", body), body, as_json)


def _where(letter: dict[str, Any]) -> str:
    return str(letter.get("sink") or letter.get("middleware") or "border")


def _short(reason: str) -> str:
    line = " ".join(reason.split())
    return line if len(line) <= WIDTH else f"{line[:WIDTH]}..."


def _somebody_watches() -> bool:
    return sys.stdin.isatty()


def _decision(
    ids: tuple[str, ...], every: bool, middleware: str | None, source: str | None, reason: str
) -> dict[str, Any]:
    if bool(ids) is every:
        raise click.UsageError("Give either OFFSETs or --all.")
    if ids and (middleware or source):
        raise click.UsageError("--middleware and --source go with --all.")
    if ids:
        return {"offsets": list(ids), "reason": reason}
    filters = {"middleware": middleware, "source": source}
    return {"all": True, "reason": reason} | {key: each for key, each in filters.items() if each}


def _decide(ask: Ask, body: dict[str, Any], as_json: bool) -> None:
    """Ask until all are done, or some cannot be now; print what became of each."""
    results: list[dict[str, Any]] = []
    while True:
        answer = ask(body)
        results += answer["results"]
        undone = [each for each in answer["results"] if "detail" in each]
        if not as_json:
            for each in answer["results"]:
                say(_told(each))
        if answer["next"] is None or undone:
            break
        body |= {"after": answer["next"]}
    if as_json:
        click.echo(json.dumps({"results": results, "next": answer["next"]}))
    elif not results:
        click.echo("no dead letter waits", err=True)
    if undone:
        if answer["next"] is not None:
            click.echo("penstock: stopped here; the letters after these still wait", err=True)
        sys.exit(FAILED)


def _told(result: dict[str, Any]) -> str:
    new = f" as {result['redriven_as']}" if "redriven_as" in result else ""
    detail = f": {result['detail']}" if "detail" in result else ""
    return f"{result['id']}: {result['status']}{new}{detail}"
