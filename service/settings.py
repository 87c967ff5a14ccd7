"""The settings: one TOML file as frozen models, checked whole before anything starts.

A field is called what its key is called: ``settings.workers.count`` is ``count`` in ``[workers]``.
Defaults are spelt as in the file. The classes that ``use`` names check it and ``params``, not this.
"""

from __future__ import annotations

import ipaddress
import json
import os
import re
import tomllib
from pathlib import Path
from typing import Annotated, Any, Literal, NamedTuple, get_args

from pydantic import (
    BaseModel,
    BeforeValidator,
    ByteSize,
    ConfigDict,
    Field,
    PlainSerializer,
    PlainValidator,
    ValidationError,
    ValidationInfo,
    WithJsonSchema,
    field_validator,
)
from pydantic.fields import FieldInfo
from pydantic_core import ErrorDetails, PydanticCustomError

from middleware.errors import ConfigurationError

_ADDRESS = r"^(?:\[([0-9A-Fa-f.]*:[0-9A-Fa-f:.]*)\]|([0-9.]+)):([0-9]{1,5})$"
_DURATION = r"^([0-9]+(?:\.[0-9]+)?)([smhd])$"
_SIZE = "^[1-9][0-9]{0,14}(B|kB|MB|GB|KiB|MiB|GiB)$"
_SECONDS = {"s": 1, "m": 60, "h": 3_600, "d": 86_400}
_CENTURY = 36_500 * 86_400  # the standard library's waits overflow beyond three


class Address(NamedTuple):
    """Where to listen: an IP address, and a port from 0 (any free one) to 65535."""

    host: str
    port: int

    def __str__(self) -> str:
        return f"[{self.host}]:{self.port}" if ":" in self.host else f"{self.host}:{self.port}"


def _address(value: object) -> Address:
    match = re.fullmatch(_ADDRESS, value) if isinstance(value, str) else None
    try:
        host = ipaddress.ip_address((match[1] or match[2]) if match else "")
    except ValueError:
        match = None
    if not match or int(match[3]) >= 2**16:
        raise ValueError('expected "ADDRESS:PORT", such as "127.0.0.1:8080" or "[::1]:8080"')
    if not host.is_loopback:
        message = (
            "expected a loopback address: listening beyond loopback needs authentication, "
            "which this version does not have"
        )
        raise ValueError(message)
    return Address(str(host), int(match[3]))


def _seconds(value: Any, *, other: str = "") -> float:
    if isinstance(value, str) and (match := re.fullmatch(_DURATION, value)):
        value = float(match[1]) * _SECONDS[match[2]]
    if type(value) not in {int, float} or not 0 <= value <= _CENTURY:
        message = f'expected seconds, or text such as "30s", "5m", "12h", "1d" (to 36500d){other}'
        raise ValueError(message)
    return float(value)


def _size(value: Any) -> Any:
    # ByteSize by itself reads true, and "1.2.3", as one byte.
    is_text = isinstance(value, str)
    if not (re.fullmatch(_SIZE, value) if is_text else type(value) is int and value > 0):
        raise ValueError('expected bytes, at least 1, or text such as "512KiB", "64MiB", "1GB"')
    return value


def usable_cores() -> int:
    """Return how many cores this process may use."""
    affinity = getattr(os, "sched_getaffinity", None)  # not every system has it
    return len(affinity(0)) if affinity else os.cpu_count() or 1


_DURATION_SCHEMA = {"type": ["number", "string"], "minimum": 0, "maximum": _CENTURY}
_SIZE_SCHEMA = {"type": ["integer", "string"], "minimum": 1, "pattern": _SIZE}

Name = Annotated[str, Field(pattern="^[a-z][a-z0-9_-]{0,63}$")]
Text = Annotated[str, Field(min_length=1)]
Count = Annotated[int, Field(strict=True, ge=1)]
Size = Annotated[ByteSize, BeforeValidator(_size), WithJsonSchema(_SIZE_SCHEMA)]
Seconds = Annotated[
    float, BeforeValidator(_seconds), WithJsonSchema(_DURATION_SCHEMA | {"pattern": _DURATION})
]
SecondsOrOff = Annotated[
    float | None,
    PlainValidator(lambda value: None if value == "off" else _seconds(value, other=', or "off"')),
    PlainSerializer(lambda seconds: "off" if seconds is None else seconds),
    WithJsonSchema(_DURATION_SCHEMA | {"pattern": f"{_DURATION}|^off$"}),
]
Listen = Annotated[
    Address, PlainValidator(_address), PlainSerializer(str), WithJsonSchema({"type": "string"})
]


