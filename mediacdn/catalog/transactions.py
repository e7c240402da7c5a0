"""Held connections and the two ways to use them, `read` and `write`; it answers for deadlines, retries and recovery, and leaves statements to its callers."""

import asyncio
from collections.abc import AsyncIterator, Awaitable, Callable, Coroutine, Sequence
from contextlib import asynccontextmanager, suppress
from typing import Any, TypeVar

import anyio
from sqlalchemy import Executable, Table
from sqlalchemy.dialects import postgresql, sqlite
from sqlalchemy.ext.asyncio import AsyncConnection, AsyncEngine

from mediacdn.catalog.faults import clashed, disconnected, driver_errors, lost_race, translated
from mediacdn.catalog.words import Words
from mediacdn.errors import CatalogUnavailable, MediaError

T = TypeVar("T")
Work = Callable[[AsyncConnection], Awaitable[T]]

TRIES = 8


class Held:
    """At most `size` connections, opened when first needed and kept: checking one out of an engine's pool costs more than a point read."""

    def __init__(self, engine: AsyncEngine, size: int, isolation: str | None = None) -> None:
        self._engine = engine
        self._isolation = isolation
        self._slots = asyncio.Semaphore(size)
        self._idle: list[AsyncConnection] = []
        self._closing: set[asyncio.Task[None]] = set()

    @asynccontextmanager
    async def lend(self) -> AsyncIterator[AsyncConnection]:
        """Lend a connection; one that broke, or whose user was stopped within a statement, is not lent again."""
        async with self._slots:
            connection = self._idle.pop() if self._idle else await self._open()
            try:
                yield connection
            except BaseException as error:
                if isinstance(error, Exception) and not disconnected(error) and not connection.invalidated:
                    self._idle.append(connection)
                else:
                    # The server that dropped or stalled this one has taken its idle neighbours along.
                    self._discard(connection)
                    self._flush()
                raise
            self._idle.append(connection)

    async def close(self) -> None:
        """Close what is idle; the users must have ended."""
        self._flush()
        if self._closing:
            await asyncio.wait(self._closing)

    async def _open(self) -> AsyncConnection:
        connection = await self._engine.connect()
        if self._isolation is not None:
            await connection.execution_options(isolation_level=self._isolation)
        return connection

    def _flush(self) -> None:
        while self._idle:
            self._discard(self._idle.pop())

    def _discard(self, connection: AsyncConnection) -> None:
        # Closing may wait for the statement in flight or for a server that is gone; nobody needs to wait for that.
        task = asyncio.create_task(_close(connection))
        self._closing.add(task)
        task.add_done_callback(self._closing.discard)


async def _close(connection: AsyncConnection) -> None:
    with suppress(Exception):
        await connection.invalidate()
    with suppress(Exception):
        await connection.close()


