"""What the configuration file may say, what is said of a wrong one, and that its page is true."""

from __future__ import annotations

import json
import math
import os
import pickle
import re
import subprocess
import sys
import tomllib
from pathlib import Path
from typing import Any, get_args

import pytest
from hypothesis import example, given
from hypothesis import strategies as st
from pydantic import TypeAdapter, ValidationError
from pydantic.fields import FieldInfo

from middleware.errors import ConfigurationError
from service.settings import Address, Section, Settings, Size, usable_cores
from service.settings_file import load_settings

ROOT = Path(__file__).parent.parent
PAGE = (ROOT / "docs/configuration.md").read_text(encoding="utf-8")
SINK: dict[str, Any] = {"name": "console", "use": "stdout"}
DAY = 86_400.0
UNITS_OF_TIME = {"s": 1, "m": 60, "h": 3_600, "d": 86_400}
UNITS_OF_SIZE = {"B": 1, "kB": 1e3, "MB": 1e6, "GB": 1e9, "KiB": 2**10, "MiB": 2**20, "GiB": 2**30}
NO_SIZES = ["", "1", "0B", "-1B", "1.5MiB", "1mib", "1.2.3", "1e3B", "MiB", "1 MiB", "1MiB "]
NO_HOSTS = ["localhost:80", "127.0.0.256:80", "::1:80", "[127.0.0.1]:80", "[:::1]:80", ":80"]
NO_PORTS = ["127.0.0.1", "127.0.0.1:", "127.0.0.1:-1", "127.0.0.1:80/path"]
NO_NAMES = ["", "A", "1a", "_a", "-a", "a.b", "a b", "a\n", "ä", "a" * 65]

SIZES: TypeAdapter[int] = TypeAdapter(Size)


def make(**tables: Any) -> Settings:
    return Settings.model_validate({"sink": [SINK], **tables})


def tables() -> dict[str, type[Section]]:
    """Return the model of each table of the file, by the table's heading."""
    found: dict[str, type[Section]] = {}
    for key, field in Settings.model_fields.items():
        annotation: Any = field.annotation
        if inner := get_args(annotation):
            found[f"[[{key}]]"] = inner[0]
        else:
            found[f"[{key}]"] = annotation
    return found


class TestDefaults:
    def test_a_sink_is_all_it_takes(self) -> None:
        settings = make()
        assert (settings.source, settings.middleware) == ((), ())
        assert settings.sink[0].model_dump() == SINK | {"params": {}, "refused": "wait"}

    def test_every_default(self) -> None:
        settings = make(middleware=[{"name": "adjacent", "use": "adjacent"}])
        assert settings.event.model_dump() == {
            "cid": "cid",
            "time": "time",
            "time_format": "epoch",
            "max_future": DAY,
            "max_event_bytes": 2**20,
        }
        assert settings.middleware[0].mode == "enabled"
        assert settings.middleware[0].params == {}
        assert settings.queue.model_dump() == {"events": 1_000_000, "bytes": 16 * 2**20}
        assert settings.block.model_dump() == {"bytes": 3 * 2**20, "linger": 0.0005}
        assert settings.workers.model_dump() == {
            "count": usable_cores(),
            "deadline": 10.0,
            "retries": 2,
        }
        assert settings.http.listen == Address("127.0.0.1", 8080)
        assert settings.http.max_body == 16 * 2**20
        assert settings.state.model_dump() == {
            "directory": Path("var").absolute(),
            "durability": "full",
            "checkpoint_interval": 10.0,
            "checkpoint_bytes": 512 * 2**20,
            "retention_bytes": 2**30,
            "retention_age": 7 * 86_400.0,
            "reserve": 256 * 2**20,
        }

    def test_the_usable_cores_are_counted(self, monkeypatch: pytest.MonkeyPatch) -> None:
        monkeypatch.setattr(os, "sched_getaffinity", lambda _: {3, 5, 6}, raising=False)
        assert usable_cores() == 3
        monkeypatch.delattr(os, "sched_getaffinity")
        monkeypatch.setattr(os, "cpu_count", lambda: 4)
        assert usable_cores() == 4
        monkeypatch.setattr(os, "cpu_count", lambda: None)
        assert usable_cores() == 1