class Section(BaseModel):
    """A table of the file: read-only, and a key it does not declare is an error."""

    model_config = ConfigDict(frozen=True, extra="forbid")


class EventSettings(Section):
    """What an event looks like, and which ones are turned away."""

    cid: Text = Field("cid", description="the field that holds the point's number")
    time: Text = Field("time", description="the field that holds the event's time")
    time_format: Literal["epoch", "rfc3339"] = Field(
        "epoch", description="how it is written: seconds since the epoch, or RFC 3339 text"
    )
    max_future: SecondsOrOff = Field(
        "1d", validate_default=True, description='how far the time may lie ahead, or "off"'
    )
    max_event_bytes: Size = Field("1MiB", validate_default=True, description="how long one may be")

    @field_validator("time")
    @classmethod
    def _two_fields(cls, time: str, info: ValidationInfo) -> str:
        if time == info.data.get("cid"):
            raise ValueError("expected another field than event.cid")
        return time


class PartSettings(Section):
    """A source or a sink: a name, and the class that makes it."""

    name: Name = Field(description="its name in the API, in the stats and in messages")
    use: Text = Field(description='a built-in\'s short name, or "module:Class"')
    params: dict[str, Any] = Field(default_factory=dict, description="what its class takes")


class MiddlewareSettings(PartSettings):
    """A step of the chain."""

    mode: Literal["enabled", "shadow", "disabled"] = Field(
        "enabled",
        description="enabled: decides; shadow: counts what it would drop; disabled: sees nothing",
    )


class QueueSettings(Section):
    """What may wait to be accepted; at the limit, producers wait."""

    events: Count = Field(1_000_000, description="how many events may wait")
    bytes: Size = Field("16MiB", validate_default=True, description="how many bytes may wait")


class BlockSettings(Section):
    """When a block, the unit of transport, closes: full or old, whichever is first."""

    bytes: Size = Field("3MiB", validate_default=True, description="closes when it holds this much")
    linger: Seconds = Field(0.0005, description="closes when it is this old")


class WorkersSettings(Section):
    """The processes that run the chain."""

    count: Count = Field(default_factory=usable_cores, description="how many; else one per core")
    deadline: Seconds = Field(
        10.0, gt=0, description="how long one event or batch may take before its process is killed"
    )
    retries: Annotated[int, Field(strict=True, ge=0)] = Field(
        2, description="how often an event that raised, or killed its worker, is tried again"
    )


class HttpSettings(Section):
    """The HTTP server."""

    listen: Listen = Field(
        "127.0.0.1:8080", validate_default=True, description="loopback; port 0 is any free one"
    )
    max_body: Size = Field("16MiB", validate_default=True, description="how long a request may be")


class SinkSettings(PartSettings):
    """Where kept events go."""

    refused: Literal["wait", "dead"] = Field(
        "wait",
        description="an event the sink will never take: wait holds the stream back until it does; "
        "dead: it goes to the dead letters",
    )


class StateSettings(Section):
    """What outlives the process."""

    directory: Path = Field("var", validate_default=True, description="where it is kept on disk")
    durability: Literal["full", "normal", "off"] = Field(
        "full",
        description="what can be lost. full: nothing; normal: the last moments, when the power "
        "goes; off: all that is not emitted yet, and the memory, when the daemon dies",
    )
    checkpoint_interval: Seconds = Field(
        10.0, gt=0, description="how often memory and positions are saved: bounds the replay"
    )
    checkpoint_bytes: Size = Field(
        "512MiB", validate_default=True, description="saved also after so much input"
    )
    retention_bytes: Size = Field(
        "1GiB", validate_default=True, description="how large the journal may grow"
    )
    retention_age: Seconds = Field(
        "7d", validate_default=True, description="how long accepted events stay in the journal"
    )
    reserve: Size = Field(
        "256MiB",
        validate_default=True,
        description="free space on its disk below which nothing new is accepted",
    )


