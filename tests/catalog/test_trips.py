"""A statement is one trip to the thread of its connection, whatever it is; what it says is what sqlite3 says."""

import os
import sqlite3
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import pytest
from sqlalchemy import URL, NullPool, text
from sqlalchemy.exc import IntegrityError, OperationalError
from sqlalchemy.ext.asyncio import AsyncConnection, create_async_engine

from mediacdn.catalog.trips import Connection, connect

pytestmark = pytest.mark.anyio


@pytest.fixture
async def connection(tmp_path: Path) -> AsyncIterator[AsyncConnection]:
    url = URL.create("sqlite+aiosqlite", database=str(tmp_path / "db"))
    engine = create_async_engine(url, poolclass=NullPool, connect_args={"isolation_level": None, "async_creator_fn": connect})
    async with engine.connect() as opened:
        await opened.execute(text("CREATE TABLE t (a INTEGER PRIMARY KEY, b TEXT UNIQUE)"))
        yield opened
    await engine.dispose()


async def test_its_thread_gives_way_to_the_loop(tmp_path: Path) -> None:
    before = os.sched_getscheduler(0)
    async with connect(str(tmp_path / "db")) as connection:
        assert await connection._execute(os.sched_getscheduler, 0) == os.SCHED_BATCH
    assert os.sched_getscheduler(0) == before


async def test_one_trip_each(connection: AsyncConnection, monkeypatch: pytest.MonkeyPatch) -> None:
    trips = 0
    go = Connection._execute

    async def counted(self: Connection, *arguments: Any) -> Any:
        nonlocal trips
        trips += 1
        return await go(self, *arguments)  # type: ignore[no-untyped-call]

    monkeypatch.setattr(Connection, "_execute", counted)
    for number, statement in enumerate(
        ["INSERT INTO t (b) VALUES ('x')", "SELECT * FROM t", "SELECT * FROM t WHERE a = 0", "UPDATE t SET b = 'y' RETURNING a"], 1
    ):
        (await connection.execute(text(statement))).close()
        assert trips == number


async def test_what_it_says(connection: AsyncConnection) -> None:
    many = await connection.execute(text("INSERT INTO t (b) VALUES (:b)"), [{"b": each} for each in "abc"])
    assert many.rowcount == 3
    assert (await connection.execute(text("UPDATE t SET b = b || '!' WHERE a > 1"))).rowcount == 2
    returned = await connection.execute(text("DELETE FROM t WHERE a < 3 RETURNING a, b"))
    assert sorted(returned.all()) == [(1, "a"), (2, "b!")]
    found = await connection.execute(text("SELECT a, b FROM t"))
    assert (list(found.keys()), found.all()) == (["a", "b"], [(3, "c!")])
    assert (await connection.execute(text("SELECT a FROM t WHERE a = 9"))).one_or_none() is None


async def test_an_error_costs_the_statement_alone(connection: AsyncConnection) -> None:
    await connection.execute(text("INSERT INTO t (b) VALUES ('x')"))
    with pytest.raises(IntegrityError) as refused:
        await connection.execute(text("INSERT INTO t (b) VALUES ('x')"))
    assert isinstance(refused.value.orig, sqlite3.IntegrityError)
    with pytest.raises(OperationalError):
        await connection.execute(text("SELECT nothing FROM nowhere"))
    assert (await connection.execute(text("SELECT count(*) FROM t"))).scalar_one() == 1
