"""The command line: stdout is data, stderr is messages, and the exit code tells the rest.

0 done, 1 failed, 2 wrong usage, 78 bad configuration, 130 interrupted, 143 told to end too early to
have begun. Everything heavy is imported by the command that needs it, so that ``--help`` and
completion answer at once.
"""

from __future__ import annotations

import json
import os
import sys
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING

import click

from service.commands.asking import (
    FAILED,
    INTERRUPTED,
    config_option,
    exit_codes,
    load_checked,
)
from service.commands.bench import bench
from service.commands.dead import dead
from service.commands.journal import journal
from service.commands.middleware import middleware
from service.commands.replay import replay
from service.garbage import importing
from service.standard_output import keep_for_data

if TYPE_CHECKING:
    from service.processing import Summary
    from service.settings import Settings
    from service.signals import Stop


@click.group(context_settings={"help_option_names": ["-h", "--help"]})
@click.version_option(package_name="penstock")
def main() -> None:
    """Filter streams of events through switchable middleware with one shared memory."""
    # numpy's linear algebra is not used; its threads would only take memory in every process.
    os.environ.setdefault("OPENBLAS_NUM_THREADS", "1")


for command in (bench, dead, journal, middleware, replay):
    main.add_command(command)


@main.command()
@config_option
@click.option(
    "--forget",
    multiple=True,
    metavar="NAME",
    help="Start this middleware with an empty memory, such as when its format was changed.",
)
@click.option(
    "--without",
    multiple=True,
    metavar="NAME",
    help="Leave this middleware, sink or source out, such as one whose class is gone.",
)
@click.pass_obj
def run(stop: Stop, config: Path, forget: tuple[str, ...], without: tuple[str, ...]) -> None:
    """Run the daemon until TERM, INT or HUP; then everything accepted is still emitted."""
    keep_for_data()
    with exit_codes(config, _log_error):
        with importing():
            import logging

            from service.logs import configure_logs

            configure_logs()
            settings = load_checked(config, without)
            from service.daemon import Daemon
            from service.errors import Interrupted

        try:
            Daemon(settings, stop, forget, without).run()
        except Interrupted as error:
            logging.getLogger(__name__).info("%s", error)


@main.command()
@click.argument("inputs", nargs=-1, required=True, metavar="INPUT...")
@click.option("--output", required=True, help='The file for kept events; "-" is standard output.')
@click.option(
    "--dead", type=click.Path(path_type=Path), help="The file for dead letters. [OUTPUT.dead]"
)
@click.option("--workers", type=click.IntRange(1, 256), help="Worker processes. [as configured]")
@click.option(
    "--json", "as_json", is_flag=True, help="Print the summary as JSON on standard output."
)
@config_option
@click.pass_obj
def process(
    stop: Stop,
    inputs: tuple[str, ...],
    output: str,
    dead: Path | None,
    workers: int | None,
    as_json: bool,
    config: Path,
) -> None:
    """Filter NDJSON files, one after the other, to their end; "-" is standard input."""
    if as_json and output == "-":
        raise click.UsageError('--json and "--output -" would both write to standard output.')
    dead = dead or Path("dead.ndjson" if output == "-" else f"{output}.dead")
    _refuse_overwriting(inputs, output, dead)
    if output == "-":
        keep_for_data()
    with exit_codes(config):
        with importing():
            settings = load_checked(config, chain_alone=True)
            import service.processing  # noqa: F401 - what _process is about to use
        if workers is not None:
            count = settings.workers.model_copy(update={"count": workers})
            settings = settings.model_copy(update={"workers": count})
        summary = _process(settings, stop, inputs, output, dead)
    if as_json:
        from dataclasses import asdict

        click.echo(json.dumps(asdict(summary)))
    else:
        _print_summary(summary, dead)
    if summary.had_no_event:
        click.echo("penstock: no line of the input is an event", err=True)
        sys.exit(FAILED)


