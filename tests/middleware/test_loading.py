"""From a name in the configuration to a class; errors say what was looked for and what there is."""

from __future__ import annotations

from importlib import resources
from pathlib import Path

import pytest

from middleware import ConfigurationError
from middleware.adjacent import AdjacentSuppressor
from middleware.blocklist import Blocklist
from middleware.loading import load_middleware


def refusal(use: str) -> str:
    with pytest.raises(ConfigurationError) as caught:
        load_middleware(use)
    return str(caught.value)


@pytest.fixture
def folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.syspath_prepend(tmp_path)
    return tmp_path


def test_a_short_name_is_a_file_of_the_package() -> None:
    assert load_middleware("adjacent") is AdjacentSuppressor
    assert load_middleware("blocklist") is Blocklist


def test_an_import_string_names_module_and_class() -> None:
    assert load_middleware("middleware.adjacent:AdjacentSuppressor") is AdjacentSuppressor


def test_a_module_of_your_own_needs_no_registration(folder: Path) -> None:
    source = "from middleware import Middleware\nclass Mine(Middleware):\n    handle = print\n"
    (folder / "mine_alone.py").write_text(source)
    assert load_middleware("mine_alone:Mine").__name__ == "Mine"


@pytest.mark.parametrize("use", ["adjacent_", "no-name", "a.b", ""])
def test_an_unknown_short_name_is_refused_with_the_known_ones(use: str) -> None:
    message = refusal(use)
    assert f'use = "{use}"' in message
    assert "adjacent" in message
    assert "blocklist" in message


@pytest.mark.parametrize("use", [":Class", "module:"])
def test_an_import_string_has_two_parts(use: str) -> None:
    assert 'an import string is written "module:Class"' in refusal(use)


def test_no_such_module() -> None:
    told = (
        f'there is no module "nowhere", neither in {Path.cwd()}, where the command was given, nor'
    )
    assert told in refusal("nowhere.at_all:Class")


def test_no_such_class_names_those_there_are() -> None:
    message = refusal("middleware.adjacent:Adjacent")
    assert 'middleware.adjacent has no "Adjacent"' in message
    assert "AdjacentSuppressor" in message


@pytest.mark.parametrize("thing", ["PointTimes", "NEVER"])
def test_not_a_middleware(thing: str) -> None:
    message = refusal(f"middleware.point_times:{thing}")
    assert f"{thing} is not a subclass of Middleware" in message


def test_a_middleware_without_any_form(folder: Path) -> None:
    source = "from middleware import Middleware\nclass Idle(Middleware): pass\n"
    (folder / "idle_module.py").write_text(source)
    assert "Idle: has neither handle nor handle_batch" in refusal("idle_module:Idle")


def test_an_import_that_fails_names_file_and_line(folder: Path) -> None:
    (folder / "fails_to_import.py").write_text("import json\n\n1 / 0\n")
    message = refusal("fails_to_import:Class")
    assert f"{folder / 'fails_to_import.py'}:3: ZeroDivisionError: division by zero" in message


def test_an_import_missing_inside_the_module_names_file_and_line(folder: Path) -> None:
    (folder / "needs_more.py").write_text("\nimport not_installed_here\n")
    message = refusal("needs_more:Class")
    assert f"{folder / 'needs_more.py'}:2: ModuleNotFoundError" in message


def test_a_syntax_error_names_file_and_line(folder: Path) -> None:
    (folder / "misspelt.py").write_text("\n\ndef (:\n")
    message = refusal("misspelt:Class")
    assert "misspelt.py" in message
    assert "line 3" in message


@pytest.mark.parametrize("package", ["middleware", "service"])
def test_the_types_are_there_for_those_who_check_their_own_code(package: str) -> None:
    assert (resources.files(package) / "py.typed").is_file()