class Settings(Section):
    """The whole file. Names are unique within their kind; a block can hold the longest event."""

    event: EventSettings = Field(default_factory=EventSettings, description="what an event is")
    source: tuple[PartSettings, ...] = Field((), description="where events come from")
    middleware: tuple[MiddlewareSettings, ...] = Field((), description="the chain, in order")
    sink: tuple[SinkSettings, ...] = Field(min_length=1, description="at least one [[sink]]")
    queue: QueueSettings = Field(default_factory=QueueSettings, description="what may wait")
    block: BlockSettings = Field(
        default_factory=BlockSettings, validate_default=True, description="when a block closes"
    )
    workers: WorkersSettings = Field(default_factory=WorkersSettings, description="the processes")
    http: HttpSettings = Field(default_factory=HttpSettings, description="the HTTP server")
    state: StateSettings = Field(default_factory=StateSettings, description="what is kept on disk")

    @field_validator("source", "middleware", "sink")
    @classmethod
    def _unique_names(cls, parts: tuple[PartSettings, ...]) -> tuple[PartSettings, ...]:
        names: set[str] = set()
        for index, part in enumerate(parts):
            if part.name in names:
                expected = "expected a name that no other of its kind has"
                at = {"at": (index, "name"), "got": part.name}
                raise PydanticCustomError("name", expected, at)
            names.add(part.name)
        return parts

    @field_validator("block")
    @classmethod
    def _block_holds_event(cls, block: BlockSettings, info: ValidationInfo) -> BlockSettings:
        event = info.data.get("event")
        if event and block.bytes < event.max_event_bytes:
            expected = f"expected at least event.max_event_bytes, {event.max_event_bytes}"
            raise PydanticCustomError("size", expected, {"at": ("bytes",), "got": block.bytes})
        return block


def load_settings(path: Path) -> Settings:
    """Return the settings; raises ConfigurationError, a line per problem: file, key, expected."""
    try:
        data = tomllib.loads(path.read_bytes().decode())
        return Settings.model_validate(data)
    except OSError as error:
        problems = [f"cannot be read: {error.strerror}"]
    except ValidationError as error:
        problems = [_describe(problem, data) for problem in error.errors()]
    except ValueError as error:  # of TOML, of UTF-8, of a number beyond Python's limits
        problems = [f"not valid TOML: {error}"]
    raise ConfigurationError("\n".join(f"{path}: {problem}" for problem in problems))


_EXPECTED = {
    "dict_type": "a table",
    "greater_than": "more than {gt:g}",
    "greater_than_equal": "{ge} or more",
    "int_type": "a whole number",
    "literal_error": "{expected}",
    "model_type": "a table",
    "path_type": "a path",
    "string_pattern_mismatch": "a lower-case letter, then at most 63 of a-z, 0-9, _ and -",
    "string_too_short": "text that is not empty",
    "string_type": "text",
    "tuple_type": "tables, each under its own [[{key}]]",
}


def _describe(problem: ErrorDetails, data: dict[str, Any]) -> str:
    kind, context = problem["type"], problem.get("ctx", {})
    place = problem["loc"] + context.get("at", ())
    where = _where(place, data)
    if kind == "extra_forbidden":
        return f"{where}: unknown setting (known: {', '.join(_known(place))})"
    if kind in {"missing", "too_short"}:
        return f"{where}: required, but missing: {_known(place)[str(place[-1])].description}"
    expected = problem["msg"].removeprefix("Value error, ")
    if kind in _EXPECTED:
        expected = "expected " + _EXPECTED[kind].format(key=place[-1], **context).replace("'", '"')
    got = json.dumps(context.get("got", problem["input"]), ensure_ascii=False, default=str)
    return f"{where}: {expected} (got {got[:80]})"


def _where(place: tuple[str | int, ...], data: dict[str, Any]) -> str:
    """Write the key at ``place`` as in ``middleware[1] "adjacent".mode``."""
    keys = [str(key) if re.fullmatch(r"[\w-]+", str(key)) else json.dumps(key) for key in place]
    match place:
        case [str(kind), int(index), *below]:
            name = data[kind][index].get("name") if below not in ([], ["name"]) else None
            label = f" {json.dumps(name)}" if isinstance(name, str) else ""
            keys[:2] = [f"{kind}[{index}]{label}"]
    return ".".join(keys)


def _known(place: tuple[str | int, ...]) -> dict[str, FieldInfo]:
    """Return the settings of the table that holds the key at ``place``."""
    annotation: Any = Settings.model_fields[str(place[0])].annotation if place[1:] else Settings
    table: type[Section] = next(iter(get_args(annotation)), annotation)
    return table.model_fields
