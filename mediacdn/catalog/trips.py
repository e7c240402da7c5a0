"""SQLite for the event loop, one trip a statement: the connection's thread makes the cursor, runs the statement, reads its rows and lets go of it at a stretch.

aiosqlite goes there for each of the four, which wakes a thread and the event loop every time: most of what a small transaction cost.
"""

import sqlite3
from collections.abc import Callable, Sequence
from typing import Any, Self

import aiosqlite

from mediacdn.threads import give_way

Row = Any


class Statement:
    """A cursor for SQLAlchemy's adapter, good for one statement after another; all rows of the last are here when `execute` returns."""

    description: Any = None
    rowcount = -1
    lastrowid: int | None = None
    arraysize = 1

    def __init__(self, trip: Callable[..., Any]) -> None:
        self._trip = trip
        self._rows: list[Row] = []

    async def __aenter__(self) -> Self:
        return self

    async def execute(self, sql: str, parameters: Sequence[Any] = ()) -> None:
        await self._trip(self._run, sqlite3.Cursor.execute, sql, parameters)

    async def executemany(self, sql: str, parameters: Sequence[Sequence[Any]]) -> None:
        await self._trip(self._run, sqlite3.Cursor.executemany, sql, parameters)

    async def fetchall(self) -> list[Row]:
        rows, self._rows = self._rows, []
        return rows

    async def close(self) -> None:
        self._rows = []

    def _run(self, connection: sqlite3.Connection, how: Callable[..., Any], sql: str, parameters: Any) -> None:
        cursor = connection.cursor()
        try:
            how(cursor, sql, parameters)
            self.description = cursor.description
            self._rows = cursor.fetchall() if cursor.description else []
            self.rowcount, self.lastrowid = cursor.rowcount, cursor.lastrowid  # whole only when all rows are read
        finally:
            cursor.close()


class Connection(aiosqlite.Connection):
    """As aiosqlite's, but for its cursors."""

    def cursor(self) -> Statement:  # type: ignore[override]
        return Statement(self._on_thread)

    async def _on_thread(self, run: Callable[..., None], *arguments: Any) -> None:
        await self._execute(lambda: run(self._conn, *arguments))  # type: ignore[no-untyped-call]


def connect(database: str, **settings: Any) -> Connection:
    """What `async_creator_fn` of SQLAlchemy's aiosqlite dialect is to be: a connection that is opened when it is awaited. `settings` are those of sqlite3.connect."""

    def opened() -> Any:  # the first that the connection's thread does
        give_way()
        return sqlite3.connect(database, **settings)

    connection = Connection(opened, iter_chunk_size=64)
    connection._thread.daemon = True  # a statement that hangs in the disk must not keep the process
    return connection
