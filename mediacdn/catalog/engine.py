"""The engine of one database: its address from the configuration, and what every new connection is told."""

from pathlib import Path
from typing import Any

from sqlalchemy import URL, NullPool, event, make_url
from sqlalchemy.exc import ArgumentError
from sqlalchemy.ext.asyncio import AsyncEngine, create_async_engine

from mediacdn.catalog.trips import connect
from mediacdn.config import Database
from mediacdn.errors import ConfigError

SQLITE_FILE = "catalog.sqlite3"


def sqlite_path(data: Path) -> Path:
    """Tell where the embedded database lies."""
    return data / SQLITE_FILE


def create_engine(config: Database, data: Path, *, patience: float | None = None) -> AsyncEngine:
    """Build the engine; nothing is opened yet, and connections are pooled by those who hold them.

    `patience` is how many seconds one statement may take, or wait for a lock; by default the configured timeout. Raises: ConfigError.
    """
    patience = config.deadline if patience is None else patience
    if not config.url:
        return _sqlite(sqlite_path(data), patience)
    try:
        url = make_url(config.url)
    except ArgumentError:
        raise ConfigError("database.url is not a URL") from None
    if url.drivername not in {"postgresql", "postgres"}:
        raise ConfigError("database.url must begin with postgresql://; leave it empty for SQLite in the data directory")
    return _postgresql(url, config.deadline, patience)


def _postgresql(url: URL, timeout: float, patience: float) -> AsyncEngine:
    query = dict(url.query)
    if "sslmode" in query:  # libpq's word, which asyncpg knows as ssl
        query["ssl"] = query.pop("sslmode")
    try:
        return create_async_engine(
            url.set(drivername="postgresql+asyncpg", query=query),
            poolclass=NullPool,
            connect_args={"timeout": timeout, "command_timeout": patience, "server_settings": {"application_name": "mediacdn"}},
        )
    except ModuleNotFoundError:
        raise ConfigError(
            "PostgreSQL needs a driver: pip install 'mediacdn[postgres]' (in a clone: make install EXTRAS=postgres)"
        ) from None


def _sqlite(path: Path, patience: float) -> AsyncEngine:
    # isolation_level None: the driver begins nothing by itself; a writer says BEGIN IMMEDIATE, and readers say nothing and see the newest commit.
    engine = create_async_engine(
        URL.create("sqlite+aiosqlite", database=str(path)),
        poolclass=NullPool,
        connect_args={"isolation_level": None, "timeout": patience, "async_creator_fn": connect},
    )

    @event.listens_for(engine.sync_engine, "connect")
    def tell(connection: Any, _: Any) -> None:
        cursor = connection.cursor()
        # A waiter gives up a little before its caller's deadline, so that the answer is "locked" and the connection stays good.
        cursor.execute(f"PRAGMA busy_timeout = {int(patience * 900)}")
        # FULL: a commit is on the disk when it returns. In WAL, NORMAL would lose the last ones with the power.
        cursor.execute("PRAGMA synchronous = FULL")
        cursor.execute("PRAGMA foreign_keys = ON")
        cursor.execute("PRAGMA cache_size = -16384")
        cursor.execute("PRAGMA temp_store = MEMORY")
        cursor.close()

    return engine
