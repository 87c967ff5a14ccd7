"""Trying a step out before a switch: in a process of its own, with the deadline of any call.

What hangs, or ends its process, as it is opened then harms nobody; nothing reaches the workers.
"""

from __future__ import annotations

from multiprocessing.connection import Connection
from pathlib import Path

from middleware.errors import ConfigurationError, PenstockError
from service.border import check_reads
from service.chain import Step
from service.child import end_child, start_child
from service.errors import NotAccepted
from service.settings import EventSettings


def try_out(step: Step, event: EventSettings, folder: Path, deadline: float) -> None:
    """Open and close a new instance; raises ConfigurationError when that is not possible.

    ``deadline``: seconds that it may take. ``folder`` is the runtime directory. Raises NotAccepted
    when there is no process to be had now.
    """
    try:
        process, pipe = start_child("penstock-trial", folder, "service.trial:run_trial")
    except OSError as error:
        message = f"{step.name} cannot be tried out now, switch again in a moment: {error}"
        raise NotAccepted(message) from error
    try:
        pipe.send((step, event))
        late = not pipe.poll(deadline)
        problem = f"its open() took longer than workers.deadline ({deadline:g} s)"
        problem = f"{step.name} cannot be opened: {problem}" if late else pipe.recv()
    except (EOFError, OSError):
        process.join(deadline)
        how = f"its open() ended its process (exit code {process.exitcode})"
        problem = f"{step.name} cannot be opened: {how}"
    finally:
        pipe.close()
        end_child(process)
    if problem is not None:
        raise ConfigurationError(problem)


def run_trial(pipe: Connection) -> bool:
    """Take the step, try it out, and say what is wrong with it, None if nothing is."""
    step, event = pipe.recv()
    try:
        check_reads(event, step.load())
        step.try_out()
    except PenstockError as error:
        pipe.send(str(error))
    else:
        pipe.send(None)
    return True
