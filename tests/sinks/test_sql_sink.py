"""The table sink: what is in the table, what it goes on from, and what it will not touch."""

from __future__ import annotations

import subprocess
import sys
from contextlib import closing
from pathlib import Path
from typing import Any

import pytest

from middleware.errors import ConfigurationError
from service.errors import PipelineFailed, RecordRefused, SinkFailed
from service.sinks.sql import SqlSink
from service.sinks.sql_database import Database as SinkDatabase
from tests.sinks.writing import Database, emission, event

ROOT = Path(__file__).parent.parent.parent


def test_each_event_is_a_row_under_its_offset_with_its_line_as_it_came(database: Database) -> None:
    sink = database.sink()
    lines = [
        b'{ "cid":-9223372036854775808, "time": 1}\n',
        '{"cid":2,"time":1e9,"ä":"€"}\r\n'.encode(),
    ]
    sink.write(emission(3, *lines, rows=[0, 17]))
    sink.close()
    assert database.run("SELECT block, line, cid, time, event FROM events ORDER BY line") == [
        (3, 0, -(2**63), 1.0, lines[0].decode()[:-1]),
        (3, 17, 2, 1e9, lines[1].decode()[:-1]),
    ]


def test_the_two_fields_have_the_names_and_the_format_of_the_configuration(
    database: Database,
) -> None:
    sink = database.sink(cid="point", time="at", time_format="rfc3339", table="kept")
    sink.write(emission(1, b'{"point": 5, "at": "1970-01-01T01:00:00.5+01:00", "cid": "x"}\n'))
    sink.close()
    assert database.run("SELECT cid, time FROM kept") == [(5, 0.5)]


def test_a_sink_goes_on_from_any_earlier_position(database: Database) -> None:
    sink = database.sink()
    positions = [sink.position()]
    for block in (1, 2, 5):
        sink.write(emission(block, event(block), event(block)))
        positions.append(sink.position())
    sink.close()
    for position in positions:
        sink = database.sink(position)
        assert sink.settled == 5
        assert sink.position() == positions[-1]
        sink.close()
    sink = database.sink(positions[0])
    sink.write(emission(6, event(6)))
    sink.close()
    assert database.offsets() == [(1, 0), (1, 2), (2, 0), (2, 2), (5, 0), (5, 2), (6, 0)]


def test_a_block_of_which_nothing_is_left_is_written_all_the_same(database: Database) -> None:
    sink = database.sink()
    sink.write(emission(1, event(1)).without([0]))
    assert sink.settled == 1
    sink.close()
    assert database.offsets() == []


def test_two_sinks_share_a_database(database: Database) -> None:
    one, other = database.sink(), database.sink(table="others")
    one.write(emission(1, event(1)))
    other.write(emission(1, event(2)))
    other.write(emission(2, event(2)))
    one.write(emission(2, event(1)))
    for sink in (one, other):
        sink.close()
    assert database.run("SELECT cid FROM events") == [(1,), (1,)]
    assert database.run("SELECT cid FROM others") == [(2,), (2,)]


@pytest.mark.parametrize("damage", ["set back", "emptied", "removed"])
def test_a_database_that_is_behind_its_position_is_refused(database: Database, damage: str) -> None:
    sink = database.sink()
    sink.write(emission(1, event(1)))
    sink.write(emission(2, event(2)))
    position = sink.position()
    sink.close()
    statement = {
        "set back": "UPDATE penstock_position SET block = 1",
        "emptied": "DELETE FROM penstock_position",
        "removed": "DROP TABLE penstock_position",
    }[damage]
    database.run(statement)
    with pytest.raises(PipelineFailed, match=r"up to block 2 were written here, now.*restore it"):
        database.sink(position)


def test_a_table_with_events_of_another_stream_is_refused(database: Database) -> None:
    sink = database.sink()
    sink.write(emission(1, event(1)))
    sink.close()
    with pytest.raises(PipelineFailed, match=r'table "events" holds events.*name another table'):
        database.sink()


def test_the_position_of_another_output_counts_as_none(
    database: Database, caplog: pytest.LogCaptureFixture
) -> None:
    sink = database.sink({"path": "/kept.ndjson", "length": 9})
    assert sink.settled == 0
    sink.close()
    assert "knows another output" in caplog.text


def test_a_table_with_other_columns_is_refused(database: Database) -> None:
    database.sink().close()
    database.run("DROP TABLE events", "CREATE TABLE events (block bigint, line integer, name text)")
    with pytest.raises(PipelineFailed, match="no column cid, time, event; name another table"):
        database.sink()


def test_a_table_with_more_columns_will_do(database: Database) -> None:
    database.sink().close()
    database.run("ALTER TABLE events ADD COLUMN seen integer DEFAULT 3")
    sink = database.sink()
    sink.write(emission(1, event(1)))
    sink.close()
    assert database.run("SELECT cid, seen FROM events") == [(1, 3)]


