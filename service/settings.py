"""The settings: one TOML file as frozen models, checked whole before anything starts.

A field is called what its key is called: ``settings.workers.count`` is ``count`` in ``[workers]``.
Defaults are spelt as in the file. ``settings_file`` reads the file; the classes that ``use`` names
check their ``params``.
"""

from __future__ import annotations

import ipaddress
import math
import os
import re
from datetime import date, time
from pathlib import Path
from typing import Annotated, Any, Final, Literal, NamedTuple

from pydantic import (
    AfterValidator,
    BaseModel,
    BeforeValidator,
    ByteSize,
    ConfigDict,
    Field,
    PlainSerializer,
    PlainValidator,
    ValidationInfo,
    WithJsonSchema,
    field_validator,
)
from pydantic_core import PydanticCustomError

from middleware.parameters import DURATION, seconds
from service.limits import LARGEST

_ADDRESS = r"^(?:\[([0-9A-Fa-f.]*:[0-9A-Fa-f:.]*)\]|([0-9.]+)):([0-9]{1,1000})$"
_SIZE = "^[1-9][0-9]{0,14}(B|kB|MB|GB|KiB|MiB|GiB)$"

UNEXPANDED: Final = r"~|.*\$[{A-Za-z_]"
"""A path that a shell would have changed."""

LEAST_INTEGER: Final = -(2**63)
MOST_INTEGER: Final = 2**63 - 1

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
    if not match:
        raise ValueError('expected "ADDRESS:PORT", such as "127.0.0.1:8080" or "[::1]:8080"')
    if int(match[3]) >= 2**16:
        raise ValueError("expected a port from 0 to 65535")
    if not host.is_loopback:
        message = (
            "expected a loopback address: listening beyond loopback needs authentication, "
            "which this version does not have"
        )
        raise ValueError(message)
    return Address(str(host), int(match[3]))


def _bounded(value: Any) -> float:
    return seconds(value, least=-_CENTURY, most=_CENTURY)  # the bound of the type tells the least


def _bounded_or_off(value: Any) -> float | None:
    return None if value == "off" else seconds(value, most=_CENTURY, other=', or "off"')


def _size(value: Any) -> Any:
    # ByteSize by itself reads true, and "1.2.3", as one byte.
    is_text = isinstance(value, str)
    if not (re.fullmatch(_SIZE, value) if is_text else type(value) is int and value > 0):
        raise ValueError('expected bytes, at least 1, or text such as "512KiB", "64MiB", "1GB"')
    return value


def _submitted(size: ByteSize) -> ByteSize:
    if size > LARGEST:
        raise ValueError(f"expected at most {LARGEST >> 20}MiB, which is what one block can hold")
    return size


def _path(value: Any) -> Any:
    text = str(value) if isinstance(value, str | Path) else "?"
    if not text:
        raise ValueError("expected a path")
    if "\0" in text:
        raise ValueError("expected a path without a NUL character")
    if re.match(UNEXPANDED, text):
        raise ValueError('expected a path written out: "~" and "$NAME" are not expanded')
    return value


def _plain(value: Any, *place: str | int) -> Any:
    """Return parameters as JSON can write them, since the journal does."""
    match value:
        case dict():
            return {name: _plain(each, *place, name) for name, each in value.items()}
        case list():
            return [_plain(each, *place, index) for index, each in enumerate(value)]
        case date() | time():  # and datetime, which is a date
            return value.isoformat()
        case float() if not math.isfinite(value):
            expected = "expected a finite number"
        case int() if not LEAST_INTEGER <= value <= MOST_INTEGER:
            expected = "expected a whole number of at most 64 bits"
        case _:
            return value
    raise PydanticCustomError("plain", expected, {"at": place, "got": value})


def usable_cores() -> int:
    """Return how many cores this process may use."""
    affinity = getattr(os, "sched_getaffinity", None)  # not every system has it
    return len(affinity(0)) if affinity else os.cpu_count() or 1


_DURATION_SCHEMA = {"type": ["number", "string"], "minimum": 0, "maximum": _CENTURY}
_SIZE_SCHEMA = {"type": ["integer", "string"], "minimum": 1, "pattern": _SIZE}

Name = Annotated[str, Field(pattern="^[a-z][a-z0-9_-]{0,63}$")]
Text = Annotated[str, Field(min_length=1)]
Count = Annotated[int, Field(strict=True, ge=1, le=MOST_INTEGER)]
WrittenPath = Annotated[Path, BeforeValidator(_path)]
Folder = Annotated[Path, BeforeValidator(_path), AfterValidator(Path.absolute)]
"""A path as it is: nothing in it is expanded."""
Params = Annotated[dict[str, Any], AfterValidator(_plain)]
Size = Annotated[ByteSize, BeforeValidator(_size), WithJsonSchema(_SIZE_SCHEMA)]
BodySize = Annotated[
    Size,
    AfterValidator(_submitted),
    WithJsonSchema(_SIZE_SCHEMA | {"maximum": LARGEST}),
]
_BOUNDED = (
    BeforeValidator(_bounded),
    WithJsonSchema(_DURATION_SCHEMA | {"pattern": DURATION}),
)
Seconds = Annotated[float, Field(ge=0), *_BOUNDED]
SomeSeconds = Annotated[float, Field(gt=0), *_BOUNDED]
SecondsOrOff = Annotated[
    float | None,
    PlainValidator(_bounded_or_off),
    PlainSerializer(lambda seconds: "off" if seconds is None else seconds),
    WithJsonSchema(_DURATION_SCHEMA | {"pattern": f"{DURATION}|^off$"}),
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
    time: Text = Field(
        "time", validate_default=True, description="the field that holds the event's time"
    )
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
    params: Params = Field(default_factory=dict, description="what its class takes")


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
    deadline: SomeSeconds = Field(
        10.0, description="how long one event or batch may take before its process is killed"
    )
    retries: Annotated[int, Field(strict=True, ge=0)] = Field(
        2, description="how often an event that raised, or killed its worker, is tried again"
    )


class HttpSettings(Section):
    """The HTTP server."""

    listen: Listen = Field(
        "127.0.0.1:8080", validate_default=True, description="loopback; port 0 is any free one"
    )
    max_body: BodySize = Field(
        "16MiB", validate_default=True, description="how long a request may be"
    )


class SinkSettings(PartSettings):
    """Where kept events go."""

    refused: Literal["wait", "dead"] = Field(
        "wait",
        description="an event the sink will never take: wait holds the stream back until it does; "
        "dead: it goes to the dead letters",
    )


class StateSettings(Section):
    """What outlives the process."""

    directory: Folder = Field("var", validate_default=True, description="where it is kept on disk")
    durability: Literal["full", "normal", "off"] = Field(
        "full",
        description="what can be lost. full: nothing; normal: the last moments, when the power "
        "goes; off: all that is not emitted yet, and the memory, when the daemon dies",
    )
    checkpoint_interval: SomeSeconds = Field(
        10.0, description="how often memory and positions are saved: bounds the replay"
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
