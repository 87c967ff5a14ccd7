"""Reaching a database by its URL, and its errors in words that may be shown."""

from __future__ import annotations

import re
from collections.abc import Iterator
from contextlib import contextmanager
from importlib.util import find_spec
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final

from middleware.errors import ConfigurationError
from service.errors import PipelineFailed, SinkFailed
from service.settings import UNEXPANDED

if TYPE_CHECKING:
    from sqlalchemy import Connection, Engine, MetaData

_KNOWN: Final = r"postgresql://.+|sqlite:///(?!:memory:).+"

_UNREADABLE: Final = "url: cannot be read; in a password, write @ as %40, / as %2F, % as %25"
_MISSING: Final = 'url: needs {}, which is not installed: pip install "penstock[sql]"'

_DEFAULTS: Final[dict[str, dict[str, str]]] = {
    "sqlite": {"timeout": "5"},  # seconds to wait for another writer
    # A server that is gone must show as a failure, not as a write that never ends.
    "postgresql": {
        "client_encoding": "utf8",
        "connect_timeout": "10",  # seconds
        "keepalives_idle": "30",  # seconds
        "tcp_user_timeout": "30000",  # milliseconds
    },
}
"""What a URL says unless it says otherwise."""

SESSION: Final = {
    # FULL leaves the folder out: a loss of power could undo the last commit.
    "sqlite": "PRAGMA synchronous = EXTRA",
    # The lock of a transaction whose client is gone is not waited for without end.
    "postgresql": "SET lock_timeout = '10s'",
}


class Refused(SinkFailed):
    """The database refuses what it was given, as opposed to everything at present."""


class Database:
    """SQLite or PostgreSQL behind one connection, which is made anew when it breaks.

    SQLAlchemy is heavy and comes with the extra "sql": it is loaded with ``connect``.
    """

    def __init__(self, url: str) -> None:
        """Take the URL; raises ConfigurationError when it is of no known kind."""
        if not re.fullmatch(_KNOWN, url):
            message = 'url: expected "sqlite:///path" or "postgresql://user@host/database"'
            raise ConfigurationError(message)  # without the one given: it may hold a password
        kind, _, rest = url.partition("://")
        if rest.partition("?")[0].count("@") > 1:
            raise ConfigurationError(_UNREADABLE)
        if kind == "sqlite" and re.match(UNEXPANDED, rest.removeprefix("/")):
            raise ConfigurationError('url: expected a path: "~" and "$NAME" are not expanded')
        for module in ("sqlalchemy", *(["psycopg"] if kind == "postgresql" else [])):
            if find_spec(module) is None:
                raise ConfigurationError(_MISSING.format(module))
        self._url = url
        self.file = Path(rest.removeprefix("/").partition("?")[0]) if kind == "sqlite" else None
        """Where it is, if it is a file."""
        self._secrets: list[str] = []
        self._engine: Engine | None = None
        self.name = "the database"
        """What messages call it: its URL without what may be secret."""

    @property
    def is_gone(self) -> bool:
        """Say whether it is a file, and there is none."""
        return self.file is not None and not self.file.exists()

    @property
    def engine(self) -> Engine:
        """The engine of SQLAlchemy, once connected."""
        assert self._engine is not None, "connect comes first"  # noqa: S101 - invariant
        return self._engine

    def connect(self) -> None:
        """Get ready to connect; raises PipelineFailed when the URL cannot be read."""
        try:
            import sqlalchemy as sql  # noqa: PLC0415 - see above

            url = sql.make_url(self._url)
            kind = url.get_backend_name()
            if kind == "postgresql" and "@" in (url.database or ""):
                raise ValueError  # noqa: TRY301 - the end of a password: said as the others below
            if kind == "postgresql":
                url = url.set(drivername="postgresql+psycopg")
            self._engine = sql.create_engine(
                url.set(query={**_DEFAULTS[kind], **url.query}),
                pool_size=1,
                max_overflow=0,
                hide_parameters=True,  # events stay out of messages
            )
        except ImportError as error:
            raise PipelineFailed(_MISSING.format(error.name)) from None
        except (sql.exc.ArgumentError, ValueError):  # its text may hold part of the password
            raise PipelineFailed(_UNREADABLE) from None
        self.name = url.set(drivername=kind, password=None, query={}).render_as_string()
        secrets = (url.password, url.query.get("password"))
        self._secrets = [secret for secret in secrets if isinstance(secret, str) and secret]
        if kind == "sqlite":
            Path(url.database or "").parent.mkdir(parents=True, exist_ok=True)

        @sql.event.listens_for(self._engine, "connect")
        def set_up(connection: Any, _: object) -> None:
            connection.execute(SESSION[kind])
            connection.commit()

    @contextmanager
    def transaction(self) -> Iterator[Connection]:
        """Give a connection; commit at the end, or undo all when anything raises.

        Raises Refused, SinkFailed.
        """
        with self._explained(), self.engine.begin() as connection:
            yield connection

    @contextmanager
    def savepoint(self, connection: Connection) -> Iterator[None]:
        """Undo, when anything raises, what was done since; raises Refused, SinkFailed."""
        with self._explained(), connection.begin_nested():
            yield

    def make(self, tables: MetaData) -> None:
        """Make the tables that are missing.

        Raises PipelineFailed when one that is there lacks a column, SinkFailed.
        """
        import sqlalchemy as sql  # noqa: PLC0415 - see above

        with self._explained():
            tables.create_all(self.engine)
            for table in tables.tables.values():
                columns = sql.inspect(self.engine).get_columns(table.name)
                there = {column["name"] for column in columns}
                missing = [column.name for column in table.columns if column.name not in there]
                if missing:
                    message = (
                        f'{self.name}: the table "{table.name}" is there, but has no column '
                        f"{', '.join(missing)}; name another table, and it is made"
                    )
                    raise PipelineFailed(message)

    def close(self) -> None:
        """Close the connection."""
        if self._engine is not None:
            self._engine.dispose()

    @contextmanager
    def _explained(self) -> Iterator[None]:
        """Turn what the database reports into one line, without SQL, without a password."""
        from sqlalchemy.exc import DataError, IntegrityError, SQLAlchemyError  # noqa: PLC0415 - see above

        try:
            yield
        except SQLAlchemyError as error:
            cause = getattr(error, "orig", None) or error
            reason = str(cause).strip() or type(cause).__name__
            for secret in self._secrets:  # whole words: a password of one letter is in all of them
                reason = re.sub(rf"(?<![^\W_]){re.escape(secret)}(?![^\W_])", "***", reason)
            reason = reason.splitlines()[0]
            raised_by_trigger = getattr(cause, "sqlstate", None) == "P0001"
            if isinstance(error, DataError | IntegrityError) or raised_by_trigger:
                raise Refused(reason) from None
            raise SinkFailed(f"{self.name}: {reason}") from None