def test_of_two_writers_with_the_same_position_one_fails(database: Database) -> None:
    one = database.sink()
    other = database.sink(one.position())
    one.write(emission(1, event(1)))
    with pytest.raises(PipelineFailed, match=r"at block 0, now it is at block 1: another daemon"):
        other.write(emission(1, event(2)))
    for sink in (one, other):
        sink.close()
    assert database.run("SELECT cid FROM events") == [(1,)]


def test_an_offset_that_somebody_else_took_ends_the_pipeline(database: Database) -> None:
    sink = database.sink()
    database.run("INSERT INTO events VALUES (2, 2, 9, 0.5, 'foreign')")
    sink.write(emission(1, event(1)))
    with pytest.raises(PipelineFailed, match=r"holds an event 2\.2 that this sink did not write"):
        sink.write(emission(2, event(1), event(2), event(3)))
    assert sink.settled == 1
    sink.close()
    assert database.offsets() == [(1, 0), (2, 2)]


@pytest.mark.parametrize(
    ("line", "reason"),
    [
        (b'{"time": 1}\n', 'no "cid"'),
        (b'{"cid": 9223372036854775808, "time": 1}\n', "64 bits"),
        (b'{"cid": 1, "time": "soon"}\n', "not a number"),
        (b'{"cid": 1, "time": 1, "a": "\xff"}\n', "UTF-8"),
    ],
)
def test_an_event_that_is_no_row_is_named(database: Database, line: bytes, reason: str) -> None:
    sink = database.sink()
    with pytest.raises(RecordRefused, match=reason) as refused:
        sink.write(emission(1, event(1), line, rows=[3, 8]))
    assert refused.value.row == 8
    sink.close()
    assert database.offsets() == []


@pytest.mark.parametrize(
    "url", ["", "mysql://u:secret-word@h/d", "sqlite://", "sqlite:///:memory:", "secret-word"]
)
def test_a_url_of_no_known_kind_is_an_error_that_does_not_show_it(url: str) -> None:
    with pytest.raises(ConfigurationError, match=r"^url: expected") as error:
        SqlSink(SqlSink.Params.model_validate({"url": url}))
    assert "secret" not in str(error.value)


def test_the_table_of_positions_is_no_table_of_events() -> None:
    with pytest.raises(ConfigurationError, match=r"^table: "):
        SqlSink(SqlSink.Params.model_validate({"url": "sqlite:///a", "table": "penstock_position"}))


@pytest.mark.parametrize(
    ("url", "error"),
    [
        ("postgresql://penstock:secret-word@/postgres?host=/nowhere", SinkFailed),
        ("postgresql://penstock@/postgres?host=/nowhere&password=secret-word", SinkFailed),
        ("postgresql://penstock:with/secret-word@127.0.0.1:1/d", SinkFailed),
        ("postgresql://penstock:with@secret-word@nowhere/d", ConfigurationError),
        ("postgresql://penstock:with@/secret-word@nowhere/d", ConfigurationError),
        ("postgresql://penstock:secret-word@nowhere:port/d", PipelineFailed),
        ("sqlite:////", SinkFailed),
    ],
)
def test_a_database_that_cannot_be_opened_says_so_without_the_password(
    url: str, error: type[Exception]
) -> None:
    params = SqlSink.Params.model_validate({"url": url})
    assert "secret" not in repr(params)
    with pytest.raises(error) as raised, closing(SqlSink(params)) as sink:
        sink.open(None)
    message = str(raised.value)
    assert "secret" not in message
    assert "\n" not in message
    assert "SELECT" not in message


@pytest.mark.parametrize(
    ("url", "missing"),
    [("sqlite:///never-made", "sqlalchemy"), ("postgresql://nowhere/", "psycopg")],
)
def test_without_the_extra_it_says_what_to_install(
    url: str, missing: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setitem(sys.modules, missing, None)
    told = rf'url: needs {missing}, which is not installed: pip install "penstock\[sql\]"'
    with pytest.raises(ConfigurationError, match=told):
        SqlSink(SqlSink.Params.model_validate({"url": url}))


def test_a_password_of_one_letter_leaves_the_message_readable() -> None:
    params = SqlSink.Params.model_validate({"url": "postgresql://penstock:e@127.0.0.1:1/d"})
    with pytest.raises(SinkFailed, match="refused"), closing(SqlSink(params)) as sink:
        sink.open(None)


def test_nothing_heavy_is_loaded_before_it_is_opened() -> None:
    code = "import sys, service.sinks.sql; print('sqlalchemy' in sys.modules)"
    command = [sys.executable, "-c", code]
    done = subprocess.run(command, cwd=ROOT, capture_output=True, timeout=60, check=True)
    assert done.stdout == b"False\n"


def test_a_commit_of_sqlite_survives_a_loss_of_power(tmp_path: Path) -> None:
    database = SinkDatabase(f"sqlite:///{tmp_path / 'file'}")
    database.connect()
    with database.transaction() as connection:
        level: Any = connection.exec_driver_sql("PRAGMA synchronous").scalar()
    database.close()
    assert level == 3  # EXTRA