class Transactions:
    """Runs work on one database, each piece within `timeout` seconds, the wait for a connection included.

    Work may run more than once, so it touches nothing but its connection. What the driver raises leaves here as a MediaError.
    A caller that is cancelled meanwhile gets its cancellation when the work has ended, so that what it does next meets a settled state.
    """

    def __init__(self, engine: AsyncEngine, *, pool_size: int, timeout: float) -> None:
        self.dialect = engine.dialect.name
        self._engine = engine
        self._timeout = timeout
        self._left: set[asyncio.Task[Any]] = set()
        self._unwrapped = driver_errors(self.dialect)
        # SQLite has one writer at a time: a queue for one connection is fair and cheap, busy waits are neither. In WAL its readers do not block.
        writers = 1 if self.dialect == "sqlite" else max(1, pool_size // 2)
        readers = pool_size if self.dialect == "sqlite" else max(1, pool_size - writers)
        self._writers = Held(engine, writers)
        self._readers = Held(engine, readers, "AUTOCOMMIT")

    async def read(self, work: Work[T]) -> T:
        """Run statements that only read, each on the newest committed state. Raises: CatalogUnavailable."""
        return await self._in_time(self._read(work))

    def words(self, statement: Executable) -> Words:
        """Write a statement once, for `point`, `rows` and `stroke`."""
        return Words(statement, self._engine.dialect)

    async def point(self, words: Words, **values: Any) -> Sequence[Any] | None:
        """Fetch the one row of a statement that only reads, as it is stored: a tenth of the time of `read`.

        Cancelled half-way it costs its connection. Raises: CatalogUnavailable.
        """
        return next(iter(await self.rows(words, **values)), None)

    async def rows(self, words: Words, **values: Any) -> Sequence[Sequence[Any]]:
        """Fetch the rows of a statement that only reads, as they are stored. Raises: CatalogUnavailable."""
        bound = words.bind(values)
        async with self._translated(), asyncio.timeout(self._timeout):
            return await self._again(self._readers, lambda connection: self._fetch(connection, words, bound))

    async def stroke(self, words: Words, **values: Any) -> list[Any] | None:
        """Run one statement that is a transaction by itself, and give its one row, read: a fraction of the time of `write`, and as durable.

        Where the connection breaks it may have run, and runs once more. Raises: CatalogUnavailable.
        """
        bound = words.bind(values)
        found = await self._in_time(self._again(self._writers, lambda connection: self._fetch(connection, words, bound)))
        return words.read(found[0]) if found else None

    async def write(self, work: Work[T], *, clash: type[MediaError] | None = None) -> T:
        """Run work as one transaction: durable when this returns, rolled back whole when it raises.

        Where a unique index refuses a row, the work runs again and sees who was there first; or `clash` is raised, where given.
        Raises: CatalogUnavailable; whether the work was done is unknown only if the connection broke within the commit.
        """
        return await self._in_time(self._write(work, clash))

    def insert(self, table: Table) -> sqlite.Insert | postgresql.Insert:
        """Make an INSERT that knows ON CONFLICT, which both databases have and the standard has not."""
        return sqlite.insert(table) if self.dialect == "sqlite" else postgresql.insert(table)

    async def close(self) -> None:
        """Close the connections; nothing may be running."""
        if self._left:
            await asyncio.wait(self._left)
        await self._readers.close()
        await self._writers.close()

    async def _read(self, work: Work[T]) -> T:
        return await self._again(self._readers, work)

    async def _again(self, lent: Held, work: Work[T]) -> T:
        try:
            async with lent.lend() as connection:
                return await work(connection)
        except Exception as error:
            if not disconnected(error):
                raise
        # The server may have been restarted since that connection was opened: once more, on a new one.
        async with lent.lend() as connection:
            return await work(connection)

    async def _fetch(self, connection: AsyncConnection, words: Words, bound: list[Any]) -> Sequence[Sequence[Any]]:
        assert connection.sync_connection is not None
        driver: Any = connection.sync_connection.connection.driver_connection
        try:
            if self.dialect == "sqlite":
                return list(await driver.execute_fetchall(words.text, bound))
            found: Sequence[Sequence[Any]] = await driver.fetch(words.text, *bound)
        except self._unwrapped as error:
            # Nothing but the connection can be at fault here, and SQLAlchemy has not seen it.
            raise ConnectionError from error
        return found

    async def _write(self, work: Work[T], clash: type[MediaError] | None) -> T:
        reconnected = False
        for _ in range(TRIES):
            committing = False
            try:
                async with self._writers.lend() as connection:
                    transaction = await connection.begin()
                    try:
                        if self.dialect == "sqlite":
                            # Taking the lock at the start: a reader that turns writer may find that it cannot (SQLITE_BUSY_SNAPSHOT).
                            await connection.exec_driver_sql("BEGIN IMMEDIATE")
                        result = await work(connection)
                        committing = True
                        await transaction.commit()
                    except Exception:
                        await transaction.rollback()
                        raise
                    return result
            except Exception as error:
                if clash is not None and clashed(error):
                    raise clash() from error
                if disconnected(error) and not committing and not reconnected:
                    reconnected = True
                elif not lost_race(error):
                    raise
        raise CatalogUnavailable("The catalog is too busy with this content; try again")

    async def _in_time(self, work: Coroutine[Any, Any, T]) -> T:
        task = asyncio.create_task(work)
        deadline = asyncio.get_running_loop().time() + self._timeout
        try:
            await asyncio.wait({task}, timeout=self._timeout)
        except asyncio.CancelledError:
            with anyio.CancelScope(shield=True):
                await asyncio.wait({task}, timeout=max(0.0, deadline - asyncio.get_running_loop().time()))
            self._leave(task)
            raise
        if not task.done():
            self._leave(task)
            raise CatalogUnavailable()
        async with self._translated():
            return task.result()

    def _leave(self, task: "asyncio.Task[Any]") -> None:
        # Stopping a statement may take as long as the statement (SQLite's busy wait) or as a server's silence; whoever asked has waited enough.
        task.cancel()
        self._left.add(task)
        task.add_done_callback(self._heard)

    def _heard(self, task: "asyncio.Task[Any]") -> None:
        self._left.discard(task)
        if not task.cancelled():
            task.exception()

    @asynccontextmanager
    async def _translated(self) -> AsyncIterator[None]:
        try:
            yield
        except MediaError:
            raise
        except Exception as error:
            if (told := translated(error, self._unwrapped)) is error:
                raise
            raise told from error
