"""The command ``penstock``, from its very first step on."""

from __future__ import annotations

import contextlib
import os
import signal
import sys

WITH_CHILDREN = ("run", "process")
"""The commands that start child processes."""

STANDARD_ERROR = 2
"""The last of the three streams that every process has."""


def main() -> None:
    """Start what children are forked from, if there will be any, then read the command line.

    In this order, since the first takes longer than all there is to import for the second.
    """
    _fill_streams()
    if not (sys.argv[1:2] and sys.argv[1] in WITH_CHILDREN):
        from service.cli import main as command_line

        command_line()
        return
    signal.signal(signal.SIGINT, signal.SIG_DFL)  # else it is a traceback, until it is heard
    from service.child import deaf, end_server, prepare_children
    from service.signals import Stop

    stop = Stop(end_server)
    with deaf():  # else the server's folder could be left behind
        with contextlib.suppress(OSError):  # tried again where the first child is started
            prepare_children()
        stop.listen()
    from service.cli import main as command_line  # only now: see above

    command_line(obj=stop)


def _fill_streams() -> None:
    """Open the null device in place of closed standard streams, here and in children.

    Otherwise the first file that is opened takes their place: what a child prints would go there,
    and a child that redirects its standard output would close it.
    """
    while (descriptor := os.open(os.devnull, os.O_RDWR)) <= STANDARD_ERROR:
        os.set_inheritable(descriptor, True)
    os.close(descriptor)
    sys.stdin = sys.stdin or os.fdopen(0)
    sys.stdout = sys.stdout or os.fdopen(1, "w")
    sys.stderr = sys.stderr or os.fdopen(STANDARD_ERROR, "w")


if __name__ == "__main__":
    main()
