"""``penstock journal``: look whether it is as it was written, mend it, write out its events.

Everything heavy is imported when it is needed, so that ``--help`` and completion answer at once.
"""

from __future__ import annotations

import sys
from datetime import UTC, datetime
from pathlib import Path
from typing import TYPE_CHECKING

import click

from service.commands.asking import FAILED, config_option, exit_codes, load, say
from service.commands.spans import from_option, span_of, to_option

if TYPE_CHECKING:
    from service.journal.inspection import Finding
    from service.journal.row import Entry


@click.group()
def journal() -> None:
    """Verify the journal of a state directory, repair it, or export its events."""


@journal.command()
@config_option
def verify(config: Path) -> None:
    """Read the whole journal, also beside the daemon, and tell what is damaged; changes nothing."""
    from service.journal import inspection
    from service.state_directory import existing_journal

    with exit_codes(config):
        directory = existing_journal(load(config).state)
        found = inspection.verify(directory)
    for finding in found.findings:
        click.echo(_described(finding))
    first, last = found.blocks
    blocks = f"blocks {first} to {last}" if last else "no block"
    click.echo(
        f"{directory}: {found.segments} segments, {found.entries} entries, {blocks}, "
        f"{found.size} bytes: {'ok' if found.clean else 'damaged'}"
    )
    if not found.clean:
        click.echo(
            "penstock: stop the daemon and run `penstock journal repair`: it names what is gone, "
            "keeps all else, and puts the damaged files aside",
            err=True,
        )
        sys.exit(FAILED)


@journal.command()
@config_option
def repair(config: Path) -> None:
    """Keep all that can be read, name what is gone, put the damaged files aside; needs no daemon.

    The events of the offsets named are lost; their numbers are not given out again.
    """
    from service.journal import inspection
    from service.state_directory import existing_journal, lock_directory

    with exit_codes(config):
        state = load(config).state
        directory = existing_journal(state)
        with lock_directory(state.directory):
            moment = datetime.now(UTC).strftime("%Y%m%dT%H%M%SZ")
            aside = state.directory / f"journal-damaged-{moment}"
            gone = inspection.repair(directory, aside)
    for finding in gone:
        click.echo(_described(finding))
    if gone:
        click.echo(f"{directory}: repaired; the damaged files are in {aside}")
    else:
        click.echo(f"{directory}: there is nothing to repair")


@journal.command()
@from_option
@to_option
@config_option
def export(start: str | None, stop: str | None, config: Path) -> None:
    """Write accepted events to standard output, byte for byte, also beside the daemon.

    All that the journal still holds, or those --from one offset or time --to another; of an event
    that came in a file, the file is read again. What a file does not hold any more is named and
    left out, and the exit code is 1. `penstock process` takes what this writes.
    """
    from service.chain import ChainVersion
    from service.errors import InputGone
    from service.journal.entry import read_block
    from service.journal.inspection import retained
    from service.journal.row import BLOCK
    from service.state_directory import existing_journal

    span = span_of(start, stop)
    gone = written = 0
    end = None
    with exit_codes(config):
        directory = existing_journal(load(config).state)
        for entry in retained(directory):
            if span.ends_before(entry):
                break
            if entry.kind != BLOCK:
                continue
            end = entry
            if not span.begins_after(entry):
                block = read_block(entry, ChainVersion(0, ()))
                try:
                    pieces = list(span.pieces(entry, block))
                    lines = [piece.block.read() for piece in pieces if piece.within]
                except InputGone as error:
                    gone += 1
                    say(f"penstock: block {entry.block} is left out: {error}", err=True)
                else:
                    written += len(lines)
                    sys.stdout.buffer.writelines(lines)
        else:
            if not written and not gone:
                say(f"penstock: nothing is written: {_ending(end)}", err=True)
        sys.stdout.buffer.flush()
    if gone:
        say(f"penstock: {gone} blocks are left out; all else is written", err=True)
        sys.exit(FAILED)


def _ending(entry: Entry | None) -> str:
    """Say where the journal ends, ``entry`` being its last block, None if it holds none."""
    from service.chain import ChainVersion
    from service.journal.entry import read_block

    if entry is None:
        return "the journal holds no event"
    lines = read_block(entry, ChainVersion(0, ())).lines
    moment = datetime.fromtimestamp(entry.time, UTC).isoformat(timespec="seconds")
    last = f"{entry.block}.*" if lines is None else f"{entry.block}.{max(0, lines - 1)}"
    return f"the journal ends at offset {last}, accepted at {moment}"


def _described(finding: Finding) -> str:
    first, last = finding.sequences
    entries = f"entries {first} to {last}" if last > first else f"entry {first}"
    begin, end = finding.blocks
    if end < begin:
        gone = "no block is gone"
    elif end == begin:
        gone = f"the events of block {begin} (offsets {begin}.0 on) are gone"
    else:
        gone = f"the events of blocks {begin} to {end} (offsets {begin}.0 on) are gone"
    if last < first:
        return f"{finding.segment}: {finding.what}"
    return f"{finding.segment}: {entries}: {finding.what}; {gone}"
