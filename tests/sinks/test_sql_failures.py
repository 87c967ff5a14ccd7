"""The table sink when things go wrong: each event is in the table once, or named as refused."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import closing, contextmanager
from typing import Any

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from sqlalchemy.engine.default import DefaultDialect

from service.errors import RecordRefused, SinkFailed
from service.sinks import sql_database
from service.sinks.sink import Emission
from service.sinks.sql import SqlSink
from tests.servers import PostgresServer
from tests.sinks.writing import Database, emission, event

CHECKED = """
    CREATE TABLE events (
        block bigint, line integer, cid bigint CHECK (cid <> 13), time double precision,
        event text, PRIMARY KEY (block, line)
    )
"""


@contextmanager
def lost_at_commit(*, after: bool) -> Iterator[list[str]]:
    """Lose the connection at each commit, ``after`` the server took it or before; list them."""
    really_commit: Callable[..., None] = DefaultDialect.do_commit
    lost: list[str] = []

    def commit(dialect: Any, connection: Any) -> None:
        lost.append(dialect.name)
        if after:
            really_commit(dialect, connection)
        raise dialect.dbapi.OperationalError("the connection was lost")

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(DefaultDialect, "do_commit", commit)
        yield lost


@pytest.mark.parametrize("after", [True, False])
def test_a_commit_whose_answer_was_lost_is_found_out_about(database: Database, after: bool) -> None:
    sink = database.sink()
    output = emission(1, event(1), event(2))
    for _ in range(2):
        with lost_at_commit(after=after) as lost, pytest.raises(SinkFailed, match="was lost"):
            sink.write(output)
        assert lost
        assert database.offsets() == ([(1, 0), (1, 2)] if after else [])
        assert sink.position()["block"] == 0
    sink.write(output)
    sink.write(emission(2, event(3)))
    sink.close()
    assert database.offsets() == [(1, 0), (1, 2), (2, 0)]


def test_an_earlier_transaction_that_the_server_is_still_at_is_waited_for(
    database: Database, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setitem(sql_database.SESSION, "postgresql", "SET lock_timeout = '50ms'")
    sink = database.sink()
    output = emission(1, event(7))
    with closing(database.connect()) as earlier:
        earlier.execute("BEGIN")
        earlier.execute("UPDATE penstock_position SET block = 1")
        earlier.execute("INSERT INTO events VALUES (1, 0, 7, 0.5, 'ours')")
        for _ in range(2):
            with pytest.raises(SinkFailed, match="lock") as failed:
                sink.write(output)
            assert "UPDATE" not in str(failed.value)
        earlier.execute("COMMIT")
    sink.write(output)
    sink.write(emission(2, event(8)))
    sink.close()
    assert database.run("SELECT block, cid FROM events ORDER BY block") == [(1, 7), (2, 8)]


def test_a_table_that_is_away_for_a_while_is_waited_for(database: Database) -> None:
    sink = database.sink()
    database.run("ALTER TABLE events RENAME TO away")
    for _ in range(2):
        with pytest.raises(SinkFailed, match="events") as failed:
            sink.write(emission(1, event(1)))
        assert "INSERT" not in str(failed.value)
    database.run("ALTER TABLE away RENAME TO events")
    sink.write(emission(1, event(1)))
    sink.close()
    assert database.offsets() == [(1, 0)]


def test_a_server_that_went_and_came_back_is_written_to_again(
    fresh_postgres: Database, postgres: PostgresServer
) -> None:
    sink = fresh_postgres.sink()
    sink.write(emission(1, event(1)))
    postgres.stop()
    try:
        for _ in range(2):
            with pytest.raises(SinkFailed) as failed:
                sink.write(emission(2, event(2)))
            assert "secret" not in str(failed.value)
        with pytest.raises(SinkFailed):
            fresh_postgres.sink(sink.position())
    finally:
        postgres.start()
    sink.write(emission(2, event(2)))
    sink.close()
    assert fresh_postgres.offsets() == [(1, 0), (2, 0)]


def test_a_connection_that_the_server_ends_is_made_anew(fresh_postgres: Database) -> None:
    sink = fresh_postgres.sink()
    fresh_postgres.run(
        "SELECT pg_terminate_backend(pid, 10000) FROM pg_stat_activity "
        "WHERE pid <> pg_backend_pid() AND datname = current_database()"
    )
    with pytest.raises(SinkFailed):
        sink.write(emission(1, event(1)))
    sink.write(emission(1, event(1)))
    sink.close()
    assert fresh_postgres.offsets() == [(1, 0)]


def write_all(sink: SqlSink, output: Emission) -> list[int]:
    """Write what is taken of an emission; return the rows refused."""
    refused: list[int] = []
    for _ in range(len(output.rows) + 1):
        try:
            sink.write(output)
        except RecordRefused as error:
            refused.append(error.row)
            output = output.without([error.row])
        else:
            return refused
    raise AssertionError(f"refused again: {refused}")


def fresh(database: Database, *statements: str) -> SqlSink:
    """Return a sink into a database made empty."""
    database.sink(table="other").close()  # so that there is a file, and a table of positions
    database.run("DROP TABLE IF EXISTS events", "DELETE FROM penstock_position", *statements)
    return database.sink()


several = settings(
    max_examples=30, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture]
)


@several
@given(points=st.lists(st.sampled_from([12, 13]), max_size=12))
def test_every_event_that_the_table_refuses_is_named_and_the_others_are_in(
    database: Database, points: list[int]
) -> None:
    sink = fresh(database, CHECKED)
    refused = write_all(sink, emission(1, *map(event, points)))
    sink.close()
    assert refused == [2 * index for index, cid in enumerate(points) if cid == 13]
    taken = [(1, 2 * index) for index, cid in enumerate(points) if cid == 12]
    assert database.offsets() == taken


def test_an_event_refused_beside_another_of_its_block_is_named(database: Database) -> None:
    sink = fresh(database)
    database.run("CREATE UNIQUE INDEX once ON events (cid)")
    assert write_all(sink, emission(1, *map(event, [1, 2, 1, 3, 2]))) == [4, 8]
    sink.close()
    assert database.run("SELECT cid FROM events ORDER BY line") == [(1,), (2,), (3,)]


def test_the_reason_is_the_database_s_in_one_line(database: Database) -> None:
    sink = fresh(database, CHECKED)
    with pytest.raises(RecordRefused) as refused:
        sink.write(emission(1, event(13)))
    assert "constraint" in refused.value.reason.lower()
    assert "INSERT" not in refused.value.reason
    assert "\n" not in refused.value.reason
    sink.close()


def test_an_event_that_a_trigger_refuses_is_named(database: Database) -> None:
    sink = fresh(database)
    if database.kind == "sqlite":
        database.run(
            "CREATE TRIGGER never BEFORE INSERT ON events WHEN NEW.cid = 13 "
            "BEGIN SELECT RAISE(ABORT, 'never 13'); END"
        )
    else:
        database.run(
            "CREATE FUNCTION never() RETURNS trigger LANGUAGE plpgsql AS "
            "$$ BEGIN RAISE EXCEPTION 'never 13'; END $$",
            "CREATE TRIGGER never BEFORE INSERT ON events FOR EACH ROW WHEN (NEW.cid = 13) "
            "EXECUTE FUNCTION never()",
        )
    with pytest.raises(RecordRefused, match=r"^never 13$") as refused:
        sink.write(emission(1, *map(event, [1, 2, 13, 4])))
    assert refused.value.row == 4
    sink.close()
    assert database.offsets() == []


def test_an_event_refused_only_at_the_commit_is_named(fresh_postgres: Database) -> None:
    sink = fresh(fresh_postgres)
    fresh_postgres.run("ALTER TABLE events ADD UNIQUE (cid) DEFERRABLE INITIALLY DEFERRED")
    assert write_all(sink, emission(1, *map(event, [1, 2, 3, 2, 4]))) == [6]
    sink.close()


def test_text_that_the_server_s_encoding_lacks_is_named(postgres: PostgresServer) -> None:
    with postgres.connect() as connection:
        connection.execute("CREATE DATABASE latin TEMPLATE template0 ENCODING 'LATIN1' LOCALE 'C'")
    database = Database("postgresql", postgres.url("latin"), lambda: postgres.connect("latin"))
    sink = database.sink()
    lines = [event(1, name="ü"), event(2, name="€"), event(3)]
    assert write_all(sink, emission(1, *lines)) == [2]
    sink.close()
    with postgres.connect() as connection:
        connection.execute("DROP DATABASE latin")


happenings = st.lists(
    st.sampled_from(["write", "checkpoint", "crash", "lost before", "lost after"]), max_size=15
)


@several
@given(happenings=happenings)
def test_whatever_happens_each_event_is_in_the_table_once(
    database: Database, happenings: list[str]
) -> None:
    def whole(block: int) -> Emission:
        return emission(block, event(block % 10), event(13))

    sink = fresh(database, CHECKED)
    position, at_checkpoint, output = sink.position(), 0, whole(1)
    for what in [*happenings, "crash", "write"]:
        if what == "checkpoint":
            position, at_checkpoint = sink.position(), output.block - 1
        elif what == "crash":
            sink.close()
            sink = database.sink(position)
            # What is settled is not written again, whatever the checkpoint says.
            output = whole(max(at_checkpoint, sink.settled) + 1)
        elif what == "write":
            write_all(sink, output)
            output = whole(output.block + 1)
        else:
            if len(output.rows) == 2:
                with pytest.raises(RecordRefused) as refused:
                    sink.write(output)
                output = output.without([refused.value.row])
            with lost_at_commit(after=what == "lost after"), pytest.raises(SinkFailed):
                sink.write(output)
    sink.close()
    expected = [(block, 0, block % 10) for block in range(1, output.block)]
    assert database.run("SELECT block, line, cid FROM events ORDER BY block, line") == expected
