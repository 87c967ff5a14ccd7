"""The command ``penstock``, from its very first step on."""

from __future__ import annotations

import contextlib
import sys

WITH_CHILDREN = ("run", "process")
"""The commands that start child processes."""


def main() -> None:
    """Start what children are forked from, if there will be any, then read the command line.

    In this order, since the first takes longer than all there is to import for the second.
    """
    if sys.argv[1:2] and sys.argv[1] in WITH_CHILDREN:
        from service.child import prepare_children

        with contextlib.suppress(OSError):  # tried again where the first child is started
            prepare_children()
    from service.cli import main as command_line  # only now: see above

    command_line()


if __name__ == "__main__":
    main()