class TestValues:
    @given(
        number=st.integers(0, 36_500),
        unit=st.sampled_from(sorted(UNITS_OF_TIME)),
    )
    def test_a_duration_is_a_number_and_a_unit(self, number: int, unit: str) -> None:
        linger = make(block={"linger": f"{number}{unit}"}).block.linger
        assert linger == number * UNITS_OF_TIME[unit]

    @given(st.floats(0, 36_500 * DAY) | st.integers(0, 36_500 * 86_400))
    def test_a_duration_is_a_number_of_seconds(self, seconds: float) -> None:
        linger = make(block={"linger": seconds}).block.linger
        assert linger == seconds
        assert isinstance(linger, float)

    @given(
        st.floats().filter(lambda number: not 0 <= number <= 36_500 * DAY)
        | st.integers(max_value=-1)
        | st.text().filter(lambda text: not re.fullmatch(r"[0-9]+(\.[0-9]+)?[smhd]", text))
        | st.booleans()
        | st.lists(st.integers())
    )
    @example("1 day")
    @example("5")
    @example("-5m")
    @example("5M")
    @example("1d\n")
    @example("36501d")
    @example("1e3s")
    @example("٣s")
    @example("9" * 400 + "d")
    @example(10**400)
    def test_nothing_else_is_a_duration(self, value: object) -> None:
        with pytest.raises(ValidationError, match="expected seconds, or text such as"):
            make(event={"max_future": value})

    def test_only_max_future_can_be_off(self) -> None:
        assert make(event={"max_future": "off"}).event.max_future is None
        assert make(event={"max_future": "90s"}).event.max_future == 90.0
        with pytest.raises(ValidationError, match="expected seconds"):
            make(workers={"deadline": "off"})

    @given(
        number=st.integers(1, 10**6),
        unit=st.sampled_from(sorted(UNITS_OF_SIZE)),
    )
    def test_a_size_is_a_number_of_bytes_or_has_a_unit(self, number: int, unit: str) -> None:
        assert SIZES.validate_python(number) == number
        assert SIZES.validate_python(f"{number}{unit}") == number * UNITS_OF_SIZE[unit]

    @pytest.mark.parametrize("value", [*NO_SIZES, 0, -1, True, 1.5, math.inf, [], {}])
    def test_nothing_else_is_a_size(self, value: object) -> None:
        with pytest.raises(ValidationError, match="expected bytes, at least 1, or text such as"):
            SIZES.validate_python(value)

    @pytest.mark.parametrize(
        ("written", "host", "port"),
        [
            ("127.0.0.1:8080", "127.0.0.1", 8080),
            ("127.1.2.3:0", "127.1.2.3", 0),
            ("[::1]:65535", "::1", 65_535),
        ],
    )
    def test_an_address_is_parsed_and_written_back(
        self, written: str, host: str, port: int
    ) -> None:
        listen = make(http={"listen": written}).http.listen
        assert (listen.host, listen.port, str(listen)) == (host, port, written)

    @pytest.mark.parametrize("written", ["", 8080, *NO_HOSTS, *NO_PORTS])
    def test_anything_else_is_no_address(self, written: object) -> None:
        with pytest.raises(ValidationError, match='expected "ADDRESS:PORT"'):
            make(http={"listen": written})

    def test_a_port_has_16_bits(self) -> None:
        with pytest.raises(ValidationError, match="expected a port from 0 to 65535"):
            make(http={"listen": "127.0.0.1:65536"})

    @pytest.mark.parametrize("written", ["0.0.0.0:80", "192.168.0.1:80", "[::]:80", "[fe80::1]:80"])
    def test_beyond_loopback_takes_authentication(self, written: str) -> None:
        with pytest.raises(ValidationError, match=r"needs authentication, which this version does"):
            make(http={"listen": written})

    @given(st.from_regex("[a-z][a-z0-9_-]{0,63}", fullmatch=True))
    def test_a_name_is_short_and_plain(self, name: str) -> None:
        assert make(sink=[SINK | {"name": name}]).sink[0].name == name

    @pytest.mark.parametrize("name", [1, *NO_NAMES])
    def test_nothing_else_is_a_name(self, name: object) -> None:
        with pytest.raises(ValidationError, match=r"sink\.0\.name"):
            make(sink=[SINK | {"name": name}])

    def test_parameters_are_passed_on_as_they_are(self) -> None:
        params = {"cids": [1, 2], "deep": {"window": 3.0}}
        assert make(sink=[SINK | {"params": params}]).sink[0].params == params

    def test_a_name_may_be_used_once_in_each_kind(self) -> None:
        settings = make(source=[SINK], middleware=[SINK])
        assert settings.source[0].name == settings.middleware[0].name == settings.sink[0].name

    def test_settings_are_read_only(self) -> None:
        with pytest.raises(ValidationError, match="frozen"):
            make().workers.count = 3  # type: ignore[misc]  # that is the point

    def test_settings_travel_between_processes_and_to_json_and_back(self) -> None:
        settings = make(event={"max_future": "off"}, http={"listen": "[::1]:0"})
        assert pickle.loads(pickle.dumps(settings)) == settings  # noqa: S301 - our own
        assert Settings.model_validate_json(settings.model_dump_json()) == settings


