"""What every command that asks a running daemon shares: its options, its messages, its exit code.

Everything heavy is imported when it is needed, so that ``--help`` and completion answer at once.
"""

from __future__ import annotations

import sys
from collections.abc import Callable, Collection, Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final

import click

if TYPE_CHECKING:
    from service.settings import Settings
    from service.settings_file import Kind

FAILED: Final = 1
BAD_CONFIGURATION: Final = 78
INTERRUPTED: Final = 130

config_option = click.option(
    "--config",
    "config",
    type=click.Path(path_type=Path),
    default=Path("config/penstock.toml"),
    show_default=True,
    help="The configuration file.",
)
url_option = click.option("--url", help="The daemon's address. [http.listen of the configuration]")
json_option = click.option(
    "--json", "as_json", is_flag=True, help="Print what the daemon answered."
)


def load(config: Path) -> Settings:
    """Return the settings; raises ConfigurationError."""
    from service.settings_file import load_settings

    return load_settings(config)


def load_checked(
    config: Path, without: Collection[str] = (), *, chain_alone: bool = False
) -> Settings:
    """Return the settings, with every class and parameter checked; raises ConfigurationError.

    Of what is called by a name in ``without`` nothing is asked, with ``chain_alone`` nothing of
    sources and sinks either: to load a class of these can take longer than a short run. Classes of
    the user's own are tried out in another process first.

    A class of the user's own, "module:Class", is found from where the command is given, but only
    after all that is installed: a ``numpy.py`` that lies there is not run.
    """
    from service.configured import checked_settings

    here = str(Path.cwd())
    if here not in sys.path:
        sys.path.append(here)

    def own_classes() -> None:
        from service.class_trial import try_out_classes

        try_out_classes(config, without)

    kinds: tuple[Kind, ...] = ("middleware",) if chain_alone else ("source", "middleware", "sink")
    return checked_settings(config, without, kinds=kinds, own_classes=own_classes)


def say(text: str, keep: str = "", *, err: bool = False) -> None:
    """Print a line for people; what others wrote must not steer their terminal."""
    from middleware.wording import printable

    click.echo(printable(text, keep), err=err)


def _print_error(message: str, who: str) -> None:
    click.echo(f"{who}{message}", err=True)


@contextmanager
def exit_codes(config: Path, tell: Callable[[str, str], None] = _print_error) -> Iterator[None]:
    """Turn Penstock's errors, and a Ctrl-C, into messages and exit codes.

    ``tell`` gets a message, and who says so, which a log tells anyway.
    """
    try:
        yield
    except KeyboardInterrupt:
        sys.exit(INTERRUPTED)
    except Exception as error:
        from middleware.errors import ConfigurationError, PenstockError
        from middleware.wording import printable

        if isinstance(error, ConfigurationError):
            for line in str(error).splitlines():
                told = line if line.startswith(f"{config}: ") else f"{config}: {line}"
                tell(printable(told), "")
            sys.exit(BAD_CONFIGURATION)
        if isinstance(error, PenstockError):
            tell(printable(str(error), keep="\n"), "penstock: ")
            sys.exit(FAILED)
        raise


def _address(url: str) -> str:
    """Return an address with its scheme; what follows the port is not the user's to give."""
    scheme, there, rest = url.rpartition("://")
    address, _, more = rest.partition("/")
    if more:
        given = f"{scheme}{there}{address}"
        raise click.UsageError(f"--url {url}: give only address and port: --url {given}")
    return f"{scheme or 'http'}://{address}"


def ask_daemon(
    config: Path,
    url: str | None,
    method: str,
    path: str,
    body: object = None,
    *,
    query: Mapping[str, object] | None = None,
) -> Any:
    """Ask the running daemon for a path below ``/api/v1``.

    Returns its answer, or ends the command with its message. What is None in ``query`` is left out.
    """
    from service.client import ask

    given = {name: str(value) for name, value in (query or {}).items() if value is not None}
    with exit_codes(config):
        url = f"http://{load(config).http.listen}" if url is None else _address(url)
        return ask(url, method, f"/api/v1{path}", body, given)
