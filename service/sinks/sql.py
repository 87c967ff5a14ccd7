"""Writes the kept events into a table of a database, each exactly once."""

from __future__ import annotations

import logging
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final, Literal, NoReturn
from uuid import uuid4

from pydantic import BaseModel, Field, SecretStr

from middleware.errors import ConfigurationError
from service.border import Border
from service.errors import PipelineFailed, RecordRefused, SinkFailed
from service.settings import EventSettings
from service.sinks.sink import Emission, Sink
from service.sinks.sql_database import Database, Refused

if TYPE_CHECKING:  # loaded with the database: see there
    from sqlalchemy import Connection, Table

log = logging.getLogger(__name__)

POSITIONS: Final = "penstock_position"

Row = dict[str, Any]


class SqlSink(Sink):
    """Writes the kept events into a table of SQLite or PostgreSQL, each exactly once.

    Invariants:

    1. The table of positions says up to which block this sink's events are in; both change in the
       same transaction.
    2. The position moves only from where this sink left it, so no block is written twice, and
       two writers never mix.
    """

    needs_position = True
    shares = True  # each has a table of its own

    class Params(BaseModel):
        """Which database and table, and where an event has its point and time."""

        url: SecretStr = Field(description='"sqlite:///path" or "postgresql://user@host/database"')
        table: str = Field(
            "events", pattern="^[a-z_][a-z0-9_]{0,62}$", description="made when missing"
        )
        cid: str = Field("cid", min_length=1, description="as in [event]")
        time: str = Field("time", min_length=1, description="as in [event]")
        time_format: Literal["epoch", "rfc3339"] = Field("epoch", description="as in [event]")

    def __init__(self, params: Any) -> None:
        """Take the parameters; raises ConfigurationError. Nothing is opened yet."""
        super().__init__(params)
        self._database = Database(params.url.get_secret_value())
        if params.table == POSITIONS:
            raise ConfigurationError(f'table: "{POSITIONS}" is where positions are kept')
        self._border = Border(
            EventSettings(
                cid=params.cid,
                time=params.time,
                time_format=params.time_format,
                max_future="off",
                max_event_bytes="1GB",
            )
        )
        self._key = ""
        self._attempted = 0  # the last block that a transaction was begun for
        self._events: Table
        self._positions: Table

    def writes(self) -> list[Path]:
        """Return the file of a database that is one; other databases are no file."""
        return [] if self._database.file is None else [self._database.file]

    def open(self, position: Any) -> None:
        """Connect and find how far the database is.

        Raises SinkFailed when it cannot be reached or used, PipelineFailed when it is not the one
        that was written before.
        """
        if isinstance(position, dict) and "key" in position and self._database.is_gone:
            self._is_not_what_it_was(position, "it is gone")
        self._database.connect()
        self._events, self._positions = _tables(self.params.table)
        try:
            self._database.make(self._events.metadata)
            with self._database.transaction() as connection:
                if isinstance(position, dict) and "key" in position:
                    self._go_on(connection, position)
                else:
                    self._begin(connection, instead_of=position)
        except BaseException:
            self._database.close()
            raise

    def write(self, emission: Emission) -> None:
        """Write the events and the new position in one transaction, in this order.

        1. The position moves, from the block written last to this one. That locks it, and waits
           for an earlier transaction of ours that the server may still be at.
        2. The events.
        3. The commit. If its answer is lost, the next attempt cannot move the position any more,
           and finds out there that the block is in.

        Raises SinkFailed when that is not possible now, RecordRefused, and PipelineFailed when
        somebody else writes here.
        """
        rows = self._rows(emission)
        attempted, self._attempted = self._attempted, emission.block
        try:
            with self._database.transaction() as connection:
                if moved := self._move(connection, emission.block):
                    self._insert(connection, rows)
        except Refused:
            self._refuse(emission.block, rows)
        if not moved:
            self._see_that_it_is_in(emission.block, attempted)
        self.settled = emission.block

    def position(self) -> Any:
        """Return the key of this sink's position in the database, and the block it must reach."""
        return {"key": self._key, "block": self.settled}

    def close(self) -> None:
        """Close the connection."""
        self._database.close()

    def _begin(self, connection: Connection, instead_of: Any) -> None:
        """Write a new position; what is in the table has the offsets of another stream."""
        if instead_of is not None:
            log.warning(
                "%s: the last checkpoint knows another output; this one begins now",
                self._database.name,
            )
        if connection.execute(self._events.select().limit(1)).first() is not None:
            message = (
                f'{self._database.name}: the table "{self.params.table}" holds events, and no '
                "checkpoint says which; give the sink its former name back if it had another one, "
                "or name another table, or empty this one"
            )
            raise PipelineFailed(message)
        self._key, self.settled = uuid4().hex, 0
        connection.execute(self._positions.insert(), {"sink": self._key, "block": 0})

    def _go_on(self, connection: Connection, position: dict[str, Any]) -> None:
        """Take the key over, and find how far the database is."""
        self._key = position["key"]
        block = self._block(connection)
        if block is None or block < position["block"]:
            found = "knows nothing" if block is None else f"ends at block {block}"
            self._is_not_what_it_was(position, f"it {found} of them")
        self.settled = block

    def _is_not_what_it_was(self, position: dict[str, Any], found: str) -> NoReturn:
        message = (
            f"{self._database.name}: events up to block {position['block']} were written here, now "
            f"{found}: it was emptied, replaced, moved or set back; restore it, or give the sink "
            "another name and table, where only events emitted from now on will be"
        )
        raise PipelineFailed(message)

    def _block(self, connection: Connection) -> int | None:
        query = self._positions.select().where(self._positions.c.sink == self._key)
        row = connection.execute(query).first()
        return None if row is None else int(row.block)

    def _move(self, connection: Connection, block: int) -> bool:
        """Move the position from where it was left; say whether it was there."""
        at = self._positions.c
        moved = self._positions.update().where(at.sink == self._key, at.block == self.settled)
        return connection.execute(moved.values(block=block)).rowcount == 1

    def _insert(self, connection: Connection, rows: Sequence[Row]) -> None:
        if rows:
            connection.execute(self._events.insert(), rows)

    def _see_that_it_is_in(self, block: int, attempted: int) -> None:
        """Raise PipelineFailed unless an earlier attempt of ours moved the position."""
        with self._database.transaction() as connection:
            found = self._block(connection)
        if attempted == block == found:
            return
        message = (
            f"{self._database.name}: this sink left its position at block {self.settled}, now it "
            f"is {'gone' if found is None else f'at block {found}'}: another daemon writes with "
            f"the same state, or the database was set back; block {block} was not written. "
            "See which it is, and restart"
        )
        raise PipelineFailed(message)

    def _refuse(self, block: int, rows: Sequence[Row]) -> NoReturn:
        """Find which event the database refuses and raise RecordRefused; nothing stays written.

        Where another event has the offset already the fault is not this one's, and those to come
        would meet the same: PipelineFailed.
        """
        with self._database.transaction() as connection:
            if connection.dialect.name == "postgresql":
                connection.exec_driver_sql("SET CONSTRAINTS ALL IMMEDIATE")  # not at the commit
            refused = self._move(connection, block) and self._first_refused(connection, rows)
            if not refused:
                raise SinkFailed(f"{self._database.name}: refused block {block}, but not again")
            line, reason = refused
            at = self._events.c
            same = self._events.select().where(at.block == block, at.line == line)
            if connection.execute(same).first() is None:
                raise RecordRefused(line, reason)
            message = (
                f'{self._database.name}: the table "{self.params.table}" holds an event '
                f"{block}.{line} that this sink did not write; name another table, or remove what "
                "others wrote into this one, and restart: nothing is lost"
            )
            raise PipelineFailed(message)

    def _first_refused(self, connection: Connection, rows: Sequence[Row]) -> tuple[int, str] | None:
        """Insert rows up to the first one refused; return its line in the block, and why."""
        try:
            with self._database.savepoint(connection):
                self._insert(connection, rows)
        except Refused as error:
            if len(rows) == 1:
                return rows[0]["line"], str(error)
        else:
            return None
        half = len(rows) // 2
        return self._first_refused(connection, rows[:half]) or self._first_refused(
            connection, rows[half:]
        )

    def _rows(self, emission: Emission) -> list[Row]:
        """Return the events as rows of the table; raises RecordRefused."""
        lines = self._border.read(emission.lines, ())
        if lines.bad:
            bad = lines.bad[0]
            raise RecordRefused(int(emission.rows[bad.row]), bad.reason)
        texts = emission.lines.decode().split("\n")[:-1]
        columns = (emission.rows.tolist(), lines.cid.tolist(), lines.time.tolist(), texts)
        return [
            {"block": emission.block, "line": line, "cid": cid, "time": time, "event": event}
            for line, cid, time, event in zip(*columns, strict=True)
        ]


def _tables(name: str) -> tuple[Table, Table]:
    """Return the table of events and that of positions."""
    import sqlalchemy as sql  # noqa: PLC0415 - loaded already

    metadata = sql.MetaData()
    events = sql.Table(
        name,
        metadata,
        sql.Column("block", sql.BigInteger, primary_key=True, autoincrement=False),
        sql.Column("line", sql.Integer, primary_key=True, autoincrement=False),
        sql.Column("cid", sql.BigInteger, nullable=False),
        sql.Column("time", sql.Double, nullable=False),
        sql.Column("event", sql.Text, nullable=False),
    )
    positions = sql.Table(
        POSITIONS,
        metadata,
        sql.Column("sink", sql.Text, primary_key=True),
        sql.Column("block", sql.BigInteger, nullable=False),
    )
    return events, positions
