"""The page about sinks tells the truth: every parameter is there, its example runs."""

from __future__ import annotations

import re
import sqlite3
from contextlib import closing
from pathlib import Path
from typing import Any

import pytest
from pydantic import BaseModel

from middleware.loading import load_class, short_names
from service.sinks.sink import Sink
from tests.sinks.writing import emission, event

PAGE = (Path(__file__).parent.parent.parent / "docs" / "sinks.md").read_text()


@pytest.mark.parametrize("name", short_names(package="service.sinks", kind=Sink))
def test_every_parameter_is_documented(name: str) -> None:
    _, found, below = PAGE.partition(f'### `use = "{name}"`')
    assert found
    below = re.split(r"\n##+ ", below)[0]
    model: type[BaseModel] = load_class(name, package="service.sinks", kind=Sink).Params
    for param, field in model.model_fields.items():
        default = "required" if field.is_required() else f'`"{field.default}"`'
        if param in {"cid", "time", "time_format"}:
            default = "that of `[event]`"  # see configured_sinks
        assert f"| `{param}` | {default} |" in below


def test_the_example_is_a_sink_that_goes_on_from_its_position(tmp_path: Path) -> None:
    (example,) = re.findall(r"```python\n(.*?)```", PAGE, re.DOTALL)
    names: dict[str, Any] = {"__name__": "counts"}
    code = compile(example, "docs/sinks.md", "exec", dont_inherit=True)
    exec(code, names)  # noqa: S102 - our own page
    kind: type[Sink] = names["Counts"]
    path = tmp_path / "counts.json"
    sink = kind(kind.Params.model_validate({"path": path}))
    sink.open(None)
    first = sink.position()
    sink.write(emission(1, event(1), event(2)))
    sink.flush()
    assert path.read_text() == '{"block": 1, "events": 2}'
    sink.write(emission(2, event(3)))
    second = sink.position()
    sink.close()
    sink.open(first)
    assert sink.position() == first
    sink.open(second)
    sink.write(emission(3, event(3)))
    sink.flush()
    assert path.read_text() == '{"block": 3, "events": 4}'
    sink.close()


def test_the_queries_are_sql(tmp_path: Path) -> None:
    with closing(sqlite3.connect(tmp_path / "file")) as connection:
        connection.execute(
            "CREATE TABLE events (block bigint, line integer, cid bigint, time double precision, "
            "event text, PRIMARY KEY (block, line))"
        )
        queries = re.findall(r"```sql\n(.*?)```", PAGE, re.DOTALL)
        assert queries
        for query in queries:
            connection.execute(query)
