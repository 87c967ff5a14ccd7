"""The docs tell the truth: every parameter is there, every example runs, every link leads on."""

from __future__ import annotations

import os
import re
import shutil
import subprocess
import tomllib
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from pydantic import BaseModel

import middleware
from middleware.contract import Middleware
from middleware.loading import load_class, short_names
from middleware.testing import check_contract
from service.sources.source import Source
from tests.daemon.running import PENSTOCK, RunningDaemon, eventually, left_behind

ROOT = Path(__file__).parent.parent
PAGES = [ROOT / "README.md", *sorted(ROOT.glob("docs/*.md"))]
KINDS: list[tuple[str, type[Any]]] = [
    ("middleware", Middleware),
    ("service.sources", Source),
]
BUILT_IN = [
    (package, name, kind)
    for package, kind in KINDS
    for name in short_names(package=package, kind=kind)
]


def section(text: str, heading: str) -> str:
    """Return what stands below a heading, up to the next one."""
    start = text.index(heading)
    end = text.find("\n## ", start + 1)
    return text[start : end if end > 0 else None]


@pytest.mark.parametrize(("package", "name", "kind"), BUILT_IN)
def test_every_parameter_is_documented(package: str, name: str, kind: type[Any]) -> None:
    page = (ROOT / "docs" / "configuration.md").read_text()
    below = section(page, f"## Built-in {package.removeprefix('service.')}")
    assert f'### `use = "{name}"`' in below
    below = (
        section((ROOT / "docs/middleware.md").read_text(), "## Adj")
        if name == "adjacent"
        else below
    )
    model: type[BaseModel] = load_class(name, package=package, kind=kind).Params
    for param, field in model.model_fields.items():
        assert f"`{param}`" in below, f"{name}: {param} is not documented"
        if isinstance(field.default, int | float) and not isinstance(field.default, bool):
            assert f"`{field.default}`" in below, f"{name}: the default of {param} is another"


@pytest.mark.parametrize("page", PAGES, ids=lambda page: page.name)
def test_links_lead_somewhere(page: Path) -> None:
    for target in re.findall(r"\]\(([^)#]+)\)", page.read_text()):
        if not target.startswith("http"):
            assert (page.parent / target).exists(), f"{page.name}: {target}"


def python_examples(page: str) -> list[str]:
    """Return the Python examples of a page."""
    return re.findall(r"```python\n(.*?)```", (ROOT / page).read_text(), re.DOTALL)


def test_the_readme_s_first_middleware_keeps_the_contract() -> None:
    (example,) = python_examples("README.md")
    names: dict[str, Any] = {"__name__": "severity"}
    exec(example, names)  # noqa: S102 - our own page
    assert len(example.splitlines()) <= 17
    events = [{"cid": 1, "time": float(index), "severity": index} for index in range(6)]
    check_contract(names["Severity"], {"at_least": 4}, events)
    demo = {"cid": 131000000201, "time": 1700000000.0}  # all that the demo's events have
    assert names["Severity"](names["Severity"].Params()).handle(demo) is demo


def test_the_examples_with_and_without_memory_keep_the_contract() -> None:
    names: dict[str, Any] = dict(vars(middleware)) | {"BaseModel": BaseModel, "np": np}
    events = [{"cid": index % 2, "time": float(index)} for index in range(40)]
    for example, params in (("Blocklist", {"cids": [1]}), ("EveryTenth", {})):
        (source,) = [
            each for each in python_examples("docs/middleware.md") if f"class {example}" in each
        ]
        exec(source, names)  # noqa: S102 - our own page
        check_contract(names[example], params, events)


@pytest.mark.timeout(120)
@pytest.mark.skipif(not shutil.which("curl"), reason="curl is not installed")
def test_the_readme_s_commands_do_what_it_says(tmp_path: Path) -> None:
    configuration = (ROOT / "config/penstock.toml").read_text()
    (tmp_path / "penstock.toml").write_text(configuration.replace(":8080", ":0"))
    page = (ROOT / "README.md").read_text()
    make, *blocks = re.findall(r"```sh\n(.*?)```", page, re.DOTALL)
    assert make.startswith("make run")
    daemon = RunningDaemon(tmp_path)
    try:
        host, port = daemon.address
        (tmp_path / "config").mkdir()
        (tmp_path / "config/penstock.toml").write_text(configuration.replace(":8080", f":{port}"))
        eventually(lambda: daemon.stats()["accepted"], "the generator makes events")
        commands = "".join(blocks).replace(". .venv/bin/activate\n", "")
        commands = commands.replace("127.0.0.1:8080", f"{host}:{port}")
        done = subprocess.run(
            ["/bin/bash", "-euo", "pipefail", "-c", commands],
            cwd=tmp_path,
            env={**os.environ, "PATH": f"{Path(PENSTOCK).parent}:{os.environ['PATH']}"},
            capture_output=True,
            timeout=100,
            text=True,
            check=False,
        )
    finally:
        daemon.end()
    assert done.returncode == 0, done.stderr
    assert '"accepted":1' in done.stdout.replace(" ", "")
    share = len((tmp_path / "kept.ndjson").read_bytes().splitlines()) / 100_000
    assert 0.3 < share < 0.7, "of the README's events about half are kept"
    assert "events compared" in done.stderr
    assert left_behind(tmp_path) == []


@pytest.mark.parametrize("page", PAGES, ids=lambda page: page.name)
def test_toml_examples_are_toml(page: Path) -> None:
    for example in re.findall(r"```toml\n(.*?)```", page.read_text(), re.DOTALL):
        assert tomllib.loads(example)
