"""Trying a step out before a switch: in a process of its own, with the deadline of any call.

All that a class does with new parameters is done there: it checks them, is made and opened, and
says what becomes of its memory. What hangs then, or ends its process, harms nobody; nothing reaches
the workers, and no thread of the daemon waits for the class.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from multiprocessing.connection import Connection
from pathlib import Path
from typing import Any, Final

from middleware.errors import ConfigurationError, PenstockError
from service.border import check_reads
from service.chain import Step
from service.changes import told_memory
from service.child import end_child, start_child
from service.errors import NotAccepted
from service.settings import EventSettings

STAGES: Final = ("its Params or its __init__()", "its open() or its close()", "its keeps_memory()")
"""What is tried out, one after the other: each has the deadline, and a result of its own."""


def try_out(
    step: Step, params: Mapping[str, Any], event: EventSettings, folder: Path, deadline: float
) -> str:
    """Return what becomes of the memory of a step that is given ``params``, as a sentence's end.

    Raises ConfigurationError when its class does not take them. ``deadline``: seconds that each
    stage may take. ``folder`` is the runtime directory. Raises NotAccepted when there is no process
    to be had now.
    """
    try:
        process, pipe = start_child("penstock-trial", folder, "service.trial:run_trial")
    except OSError as error:
        message = f"{step.name} cannot be tried out now, switch again in a moment: {error}"
        raise NotAccepted(message) from error
    memory, problem = "", None
    try:
        pipe.send((step, params, event))
        for stage in STAGES:
            if not pipe.poll(deadline):
                what = f"{stage} took longer than workers.deadline ({deadline:g} s)"
                problem = f"{step.name} cannot be opened: {what}"
            else:
                memory, problem = pipe.recv()
            if problem is not None:
                raise ConfigurationError(problem)
    except (EOFError, OSError) as error:
        process.join(deadline)
        how = f"{stage} ended its process (exit code {process.exitcode})"
        raise ConfigurationError(f"{step.name} cannot be opened: {how}") from error
    finally:
        pipe.close()
        end_child(process)
    return memory


def run_trial(pipe: Connection) -> bool:
    """Take the step and what it is to be given; send a result after each stage, up to a problem.

    A result is a text and what is wrong with the step, None if nothing is.
    """
    before, params, event = pipe.recv()
    step = before.given(params)

    def made() -> str:
        check_reads(event, step.load())
        return ""

    def opened() -> str:
        step.try_out()
        return ""

    stages: tuple[Callable[[], str], ...] = (made, opened, lambda: told_memory(before, step))
    for stage in stages:
        try:
            pipe.send((stage(), None))
        except PenstockError as error:
            pipe.send(("", str(error)))
            break
    return True
