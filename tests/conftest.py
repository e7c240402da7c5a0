"""What every test may ask for."""

import asyncio
from collections.abc import Iterator
from pathlib import Path

import pytest

from mediacdn.catalog.migrate import migrate
from mediacdn.config import Database
from tests.services.postgres import PostgresServer
from tests.services.rclone import RcloneServer, rclone
from tests.services.swift import SwiftServer, swift
from tests.services.valkey import ValkeyServer

collect_ignore = ["external_plugin"]  # a distribution of its own: test_external_plugin.py installs it and runs its tests


@pytest.fixture(scope="session")
def anyio_backend() -> str:
    return "asyncio"


@pytest.fixture(scope="session")
def postgres_server() -> Iterator[PostgresServer]:
    """A PostgreSQL of this session's own; who plays outages with it starts another."""
    server = PostgresServer.create()
    try:
        server.start()
        yield server
    finally:
        server.destroy()


@pytest.fixture(scope="session")
def postgres_template(postgres_server: PostgresServer, tmp_path_factory: pytest.TempPathFactory) -> str:
    """A migrated database, copied for each test."""
    name = postgres_server.create_database()
    asyncio.run(migrate(Database(url=postgres_server.url(name), timeout=30), tmp_path_factory.mktemp("unused")))
    return name


@pytest.fixture(scope="session")
def valkey_server() -> Iterator[ValkeyServer]:
    """A Valkey of this session's own; who plays outages with it leaves it running, and keeps to a prefix of its own."""
    server = ValkeyServer()
    try:
        server.start()
        yield server
    finally:
        server.destroy()


@pytest.fixture(scope="session")
def sqlite_template(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A data directory with a migrated embedded catalog, to be copied."""
    data = tmp_path_factory.mktemp("template")
    asyncio.run(migrate(Database(), data))
    return data


@pytest.fixture(scope="session")
def swift_server() -> Iterator[SwiftServer]:
    """An S3 server of this session's own, Swift's; who plays outages with it starts another."""
    with swift() as server:
        yield server


@pytest.fixture(scope="session")
def rclone_server() -> Iterator[RcloneServer]:
    """The other S3 server, which keeps to the protocol less closely."""
    with rclone() as server:
        yield server


@pytest.fixture(params=["sqlite", "postgresql"])
def database_url(request: pytest.FixtureRequest) -> Iterator[str]:
    """`database.url` for a test that runs on both: "" (the embedded one, in whatever data directory the test uses), or a migrated database of its own."""
    if request.param == "sqlite":
        yield ""
        return
    server: PostgresServer = request.getfixturevalue("postgres_server")
    name = server.create_database(request.getfixturevalue("postgres_template"))
    yield server.url(name)
    server.drop_database(name)
