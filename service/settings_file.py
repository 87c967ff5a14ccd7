"""The configuration file as it was written: its settings, or a line for each thing wrong in it."""

from __future__ import annotations

import codecs
import json
import re
import tomllib
from collections.abc import Iterator
from pathlib import Path
from typing import Any, Final, Literal, NamedTuple, TypeVar, get_args

from pydantic import ValidationError
from pydantic.fields import FieldInfo
from pydantic_core import ErrorDetails

from middleware.errors import ConfigurationError
from middleware.wording import printable, problem, told, unknown
from service.settings import (
    EventSettings,
    MiddlewareSettings,
    PartSettings,
    Section,
    Settings,
    SinkSettings,
    StateSettings,
)

Kind = Literal["source", "middleware", "sink"]
Model = TypeVar("Model", bound=Section)

PARTS: Final[dict[Kind, type[PartSettings]]] = {
    "source": PartSettings,
    "middleware": MiddlewareSettings,
    "sink": SinkSettings,
}


class Table(NamedTuple):
    """A source, a middleware or a sink, and where it stands: ``middleware[1] "adjacent"``."""

    place: str
    part: Any


class SettingsFile:
    """What a file says. ``problems`` are those of the settings; what classes say is not asked."""

    def __init__(self, path: Path) -> None:
        """Read the file; raises ConfigurationError when it cannot be read, or is no TOML."""
        self.path = path
        self._data = _read(path)
        self.settings: Settings | None = None
        self.problems: list[str] = []
        try:
            self.settings = Settings.model_validate(self._data)
        except ValidationError as error:
            self.problems = [
                _describe(detail, self._data)
                for detail in told(error.errors(), _known)
                # Said also of tables that are there, but wrong.
                if detail["type"] != "too_short" or not detail["input"]
            ]

    @property
    def event(self) -> EventSettings:
        """What an event is, as far as that is right."""
        return _mended(EventSettings, self._data.get("event")) or EventSettings()

    @property
    def state(self) -> StateSettings:
        """What outlives the process, as far as that is right."""
        return _mended(StateSettings, self._data.get("state")) or StateSettings()

    def tables(self, kind: Kind) -> Iterator[Table]:
        """Yield the tables of a kind, as far as they are right: with what to load, and params."""
        written = self._data.get(kind)
        for index, table in enumerate(written if isinstance(written, list) else ()):
            if part := _mended(PARTS[kind], table, missing={"name": "unnamed"}):
                yield Table(_table((kind, index), self._data), part)

    def told(self, problems: list[str]) -> ConfigurationError:
        """Return the error that tells problems, a line for each."""
        return ConfigurationError("\n".join(f"{self.path}: {each}" for each in problems))


def load_settings(path: Path) -> Settings:
    """Return the settings; raises ConfigurationError, a line per problem: file, key, expected."""
    file = SettingsFile(path)
    if file.settings is None:
        raise file.told(file.problems)
    return file.settings


def _mended(model: type[Model], table: Any, missing: dict[str, Any] | None = None) -> Model | None:
    """Return what is right in a table, or None when what it is made from is not."""
    if not isinstance(table, dict):
        return None
    try:
        return model.model_validate(table)
    except ValidationError as error:
        wrong = {detail["loc"][0] for detail in error.errors()}
    if wrong & {"use", "params"}:
        return None
    rest = {name: value for name, value in table.items() if name not in wrong}
    try:
        return model.model_validate({**(missing or {}), **rest})
    except ValidationError:  # what is left does not go together
        return None


def _read(path: Path) -> dict[str, Any]:
    try:
        data = path.read_bytes()
    except OSError as error:
        message = f"{path}: cannot be read: {error.strerror}; name another with --config"
        raise ConfigurationError(message) from None
    except ValueError:  # a NUL in the path
        raise ConfigurationError(f"{printable(str(path))}: is no path of a file") from None
    if data.startswith((codecs.BOM_UTF16_LE, codecs.BOM_UTF16_BE)):
        raise ConfigurationError(f"{path}: is UTF-16; save it as UTF-8")
    try:
        return tomllib.loads(data.decode("utf-8-sig") + "\n")
    except UnicodeDecodeError as error:
        line = data.count(b"\n", 0, error.start) + 1
        raise ConfigurationError(
            f"{path}: line {line} is not UTF-8; save the file as UTF-8"
        ) from None
    except ValueError as error:  # of TOML, or of a number beyond Python's limits
        raise ConfigurationError(f"{path}: not valid TOML: {_of_toml(str(error))}") from None
    except RecursionError:
        raise ConfigurationError(f"{path}: not valid TOML: nested too deeply") from None


