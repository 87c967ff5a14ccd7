"""Mistakes that are made in a configuration, and what ``penstock check`` says of each.

``configuration_mistakes.txt`` holds them: what the file says, then after ">" what is said of it,
a line for each thing that is wrong. One that has no sink is given one. FOLDER is where it lies.
"""

from __future__ import annotations

import importlib.util
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Final

import pytest
from click.testing import CliRunner

from service.cli import main

BAD_CONFIGURATION: Final = 78
SINK: Final = '[[sink]]\nname = "kept"\nuse = "ndjson"\nparams = { path = "kept.ndjson" }\n'
MISTAKES: Final = (
    Path(__file__)
    .with_name("configuration_mistakes.txt")
    .read_text(encoding="utf-8")
    .strip()
    .split("\n\n")
)
PASSWORD: Final = "Zanzibar17"  # noqa: S105 - nobody's

Check = Callable[[str | bytes], list[str]]


@pytest.fixture
def check(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Check:
    """Check a file, which is refused; return what is said of it, without the file's name."""
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(sys, "path", list(sys.path))

    def refused(text: str | bytes) -> list[str]:
        data = text.encode() if isinstance(text, str) else text
        sink = b"" if b"sink" in data else SINK.encode()
        Path("penstock.toml").write_bytes(data + b"\n" + sink)
        done = CliRunner().invoke(main, ["check", "--config", "penstock.toml"])
        assert isinstance(done.exception, SystemExit), done.exception
        assert (done.exit_code, done.stdout) == (BAD_CONFIGURATION, "")
        lines = done.stderr.replace(str(tmp_path), "FOLDER").splitlines()
        assert all(line.startswith("penstock.toml: ") for line in lines)
        return [line.removeprefix("penstock.toml: ") for line in lines]

    return refused


@pytest.mark.parametrize("mistake", MISTAKES)
def test_a_mistake_is_told_with_its_place_and_what_to_write_instead(
    check: Check, mistake: str
) -> None:
    lines = mistake.split("\n")
    said = [line.removeprefix("> ") for line in lines if line.startswith("> ")]
    assert check("\n".join(line for line in lines if not line.startswith("> "))) == said


@pytest.mark.parametrize(
    ("data", "said"),
    [
        (b"\xff\xfe[\0h\0t\0t\0p\0]\0", "is UTF-16; save it as UTF-8"),
        (b'[event]\n\ncid = "gr\xf6\xdfe"', "line 3 is not UTF-8; save the file as UTF-8"),
        (
            b'[event]\ncid = "\x01"',
            "not valid TOML: illegal character '\\x01' (at line 2, column 8)",
        ),
        (b"[queue]\nevents = " + b"9" * 5_000, "not valid TOML: a number has too many digits"),
        (b"deep = " + b"[" * 3_000, "not valid TOML: nested too deeply"),
    ],
    ids=["UTF-16", "Latin-1", "a control character", "digits", "depth"],
)
def test_what_is_no_text_of_toml_is_told_in_a_line(check: Check, data: bytes, said: str) -> None:
    assert check(data) == [said]


def test_a_byte_order_mark_is_no_mistake(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(sys, "path", list(sys.path))
    path = tmp_path / "penstock.toml"
    path.write_bytes(b"\xef\xbb\xbf" + SINK.replace("\n", "\r\n").encode())
    assert CliRunner().invoke(main, ["check", "--config", str(path)]).exit_code == 0


def test_what_is_no_setting_stands_behind_a_colon(check: Check) -> None:
    Path("refusing.py").write_text(
        "from service.sinks.sink import Sink\n"
        "class Counts(Sink):\n"
        "    def __init__(self, params):\n"
        "        raise ValueError('no counts')\n"
        "    def write(self, emission):\n"
        "        pass\n"
    )
    (said,) = check('[[sink]]\nname = "counts"\nuse = "refusing:Counts"')
    assert said.startswith('sink[0] "counts".params: Counts cannot be made: ValueError: no counts')


SECRET_URLS = [
    f"postgresql://me:{PASSWORD}@host/db",
    f"postgresql://me:p@{PASSWORD}@host/db",
    f"postgresql://me:p/{PASSWORD}@host/db",
    f"postgresql://me:p#{PASSWORD}@host/db",
    f"postgresql:/me:{PASSWORD}@host/db",
    f"postgresql//me:{PASSWORD}@host/db",
    f"postgres://me:{PASSWORD}@host/db",
    f"postgresql+psycopg://me:{PASSWORD}@host/db",
    f"Postgresql://me:{PASSWORD}@host/db",
    f" postgresql://me:{PASSWORD}@host/db",
    f"me:{PASSWORD}@host/db",
    f"mysql://me:{PASSWORD}@host/db",
    f"sqlite://me:{PASSWORD}@host/db",
]


@pytest.mark.parametrize("url", SECRET_URLS)
@pytest.mark.parametrize(
    "text",
    [
        'params = {{ url = "{url}", nothing = 1 }}',
        'params = {{ url = ["{url}"] }}',
        'params = {{ url = {{ is = "{url}" }} }}',
        'params = {{ ulr = "{url}" }}',
        'params = {{ url = "sqlite:///x", cid = "", table = "{url}" }}',
        'params = "{url}"',
        'refused = "{url}"\nparams = {{}}',
        'url = "{url}"',
        'params = {{ url = "{url}" ',
        "params = {{ url = {url} }}",
    ],
)
def test_no_part_of_a_password_is_shown_wherever_it_was_written(
    check: Check, text: str, url: str
) -> None:
    said = "\n".join(check(f'[[sink]]\nname = "out"\nuse = "sql"\n{text.format(url=url)}'))
    assert said
    assert PASSWORD not in said


def test_a_sink_for_which_a_library_is_missing_is_told(
    check: Check, monkeypatch: pytest.MonkeyPatch
) -> None:
    find = importlib.util.find_spec

    def without_sqlalchemy(name: str, package: str | None = None) -> object:
        return None if name == "sqlalchemy" else find(name, package)

    monkeypatch.setattr("service.sinks.sql_database.find_spec", without_sqlalchemy)
    assert check('[[sink]]\nname = "out"\nuse = "sql"\nparams = { url = "sqlite:///x.db" }') == [
        (
            'sink[0] "out".params.url: needs sqlalchemy, which is not installed: '
            'pip install "penstock[sql]"'
        )
    ]


def test_a_broken_file_beside_the_one_that_was_misspelt_is_not_blamed(
    check: Check, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    folder = tmp_path / "more"
    folder.mkdir()
    (folder / "broken.py").write_text("import nothing_of_this_name\n")
    (folder / "severity.py").write_text(
        "from middleware import Middleware\nclass Severity(Middleware):\n    print('imported')\n"
    )
    import middleware  # noqa: PLC0415 - the package that gets another folder

    monkeypatch.setattr(middleware, "__path__", [*middleware.__path__, str(folder)])
    (said,) = check('[[middleware]]\nname = "x"\nuse = "severty"')
    assert said == (
        'middleware[0] "x".use = "severty": neither a file of middleware/ '
        '(adjacent, blocklist, severity) nor "module:Class"; did you mean "severity"?'
    )


def test_a_duration_of_a_middleware_has_units_as_everywhere(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(sys, "path", list(sys.path))
    path = tmp_path / "penstock.toml"
    step = '[[middleware]]\nname = "near"\nuse = "adjacent"\nparams = { window = "5m" }\n'
    path.write_text(step + SINK)
    assert CliRunner().invoke(main, ["check", "--config", str(path)]).exit_code == 0
