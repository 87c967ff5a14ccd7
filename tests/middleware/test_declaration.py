"""What is wrong with a class is told before anything starts, with the line to write instead."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest

from middleware import ConfigurationError, ContractError, Middleware, SharedMiddleware
from middleware.declaration import check_declaration, check_instance
from middleware.testing import check_contract
from tests.conftest import Command

EVENTS = [{"cid": 1, "time": 0.0}]


class Good(Middleware):
    reads = ("cid",)

    def handle(self, event: Any) -> Any:
        return event


class Remembers(SharedMiddleware, Good):
    def snapshot(self) -> Any:
        return None

    def restore(self, state: Any) -> None:
        del state


def made(base: type[Middleware] = Good, **members: Any) -> type[Middleware]:
    return type("Mine", (base,), members)


def check(cls: type[Middleware]) -> None:
    check_declaration(cls)
    check_instance(cls(cls.parse_params({})))


def told(cls: type[Middleware]) -> str:
    """Return what is wrong; check_contract says it, too, and what to do about it."""
    with pytest.raises(ConfigurationError) as caught:
        check(cls)
    (line,) = str(caught.value).splitlines()
    with pytest.raises(ContractError) as breach:
        check_contract(cls, {}, EVENTS)
    what, _, advice = line.rpartition(": ")
    assert str(breach.value) == f"{what}\n  to do: {advice}"
    return line.removeprefix(f"{cls.__name__}: ")


async def waits(self: Any, event: Any) -> Any:
    del self
    return event


def yields(self: Any, event: Any) -> Any:
    del self
    yield event


@pytest.mark.parametrize(
    ("reads", "write"),
    [
        ("severity", 'write reads = ("severity",)'),
        (["severity"], 'write reads = ("severity",)'),
        (["cid", "time"], 'write reads = ("cid", "time")'),
        ({"b", "a"}, 'write reads = ("a", "b")'),
        (("cid", 1), "1 is none"),
        (("",), "'' is none"),
        (("\ud800",), "'\\ud800' is none"),
    ],
)
def test_reads_is_a_tuple_of_names(reads: Any, write: str) -> None:
    expected = f"reads must be a tuple of field names: {write}"
    assert told(made(reads=reads)) == expected
    assert told(made(reads=property(lambda _: reads))) == expected


def test_reads_that_is_something_else() -> None:
    with pytest.raises(ConfigurationError, match="not NoneType; leave it out to read whole"):
        check_declaration(made(reads=None))
    assert told(made(reads=lambda _: ("cid",))) == "reads is a method: write @property above it"


@pytest.mark.parametrize(
    ("members", "expected"),
    [
        ({"handle": waits}, "handle is async, and nobody would wait for it: write def handle("),
        ({"handle": staticmethod(waits)}, "handle is async, and nobody"),
        ({"handle": yields}, "handle yields, where it must return: write return"),
        ({"handle": 5}, "handle is int, not a method: write def handle(self, event)"),
        ({"handle": lambda _: None}, "handle(_) cannot be called as Penstock does: write def"),
        ({"handle": staticmethod(lambda _a, _b: None)}, "handle(_a, _b) cannot be called"),
        ({"handle_batch": lambda _a, _b, _c: None}, "handle_batch(_a, _b, _c) cannot be called"),
        ({"open": lambda _a, _b: None}, "open(_a, _b) cannot be called as Penstock does: write"),
        ({"close": waits}, "close is async"),
        ({"explain": lambda _: None}, "explain(_) cannot be called"),
        ({"__init__": lambda _: None}, "__init__(_) cannot be called as Penstock does"),
        ({"Params": dict}, "Params is no pydantic model: write class Params(BaseModel)"),
        ({"Params": 5}, "Params is no pydantic model"),
        ({"shared": True}, "shared is set by hand: leave it out, and derive from SharedMiddleware"),
    ],
    ids=lambda value: value if isinstance(value, str) else next(iter(value)),
)
def test_what_penstock_could_not_use(members: dict[str, Any], expected: str) -> None:
    assert told(made(**members)).startswith(expected)


@pytest.mark.parametrize("name", ["snapshot", "restore"])
def test_what_remembers_says_how(name: str) -> None:
    without = {name: getattr(SharedMiddleware, name)}
    expected = f"has no {name}, and without it nothing remembered outlives this process: define"
    assert told(made(Remembers, **without)).startswith(expected)
    assert told(made(Remembers, shared=False)).startswith("shared is set by hand")
    assert told(made(Remembers, **{name: lambda: None})).startswith(f"{name}() cannot be called")


def test_an_init_that_leaves_out_that_of_middleware() -> None:
    def __init__(self: Any, params: Any) -> None:  # noqa: N807 - it becomes one
        self.params = params

    assert told(made(__init__=__init__)) == (
        "__init__ does not begin with super().__init__(params): write that line"
    )


def test_all_that_is_wrong_is_told_at_once() -> None:
    with pytest.raises(ConfigurationError) as caught:
        check_declaration(made(SharedMiddleware, reads="cid", close=waits))
    assert len(str(caught.value).splitlines()) == 5


@pytest.mark.parametrize(
    "cls",
    [
        Good,
        Remembers,
        made(handle=print),
        made(handle=staticmethod(lambda event: event)),
        made(handle=classmethod(lambda _, event: event)),
        made(handle=lambda _, event, more=None: (event, more)),
        made(reads=()),
        made(open=lambda *_: None),
    ],
)
def test_what_can_be_used_passes(cls: type[Middleware]) -> None:
    check(cls)


@pytest.mark.parametrize("command", ["check", "run"])
def test_a_command_says_it_in_a_line_and_starts_nothing(
    command: str, tmp_path: Path, penstock: Command, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("PYTHONPATH", str(tmp_path))
    (tmp_path / "reads_wrongly.py").write_text(
        "from middleware import Middleware\n"
        "class Severity(Middleware):\n"
        "    reads = ('severity')\n"
        "    def handle(self, event): return event\n"
    )
    (tmp_path / "penstock.toml").write_text(
        '[[middleware]]\nname = "severe"\nuse = "reads_wrongly:Severity"\n'
        '[[sink]]\nname = "kept"\nuse = "ndjson"\nparams = { path = "kept.ndjson" }\n'
    )
    done = penstock(command, "--config", "penstock.toml")
    assert done.returncode == 78
    said = done.stderr.decode()
    assert (said if command == "check" else json.loads(said)["event"] + "\n") == (
        'penstock.toml: middleware[0] "severe".use = "reads_wrongly:Severity": Severity: '
        'reads must be a tuple of field names: write reads = ("severity",)\n'
    )
    assert list(tmp_path.glob("var*")) == []
