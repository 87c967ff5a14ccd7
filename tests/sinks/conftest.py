"""Fixtures: a fresh database for each test, of each kind."""

from __future__ import annotations

import sqlite3
from collections.abc import Iterator
from itertools import count
from pathlib import Path
from typing import Any

import psycopg
import pytest
from hypothesis import HealthCheck, settings

from tests.servers import PostgresServer, postgres_server
from tests.sinks.writing import Database

settings.register_profile("no clock", deadline=None, suppress_health_check=[HealthCheck.too_slow])
settings.load_profile("no clock")

_numbers = count(1)


@pytest.fixture(scope="session")
def postgres() -> Iterator[PostgresServer]:
    server = postgres_server()
    yield server
    server.remove()


@pytest.fixture
def fresh_postgres(postgres: PostgresServer) -> Iterator[Database]:
    name = f"test_{next(_numbers)}"
    with postgres.connect() as connection:
        connection.execute(f"CREATE DATABASE {name}".encode())

    def connect() -> psycopg.Connection[Any]:
        return postgres.connect(name)

    yield Database("postgresql", postgres.url(name), connect)
    with postgres.connect() as connection:
        connection.execute(f"DROP DATABASE {name} WITH (FORCE)".encode())


@pytest.fixture
def fresh_sqlite(tmp_path: Path) -> Database:
    path = tmp_path / "new" / "events.db"
    # A lock is not waited for: a test holds it until it was noticed.
    url = f"sqlite:///{path}?timeout=0"
    return Database("sqlite", url, lambda: sqlite3.connect(path, isolation_level=None))


@pytest.fixture(params=["sqlite", "postgresql"])
def database(request: pytest.FixtureRequest) -> Database:
    """A database that holds nothing yet."""
    fixture = "fresh_sqlite" if request.param == "sqlite" else "fresh_postgres"
    found: Database = request.getfixturevalue(fixture)
    return found
