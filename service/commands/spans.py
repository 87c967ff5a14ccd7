"""The options that name a range of accepted events."""

from __future__ import annotations

from datetime import datetime
from typing import TYPE_CHECKING

import click

if TYPE_CHECKING:
    from service.block import Offset
    from service.span import Span

from_option = click.option(
    "--from", "start", help="The first event: an offset, or when it was accepted."
)
to_option = click.option("--to", "stop", help="The last event, likewise. [all there are]")


def span_of(start: str | None, stop: str | None) -> Span:
    """Return the range that --from and --to name; raises UsageError."""
    from service.span import Span

    return Span(_place("--from", start), _place("--to", stop, last=True))


def _place(option: str, text: str | None, *, last: bool = False) -> Offset | float | None:
    """Return the offset or the time that is written as ``text``."""
    from service.block import Offset

    if text is None:
        return None
    block, _, row = text.partition(".")
    try:
        if block.isdigit() and (not row or row.isdigit()) and len(block) < 10:  # noqa: PLR2004 - a time has ten digits
            return Offset(int(block), int(row) if row else (2**63 if last else 0))
        if block.isdigit():
            return float(text)
        return datetime.fromisoformat(text).timestamp()
    except ValueError:
        message = f'{option}: expected an offset such as "1234.17", or a time'
        raise click.UsageError(message) from None