@main.command()
@config_option
def check(config: Path) -> None:
    """Check a configuration, with every class and parameter it names; changes nothing.

    It does not look at what was switched while a daemon ran, which outlives restarts: "penstock
    middleware list" tells that.
    """
    with exit_codes(config):
        settings = load_checked(config)
    chain = (
        " -> ".join(f"{step.name} (configured: {step.mode})" for step in settings.middleware)
        or "no middleware"
    )
    sources = ", ".join(source.name for source in settings.source) or "no source"
    sinks = ", ".join(sink.name for sink in settings.sink)
    click.echo(f"{config}: ok: {sources} -> {chain} -> {sinks}")


@main.command()
def schema() -> None:
    """Print the JSON Schema of the configuration, for editors."""
    from service.settings import Settings

    click.echo(json.dumps(Settings.model_json_schema(), indent=2))


def _log_error(message: str, _: str) -> None:
    """Log what ends the daemon."""
    import logging

    logging.getLogger("penstock").error("%s", message)


def _refuse_overwriting(inputs: tuple[str, ...], output: str, dead: Path) -> None:
    from service.disk import key_of

    written = [key_of(path) for path in ([dead] if output == "-" else [dead, Path(output)])]
    if written[0] is not None and len({*written}) < len(written):
        raise click.UsageError(f"{dead}: --output and --dead must be two files")
    if inputs.count("-") > 1:
        raise click.UsageError("-: standard input can be read once")
    for path in [Path(each) for each in inputs if each != "-"]:
        if path.is_dir():
            raise click.UsageError(f"{path}: is a folder; name its files")
        if not path.exists():
            raise click.UsageError(f"{path}: there is no such file")
        if key_of(path) in {key for key in written if key is not None}:
            raise click.UsageError(f"{path}: is an input, and would be overwritten")


def _process(
    settings: Settings, stop: Stop, inputs: tuple[str, ...], output: str, dead: Path
) -> Summary:
    """Run ``process`` with a progress bar, if someone is watching; a signal stops it."""
    import logging
    import signal

    from service.errors import Interrupted
    from service.processing import over_files, process

    handler = logging.StreamHandler()
    # ``before`` is the name of a child process that printed the line.
    handler.setFormatter(
        logging.Formatter("penstock: %(before)s%(message)s", defaults={"before": ""})
    )
    logging.basicConfig(handlers=[handler], level=logging.WARNING)
    files = all(Path(each).is_file() for each in inputs)
    total = sum(Path(each).stat().st_size for each in inputs) if files else 0
    with _progress(total) as progress:
        try:
            return process(over_files(settings, inputs, output), inputs, dead, stop, progress)
        except Interrupted as error:
            click.echo(f"penstock: {error}", err=True)
            sys.exit(INTERRUPTED if stop.signal == signal.SIGINT else FAILED)


@contextmanager
def _progress(total: int) -> Iterator[Callable[[int], None]]:
    if not total or not sys.stderr.isatty():
        yield lambda _: None
        return
    with click.progressbar(length=total, label="Filtering", file=sys.stderr) as bar:
        yield lambda done: bar.update(done - bar.pos)


def _print_summary(summary: Summary, dead: Path) -> None:
    from middleware.wording import printable

    def row(name: str, number: float, more: str = "") -> None:
        click.echo(f"{name:<28} {number:>15,}{more}", err=True)

    row("accepted", summary.accepted)
    row("emitted", summary.emitted)
    for name, number in summary.dropped.items():
        row(f"dropped by {name}", number)
    for name, number in summary.shadow.items():
        if number:
            row(f"{name} would have dropped", number, " (shadow)")
    row("dead", summary.dead, f"  see {dead}" if summary.dead else "")
    for place, deaths in summary.deaths.items():
        row(f"  {place}", deaths["count"], f"  the first: {printable(deaths['first'])}")
    row("seconds", summary.seconds)
    row("events per second", round(summary.events_per_second))