# A line of the file, and what is said of it.
WRONG = [
    case.split("\n")
    for case in r"""
event.cid = 1
event.cid: expected text (got 1)

event.cid = ""
event.cid: expected text that is not empty (got "")

event = {cid = "t", time = "t"}
event.time: expected another field than event.cid (got "t")

event.time_format = "iso"
event.time_format: expected "epoch" or "rfc3339" (got "iso")

event.max_future = "1 day"
event.max_future: expected seconds, or text such as "30s", "5m", "12h", "1d" (to 36500d), or "off" (got "1 day")

event.max_event_bytes = "1Mib"
event.max_event_bytes: expected bytes, at least 1, or text such as "512KiB", "64MiB", "1GB" (got "1Mib")

source = [{name = "Demo", use = "generator"}]
source[0].name: expected a lower-case letter, then at most 63 of a-z, 0-9, _ and - (got "Demo")

source = [{use = "generator"}]
source[0].name: required, but missing: its name in the API, in the stats and in messages

source = [{name = "demo"}]
source[0] "demo".use: required, but missing: a built-in's short name, or "module:Class"

source.name = "demo"
source: expected tables, each under its own [[source]] (got a table)

source = [1]
source[0]: expected a table (got 1)

middleware = [{name = "a", use = "b"}, {name = "c", use = "d", mode = "off"}]
middleware[1] "c".mode: expected "enabled", "shadow" or "disabled" (got "off")

middleware = [{name = "a", use = "b", params = 3}]
middleware[0] "a".params: expected a table (got 3)

middleware = [{name = "a", use = "b", colour = 1}]
middleware[0] "a".colour: unknown setting (known: name, use, params, mode); what its class takes goes into params

queue = 3
queue: expected one table, [queue] (got 3)

queue.events = 0
queue.events: expected 1 or more (got 0)

queue.events = 1e6
queue.events: expected a whole number (got 1000000.0)

block.bytes = "512KiB"
block.bytes: expected at least event.max_event_bytes, 1048576 (got 524288)

event.max_event_bytes = "4MiB"
block.bytes: expected at least event.max_event_bytes, 4194304 (got 3145728)

workers.count = true
workers.count: expected a whole number (got true)

workers.deadline = 0
workers.deadline: expected more than 0 (got 0)

workers.retries = -1
workers.retries: expected 0 or more (got -1)

workers.cuont = 2
workers.cuont: unknown setting; did you mean "count"? (known: count, deadline, retries)

worker.count = 2
worker: unknown setting; did you mean "workers"? (known: event, source, middleware, sink, queue, block, workers, http, state)

http."two\nlines" = 2
http."two\nlines": unknown setting (known: listen, max_body)

http.listen = "localhost:8080"
http.listen: expected "ADDRESS:PORT", such as "127.0.0.1:8080" or "[::1]:8080" (got "localhost:8080")

http.listen = "0.0.0.0:80"
http.listen: expected a loopback address: listening beyond loopback needs authentication, which this version does not have (got "0.0.0.0:80")

state.directory = 2026-01-01
state.directory: expected a path (got the TOML date or time 2026-01-01)
""".strip().split("\n\n")  # noqa: E501 - the messages are as long as they are
]


