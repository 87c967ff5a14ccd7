"""The house: imports point one way, modules stay short, children stay light."""

from __future__ import annotations

import ast
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).parent.parent
MODULES = sorted([*ROOT.glob("middleware/*.py"), *ROOT.glob("service/**/*.py")])

LAYERS = [
    {
        "errors",
        "runtime_directory",
        "signals",
        "locks",
        "limits",
        "settings",
        "settings_file",
        "threads",
        "child",
        "child_output",
        "client",
        "progress",
        "slots",
        "shared_file",
        "logs",
        "database",
        "allocator",
        "disk",
        "privacy",
        "garbage",
        "free_space",
        "standard_output",
        "last_calls",
    },
    {"chain"},
    {"block", "own_code"},
    {
        "span",
        "answer",
        "file_position",
        "appended_file",
        "bad_lines",
        "border",
        "plain_events",
        "scan",
        "event_queue",
        "origins",
        "journal",
    },
    {
        "changes",
        "suspicion",
        "passage",
        "snapshot",
        "sequencer",
        "sinks",
        "idempotency",
        "checkpoint",
    },
    {
        "runner",
        "state_host",
        "statistics",
        "deaths",
        "dead_letters",
        "dead_letter_file",
        "dead_letter_store",
        "dead_letter_tables",
    },
    {"worker", "outlet", "emitter", "redrive", "preload"},
    {"backlog"},
    {"dispatcher"},
    {"intake", "worker_pool", "trial"},
    {"guardian", "checkpointer", "recovery"},
    {"state_directory", "left_out", "classes", "replay", "opening", "saving"},
    {"sources", "admin", "claims", "configured", "pipeline", "operation"},
    {"http_admission", "http_bodies", "http_request", "http_answer", "http_channel", "http_server"},
    {"class_trial", "processing", "finishing", "bench", "sample_events"},
    {"daemon"},
    {"commands"},
    {"cli"},
    {"__main__"},
]
"""The parts of ``service/``: each imports from those above it, and from its own line."""


def imports(module: Path) -> set[str]:
    """Return the names of all modules that a file imports."""
    found = set()
    for node in ast.walk(ast.parse(module.read_text())):
        if isinstance(node, ast.Import):
            found |= {name.name for name in node.names}
        elif isinstance(node, ast.ImportFrom) and node.module:
            found.add(node.module)
    return found


def part(module: Path) -> str:
    """Return which part of ``service/`` a file belongs to."""
    return module.relative_to(ROOT / "service").parts[0].removesuffix(".py")


def loaded_with(modules: str) -> set[str]:
    """Return the names of all modules that a new interpreter holds after importing these."""
    code = f"import sys, {modules}; print('\\n'.join(sys.modules))"
    done = subprocess.run(
        [sys.executable, "-c", code],
        cwd=ROOT,
        capture_output=True,
        text=True,
        timeout=60,
        check=True,
    )
    return set(done.stdout.split())


@pytest.mark.parametrize("module", MODULES, ids=lambda module: str(module.relative_to(ROOT)))
def test_imports_point_one_way(module: Path) -> None:
    inside = {name for name in imports(module) if name.split(".")[0] in {"middleware", "service"}}
    if module.is_relative_to(ROOT / "middleware"):
        assert all(name.startswith("middleware") for name in inside)
        return
    if module.name == "__init__.py":
        assert not inside
        return
    layer = next(index for index, layer in enumerate(LAYERS) if part(module) in layer)
    allowed = set().union(*LAYERS[: layer + 1])
    wrong = {
        name for name in inside if name.startswith("service.") and name.split(".")[1] not in allowed
    }
    assert not wrong


@pytest.mark.parametrize("module", MODULES, ids=lambda module: str(module.relative_to(ROOT)))
def test_modules_are_short(module: Path) -> None:
    assert len(module.read_text().splitlines()) <= 340


@pytest.mark.parametrize("heavy", ["flask", "apscheduler", "waitress", "structlog", "click"])
def test_worker_and_state_host_load_nothing_heavy(heavy: str) -> None:
    assert heavy not in loaded_with("service.worker, service.state_host")


def test_help_loads_nothing_heavy() -> None:
    assert not {"numpy", "pydantic", "flask", "msgspec"} & loaded_with("service.cli")


def test_the_first_event_makes_the_children_import_nothing() -> None:
    code = """
import sys
import service.preload
import numpy as np
from middleware.adjacent import AdjacentSuppressor
from middleware.contract import Batch
before = set(sys.modules)
step = AdjacentSuppressor(AdjacentSuppressor.Params())
step.open()
assert step.handle_batch(Batch(np.array([1, 5]), np.array([0.0, 1.0]))).all()
print(*sorted(set(sys.modules) - before))
"""
    done = subprocess.run(
        [sys.executable, "-c", code], cwd=ROOT, capture_output=True, timeout=60, check=True
    )
    assert not done.stdout.strip()