_TOML: Final = [
    (r"Cannot declare \((.*?),?\) twice", r"the table [\1] is there twice"),
    (r"Cannot overwrite a value", r"this was set before, further up"),
    (
        r"Expected newline or end of document after a statement",
        r'expected the end of the line; text, such as "5m", stands in quotation marks',
    ),
    (
        r"^Invalid value",
        r'expected a number, true, false, a list, or text in quotation marks, such as "adjacent"',
    ),
    (
        r"Illegal character '\\n'|Unterminated string|Expected \"'\"",
        r"text is not closed by its quotation mark",
    ),
    (
        r"Unescaped '\\' in a string",
        r"in text, write \\\\ for a backslash, or use 'single' quotation marks",
    ),
    (r"Unclosed inline table", r"{ ... } stands on one line, with commas between its keys"),
    (r"Unclosed array", r"expected a comma, or the ] that closes the list"),
    (
        r"Invalid initial character for a key part",
        r"expected a name; { ... } stands on one line, and no comma follows the last one in it",
    ),
    (r"Invalid statement", r"expected [table], [[table]] or name = value"),
    (r"Expected '=' after a key in a key/value pair", r"expected name = value"),
    (r"Exceeds the limit.*", r"a number has too many digits"),
]
"""What the parser says, as a pattern, and what a message says instead."""


def _of_toml(text: str) -> str:
    """Return the parser's message in words that say what to do."""
    for pattern, words in _TOML:
        told = re.sub(pattern, words, text)
        if told != text:
            return printable(told.replace("['", "[").replace("', '", ".").replace("']", "]"))
    return printable(text[:1].lower() + text[1:])


_WORDING: Final = {
    "string_pattern_mismatch": "a lower-case letter, then at most 63 of a-z, 0-9, _ and -",
    "one_table": "one table, [{key}]",
    "tuple_type": "tables, each under its own [[{key}]]",
}


def _describe(detail: ErrorDetails, data: dict[str, Any]) -> str:
    kind, context = detail["type"], detail.get("ctx", {})
    place = detail["loc"] + context.get("at", ())
    where = _where(place, data)
    if kind == "extra_forbidden":
        return f"{where}: {_unknown(place)}"
    if kind in {"missing", "too_short"}:
        return f"{where}: required, but missing: {_known(place)[str(place[-1])].description}"
    if kind == "model_type" and not place[1:]:
        kind = "one_table"
    context = {"key": place[-1], **context}
    placed = {**detail, "type": kind, "loc": place, "ctx": context}
    return f"{where}: {problem(placed, wording=_WORDING)}"


def _unknown(place: tuple[str | int, ...]) -> str:
    """Say what an unknown setting may be meant to be: one nearby, or one of another table."""
    name, known = str(place[-1]), _known(place)
    text = unknown("setting", name, known)
    if "did you mean" in text:
        return text
    if len(place) > 2:  # noqa: PLR2004 - of a source, a middleware or a sink
        return f"{text}; what its class takes goes into params"
    for table, field in Settings.model_fields.items():
        section = field.annotation
        if isinstance(section, type) and name in section.model_fields:
            return f"{text}; there is {table}.{name}"
    return text


def _where(place: tuple[str | int, ...], data: dict[str, Any]) -> str:
    """Write the key at ``place`` as in ``middleware[1] "adjacent".mode``."""
    keys = [str(key) if re.fullmatch(r"[\w-]*", str(key)) else json.dumps(key) for key in place]
    match place:
        case [str(kind), int(index), *below]:
            own = below in ([], ["name"])
            keys[:2] = [f"{kind}[{index}]" if own else _table((kind, index), data)]
    return ".".join(keys)


def _table(place: tuple[str, int], data: dict[str, Any]) -> str:
    """Write which table it is, with its name if it has one."""
    kind, index = place
    table = data[kind][index]
    name = table.get("name") if isinstance(table, dict) else None
    return f"{kind}[{index}]" + (f" {json.dumps(name)}" if isinstance(name, str) else "")


def _known(place: tuple[str | int, ...]) -> dict[str, FieldInfo]:
    """Return the settings of the table that holds the key at ``place``."""
    annotation: Any = Settings.model_fields[str(place[0])].annotation if place[1:] else Settings
    table: type[Section] = next(iter(get_args(annotation)), annotation)
    return table.model_fields
