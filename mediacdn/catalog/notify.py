"""A bus over PostgreSQL's LISTEN and NOTIFY, where there is the database and nothing else: one connection of its own a process, beside the catalog's pool.

A notification is lost on whoever does not listen at that moment; the sweep of the sequence finds what it said.
"""

import asyncio
from collections.abc import AsyncIterator, Iterator, Sequence
from contextlib import asynccontextmanager, suppress
from random import Random
from typing import Annotated, Any

import msgspec
import structlog
from msgspec import Meta, Struct
from sqlalchemy import make_url

from mediacdn.config import Database
from mediacdn.errors import ConfigError, Unavailable
from mediacdn.model import Change

PAYLOAD = 7900
"""Bytes of one notification; PostgreSQL takes less than 8,000 (NOTIFY, its manual)."""
WITHIN = 1.0
QUIET = 5.0
"""Seconds without a word after which the connection is asked whether it is still there."""
AGAIN_FIRST, AGAIN_MOST = 0.1, 3.0
UNHEARD = 1000
"""Messages that wait for a listener; the next are lost on it."""

log = structlog.get_logger("mediacdn.changes")


class PostgresBusConfig(Struct, frozen=True, forbid_unknown_fields=True):
    """The table [edge.postgres]. `url` is for a database that is reached through a pooler of transactions, which passes no notifications on: the way around it."""

    url: str = ""
    channel: Annotated[str, Meta(pattern=r"^[a-z_][a-z0-9_]{0,62}$")] = "mediacdn_changes"


@asynccontextmanager
async def open_postgres_bus(config: PostgresBusConfig, database: Database) -> AsyncIterator["PostgresBus"]:
    """Open the bus; it connects when it is first used, and again when it must. Raises: ConfigError."""
    url = config.url or database.url
    if not url.startswith(("postgresql://", "postgres://")):
        raise ConfigError("edge.postgres.url must begin with postgresql://")
    bus = PostgresBus(url, config.channel, database.deadline)
    try:
        yield bus
    finally:
        await bus.close()


class PostgresBus:
    """A `Bus`. Every method may be called from any task of one event loop."""

    def __init__(self, url: str, channel: str, timeout: float) -> None:
        self._dsn = _dsn(url)
        self._channel = channel
        self._timeout = timeout
        self._connection: Any = None
        self._turn = asyncio.Lock()  # the protocol carries one statement at a time
        self._listeners: set[asyncio.Queue[Sequence[Change] | None]] = set()
        self._random = Random()  # noqa: S311 - it spreads load, it keeps no secret

    async def publish(self, changes: Sequence[Change]) -> None:
        payloads = list(_payloads(changes))
        if not payloads:
            return
        statement = "SELECT count(pg_notify($1, each)) FROM unnest($2::text[]) AS each"
        await self._ask(statement, self._channel, payloads)

    async def listen(self) -> AsyncIterator[Sequence[Change]]:
        heard: asyncio.Queue[Sequence[Change] | None] = asyncio.Queue(UNHEARD)
        self._listeners.add(heard)
        failures = 0
        try:
            while True:
                try:
                    await self.check()
                except Unavailable as error:
                    failures += 1
                    if failures == 1:
                        log.warning("the bus cannot be heard", error=error.detail)
                    await asyncio.sleep(self._random.uniform(0.5, 1) * min(AGAIN_MOST, AGAIN_FIRST * 2**failures))
                    continue
                if failures:
                    log.info("the bus is heard again")
                failures = 0
                yield ()
                while True:
                    try:
                        async with asyncio.timeout(QUIET):
                            changes = await heard.get()
                    except TimeoutError:
                        break
                    if changes is None:
                        break
                    yield changes
        finally:
            self._listeners.discard(heard)

    async def check(self) -> None:
        """Whether the connection lives, or can be made. Raises: Unavailable."""
        await self._ask("SELECT 1")

    async def close(self) -> None:
        connection, self._connection = self._connection, None
        if connection is not None:
            with suppress(Exception):
                await connection.close(timeout=1)

    async def _ask(self, statement: str, *values: object) -> None:
        """Run a statement that answers nothing of interest, within a second; when it cannot, the connection is given up."""
        import asyncpg

        try:
            async with asyncio.timeout(WITHIN), self._turn:
                if self._connection is None:
                    self._connection = await self._connected()
                try:
                    await self._connection.execute(statement, *values)
                except BaseException:  # also cancelled: a statement under way would meet the next one on this connection
                    self._give_up()
                    raise
        except (OSError, TimeoutError, asyncpg.PostgresError, asyncpg.InterfaceError, asyncpg.InternalClientError) as error:
            raise Unavailable("The database does not pass notifications on") from error

    async def _connected(self) -> Any:
        import asyncpg

        connection = await asyncpg.connect(self._dsn, timeout=self._timeout, server_settings={"application_name": "mediacdn bus"})
        try:
            await connection.add_listener(self._channel, self._hear)
        except BaseException:  # also cancelled: nobody would close it
            connection.terminate()
            raise
        connection.add_termination_listener(self._ended)
        return connection

    def _give_up(self) -> None:
        connection, self._connection = self._connection, None
        if connection is not None:
            connection.terminate()

    def _ended(self, connection: Any) -> None:
        if connection is self._connection:
            self._connection = None
        self._tell(None)

    def _hear(self, connection: Any, pid: int, channel: str, payload: str) -> None:
        with suppress(msgspec.MsgspecError):  # whoever else speaks there
            self._tell([Change(*each) for each in msgspec.json.decode(payload, type=list[tuple[int, str | None]])])

    def _tell(self, changes: Sequence[Change] | None) -> None:
        for each in self._listeners:
            if not each.full():
                each.put_nowait(changes)


def _dsn(url: str) -> str:
    """The catalog's URL as libpq writes it, which asyncpg reads."""
    parts = make_url(url)
    query = dict(parts.query)
    if "ssl" in query and "sslmode" not in query:
        query["sslmode"] = query.pop("ssl")
    return parts.set(drivername="postgresql", query=query).render_as_string(hide_password=False)


def _payloads(changes: Sequence[Change]) -> Iterator[str]:
    """Lists of [number, id] as JSON, each small enough for one notification."""
    part: list[bytes] = []
    size = 2
    for each in changes:
        text = msgspec.json.encode((each.seq, each.media_id))
        if part and size + len(text) + 1 > PAYLOAD:
            yield f"[{b','.join(part).decode()}]"
            part, size = [], 2
        part.append(text)
        size += len(text) + 1
    if part:
        yield f"[{b','.join(part).decode()}]"
