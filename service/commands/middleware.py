"""``penstock middleware``: look at the middleware of a running daemon, and switch them."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import click

from service.commands.asking import ask_daemon, config_option, json_option, say, url_option


@click.group()
def middleware() -> None:
    """Look at the middleware of a running daemon, and switch them."""


reason_option = click.option("--reason", default="", help="Why; logged with the switch.")


@middleware.command("list")
@url_option
@json_option
@config_option
def list_middleware(url: str | None, as_json: bool, config: Path) -> None:
    """List the middleware in the chain's order."""
    answer = ask_daemon(config, url, "GET", "/middleware")
    if as_json:
        click.echo(json.dumps(answer))
        return
    for each in answer:
        say(f"{each['name']:<20} {each['mode']:<9} from {each['offset']:<10} {_params(each)}")


@middleware.command()
@click.argument("name")
@url_option
@json_option
@config_option
def show(name: str, url: str | None, as_json: bool, config: Path) -> None:
    """Show one: its mode, its parameters, since when and why, whether it remembers."""
    answer = ask_daemon(config, url, "GET", f"/middleware/{name}")
    if as_json:
        click.echo(json.dumps(answer))
        return
    switched = answer.pop("switched")
    for key, value in answer.items():
        say(f"{key:<10}  {_params(answer) if key == 'params' else value}")
    for what, last in switched.items():
        why = last["reason"] or "no reason given"
        say(f"switched    {what} at offset {last['offset']}, {last['time']}: {why}")


def _switch_command(name: str, mode: str, text: str) -> None:
    @middleware.command(name, help=text)
    @click.argument("middleware_name", metavar="NAME")
    @reason_option
    @url_option
    @json_option
    @config_option
    def switch(
        middleware_name: str, reason: str, url: str | None, as_json: bool, config: Path
    ) -> None:
        body = {"mode": mode, "reason": reason}
        _print_switch(
            ask_daemon(config, url, "PATCH", f"/middleware/{middleware_name}", body), as_json
        )


_switch_command("enable", "enabled", "Let a middleware decide.")
_switch_command("shadow", "shadow", "Let a middleware remember and count, but drop nothing.")
_switch_command("disable", "disabled", "Let a middleware see nothing; its memory stays as it is.")


@middleware.command("set")
@click.argument("name")
@click.argument("assignments", nargs=-1, required=True, metavar="PARAM=VALUE...")
@reason_option
@url_option
@json_option
@config_option
def set_params(
    name: str,
    assignments: tuple[str, ...],
    reason: str,
    url: str | None,
    as_json: bool,
    config: Path,
) -> None:
    """Change parameters; those not named stay. A value is JSON, or else text."""
    params = {}
    for assignment in assignments:
        param, equals, value = assignment.partition("=")
        if not equals:
            raise click.UsageError(f"{assignment!r}: write PARAM=VALUE, such as window=600")
        params[param] = _json_or_text(value)
    body = {"params": params, "reason": reason}
    _print_switch(ask_daemon(config, url, "PATCH", f"/middleware/{name}", body), as_json)


@middleware.command()
@click.argument("name")
@reason_option
@url_option
@json_option
@config_option
def reset(name: str, reason: str, url: str | None, as_json: bool, config: Path) -> None:
    """Empty a middleware's memory."""
    _print_switch(
        ask_daemon(config, url, "POST", f"/middleware/{name}/reset", {"reason": reason}), as_json
    )


def _print_switch(answer: dict[str, Any], as_json: bool) -> None:
    if as_json:
        click.echo(json.dumps(answer))
        return
    said = " ".join(filter(None, (answer["mode"], _params(answer))))
    say(f"{answer['name']}: {said}, from offset {answer['offset']} on")


def _params(answer: dict[str, Any]) -> str:
    return " ".join(f"{name}={json.dumps(value)}" for name, value in answer["params"].items())


def _json_or_text(value: str) -> Any:
    try:
        return json.loads(value)
    except ValueError:
        return value