class TestErrors:
    """A wrong file gets one line per problem: the file, the key, what was expected."""

    @pytest.fixture
    def problems(self, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Any:
        monkeypatch.chdir(tmp_path)

        def load(text: str | bytes, *, sink: bool = True) -> list[str]:
            path = Path("penstock.toml")
            data = text.encode() if isinstance(text, str) else text
            path.write_bytes(data + b'\n[[sink]]\nname = "kept"\nuse = "ndjson"\n' * sink)
            with pytest.raises(ConfigurationError) as raised:
                load_settings(path)
            lines = str(raised.value).splitlines()
            assert all(line.startswith("penstock.toml: ") for line in lines)
            return [line.removeprefix("penstock.toml: ") for line in lines]

        return load

    @pytest.mark.parametrize(("text", "problem"), WRONG)
    def test_a_wrong_value(self, problems: Any, text: str, problem: str) -> None:
        assert problems(text) == [problem]

    @pytest.mark.parametrize("kind", ["source", "middleware", "sink"])
    def test_a_name_used_twice(self, problems: Any, kind: str) -> None:
        part = f'[[{kind}]]\nname = "twice"\nuse = "x"\n'
        expected = f"{kind}[1].name: expected a name that no other of its kind has"
        assert problems(part + part) == [f'{expected} (got "twice")']

    @pytest.mark.parametrize("text", ["", "sink = []"])
    def test_no_sink(self, problems: Any, text: str) -> None:
        assert problems(text, sink=False) == ["sink: required, but missing: at least one [[sink]]"]

    def test_all_problems_at_once(self, problems: Any) -> None:
        lines = problems("[workers]\ncount = 0\nretries = -1\n[queue]\nevnts = 1")
        assert [line.split(":")[0] for line in lines] == [
            "queue.evnts",
            "workers.count",
            "workers.retries",
        ]

    def test_a_long_value_is_cut(self, problems: Any) -> None:
        (line,) = problems(f'[workers]\ncount = "{"x" * 10_000}"')
        assert len(line) < 200

    @pytest.mark.parametrize(
        ("text", "problem"),
        [
            ("[workers]\ncount = = 2", "not valid TOML: .* line 2, column 9"),
            (b'[event]\ncid = "\xff"', "line 2 is not UTF-8; save the file as UTF-8"),
            ("[workers]\ncount = " + "9" * 5_000, "not valid TOML: .*digits"),
        ],
    )
    def test_no_toml(self, problems: Any, text: str | bytes, problem: str) -> None:
        (line,) = problems(text)
        assert re.match(problem, line)

    def test_a_file_that_cannot_be_read(self, tmp_path: Path) -> None:
        missing = tmp_path / "missing.toml"
        with pytest.raises(ConfigurationError) as raised:
            load_settings(missing)
        told = "cannot be read: No such file or directory; name another with --config"
        assert str(raised.value) == f"{missing}: {told}"
        with pytest.raises(ConfigurationError, match="cannot be read: Is a directory"):
            load_settings(tmp_path)


class TestPage:
    """docs/configuration.md says of each setting what the code says."""

    @pytest.mark.parametrize("heading", tables())
    def test_each_setting_is_there_with_its_default(self, heading: str) -> None:
        (section,) = re.findall(
            rf"^## {re.escape(heading)}\n(.*?)(?=^## |\Z)", PAGE, re.DOTALL | re.MULTILINE
        )
        rows = re.findall(r"^\| `(\w+)` \| (.+?) \| .+ \|$", section, re.MULTILINE)
        fields = tables()[heading].model_fields
        assert sorted(key for key, _ in rows) == sorted(fields)
        for key, default in rows:
            assert read_default(default) == true_default(fields[key]), key

    def test_there_are_no_other_tables(self) -> None:
        assert re.findall(r"^## (\[.*)$", PAGE, re.MULTILINE) == list(tables())

    def test_the_examples_load(self, tmp_path: Path) -> None:
        examples = re.findall(r"^```toml\n(.*?)^```$", PAGE, re.DOTALL | re.MULTILINE)
        assert examples
        for example_text in examples:
            path = tmp_path / "penstock.toml"
            path.write_text(example_text, encoding="utf-8")
            load_settings(path)


def read_default(written: str) -> object:
    code = re.fullmatch("`(.+)`", written)
    return tomllib.loads(f"default = {code[1]}")["default"] if code else written


def true_default(field: FieldInfo) -> object:
    if field.is_required():
        return "required"
    if field.default_factory is usable_cores:
        return "the usable cores"
    return field.get_default(call_default_factory=True)


class TestFile:
    def test_the_main_job(self) -> None:
        settings = load_settings(ROOT / "config/penstock.toml")
        assert [(part.name, part.use) for part in settings.source] == [
            ("demo", "generator"),
            ("push", "http"),
        ]
        (adjacent,) = settings.middleware
        assert (adjacent.name, adjacent.use, adjacent.mode) == ("adjacent", "adjacent", "enabled")
        assert adjacent.params == {"window": 300.0, "radius": 1}
        assert [(part.name, part.use) for part in settings.sink] == [
            ("kept", "ndjson"),
            ("console", "stdout"),
        ]


class TestSchema:
    """The JSON Schema of the file, for editors."""

    @pytest.mark.parametrize("heading", tables())
    def test_each_key_is_explained_with_its_default(self, heading: str) -> None:
        schema = json.loads(json.dumps(Settings.model_json_schema()))
        model = tables()[heading]
        assert schema["properties"][heading.strip("[]")]["description"]
        table = schema["$defs"][model.__name__]
        assert table["additionalProperties"] is False
        assert list(table["properties"]) == list(model.model_fields)
        for key, field in model.model_fields.items():
            assert table["properties"][key]["description"] == field.description
            if field.default_factory is None and not field.is_required():
                assert table["properties"][key]["default"] == field.default

    def test_amounts_are_numbers_or_text(self) -> None:
        schema = Settings.model_json_schema()["$defs"]
        assert schema["BlockSettings"]["properties"]["bytes"]["type"] == ["integer", "string"]
        assert schema["BlockSettings"]["properties"]["linger"]["type"] == ["number", "string"]
        future = schema["EventSettings"]["properties"]["max_future"]
        assert future["type"] == ["number", "string"]
        assert all(re.search(future["pattern"], text) for text in ("off", "1d", "1.5h"))


def test_importing_the_settings_loads_no_server_and_no_middleware() -> None:
    code = "import sys, service.settings; print(*sys.modules)"
    command = [sys.executable, "-c", code]
    loaded = subprocess.run(command, cwd=ROOT, capture_output=True, check=True, text=True).stdout
    heavy = {"flask", "apscheduler", "waitress", "structlog", "middleware.adjacent"}
    assert not heavy & set(loaded.split())
