"""Faults at the calls by which a process changes its files: killed there, half way, or an error."""

from __future__ import annotations

import shutil
import subprocess
from collections import Counter
from collections.abc import Callable, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path
from typing import Final

import pytest

AT_ONCE: Final = 2
"""Commands that live through a fault side by side."""

SOURCE: Final = Path(__file__).with_name("failing_calls.c")


@dataclass(frozen=True, slots=True)
class Fault:
    """What happens at the ``at``-th call: ``error`` is returned, or the process is killed.

    ``torn``: half of what was to be written is there. ``times``: calls in a row that fail.
    """

    at: int
    error: int = 0
    torn: bool = False
    times: int = 1


@dataclass(frozen=True, slots=True)
class Call:
    """A call that was counted: ``name`` as in "fsync", the ``path``, whether it met a fault."""

    name: str
    path: str
    faulty: bool


class Injection:
    """The environments in which processes meet faults."""

    def __init__(self, library: Path) -> None:
        self._library = library

    def environment(self, below: Path, log: Path, fault: Fault | None) -> Mapping[str, str]:
        """Return what to add to the environment.

        What counts are changes of files whose paths begin with ``below``. The calls are written to
        ``log``; without a fault they are only counted.
        """
        fault = fault or Fault(0)
        return {
            "LD_PRELOAD": str(self._library),
            "FAULT_BELOW": str(below),
            "FAULT_LOG": str(log),
            "FAULT_AT": str(fault.at),
            "FAULT_ERRNO": str(fault.error),
            "FAULT_TORN": str(int(fault.torn)),
            "FAULT_FOR": str(fault.times),
        }


def build(folder: Path) -> Injection:
    """Compile the library; skips the test where there is no compiler."""
    compiler = shutil.which("cc")
    if compiler is None:
        pytest.skip("needs a C compiler called cc")
    library = folder / "failing_calls.so"
    command = [compiler, "-shared", "-fPIC", "-O1", "-Wall", "-Werror", "-o", str(library)]
    subprocess.run([*command, str(SOURCE), "-ldl"], check=True, timeout=60)
    return Injection(library)


def calls(log: Path) -> list[Call]:
    """Return the calls of a run, in order."""
    lines = log.read_text().splitlines() if log.exists() else []
    found = [line.partition(" ") for line in lines]
    return [Call(name.removeprefix("*"), path, name.startswith("*")) for name, _, path in found]


def survive_each(survives: Callable[[str, Fault], str], injected: Sequence[Fault]) -> Counter[str]:
    """Let a command live through each fault, under a name of its own; count how it ended.

    All that went wrong are told, not only the first.
    """
    problems: list[str] = []

    def survive(fault: Fault) -> str:
        try:
            return survives(f"at-{fault.at}-{fault.error}", fault)
        except AssertionError as error:
            problems.append(f"{error}: {error.__cause__}" if error.__cause__ else str(error))
            return "wrong"

    with ThreadPoolExecutor(AT_ONCE) as pool:
        outcomes = Counter(pool.map(survive, injected))
    assert not problems, f"{len(problems)} of {len(injected)}:\n" + "\n\n".join(problems)
    return outcomes
