"""The options that name a range of accepted events."""

from __future__ import annotations

import re
from datetime import datetime
from typing import TYPE_CHECKING, Final

import click

if TYPE_CHECKING:
    from service.block import Offset
    from service.span import Span

SECONDS: Final = 10
"""Digits of the seconds since the epoch, until the year 2286."""

from_option = click.option(
    "--from", "start", help="The first event: an offset, or when it was accepted."
)
to_option = click.option("--to", "stop", help="The last event, likewise. [all there are]")


def span_of(start: str | None, stop: str | None) -> Span:
    """Return the range that --from and --to name; raises UsageError."""
    from service.span import Span

    return Span(_place("--from", start), _place("--to", stop, last=True))


def _place(option: str, text: str | None, *, last: bool = False) -> Offset | float | None:
    """Return the offset or the time that is written as ``text``.

    A dot between digits makes an offset, as Penstock prints it, and "@" a time. Digits alone are a
    block while they are fewer than those of the seconds since the epoch.
    """
    from service.block import Offset

    if text is None:
        return None
    block, dot, row = text.partition(".")
    try:
        if block.isdigit() and (row.isdigit() if dot else len(block) < SECONDS):
            return Offset(int(block), int(row) if dot else (2**63 if last else 0))
        if seconds := re.fullmatch(r"@?([0-9]+(?:\.[0-9]+)?)", text):
            return float(seconds[1])
        return datetime.fromisoformat(text).timestamp()
    except (ValueError, OverflowError):
        message = f'{option}: expected an offset such as "1234.17", or a time'
        raise click.UsageError(message) from None
