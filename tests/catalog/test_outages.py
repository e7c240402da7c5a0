"""The database away, silent, locked or full: the answer comes in time, and nothing needs a restart afterwards (dangers 1.17)."""

import asyncio
import gc
import sqlite3
import time
from collections.abc import AsyncIterator, Awaitable, Callable, Iterator
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

import anyio
import asyncpg
import pytest
from sqlalchemy import text

from mediacdn.catalog.database import Catalog, open_catalog
from mediacdn.catalog.engine import sqlite_path
from mediacdn.catalog.migrate import migrate
from mediacdn.config import Database
from mediacdn.errors import CatalogUnavailable, StorageFull
from mediacdn.model import Media
from tests.services.postgres import PostgresServer

# A server that is killed leaves its clients' sockets to the collector; that is not what is tested here.
pytestmark = [pytest.mark.anyio, pytest.mark.filterwarnings("ignore::ResourceWarning", "ignore::pytest.PytestUnraisableExceptionWarning")]

Make = Callable[..., Media]
TIMEOUT = 3.0
AT_MOST = 3.5


@pytest.fixture(autouse=True)
def collected() -> Iterator[None]:
    """What a test leaves is collected before the next one, which may not be as patient."""
    yield
    gc.collect()


@pytest.fixture(scope="module")
def mortal_server() -> Iterator[PostgresServer]:
    """A server that tests may take away."""
    server = PostgresServer.create()
    server.start()
    yield server
    server.destroy()


@pytest.fixture
async def mortal(mortal_server: PostgresServer, tmp_path: Path, clock: Any) -> AsyncIterator[Catalog]:
    config = Database(url=mortal_server.url(await anyio.to_thread.run_sync(mortal_server.create_database)), timeout=TIMEOUT)
    await migrate(config, tmp_path)
    async with open_catalog(config, tmp_path, clock) as catalog:
        yield catalog


async def acts(catalog: Catalog, media: Media) -> list[Callable[[], Awaitable[Any]]]:
    return [
        catalog.check,
        lambda: catalog.media.card(media.id),
        lambda: catalog.media.get(media.id),
        lambda: catalog.media.page(limit=5),
        lambda: catalog.objects.touch([("default", "k")]),
        lambda: catalog.objects.settle(media, dedupe_key=media.id, quota=0),
        lambda: catalog.refusals.add("0" * 64, None),
        lambda: catalog.media.revoke(media.id, 1),
    ]


async def all_unavailable(catalog: Catalog, media: Media) -> None:
    async def refused(act: Callable[[], Awaitable[Any]]) -> float:
        began = time.monotonic()
        with pytest.raises(CatalogUnavailable) as caught:
            await act()
        assert caught.value.status == 503
        assert caught.value.headers["Retry-After"]
        return time.monotonic() - began

    took = await asyncio.gather(*(refused(act) for act in await acts(catalog, media) * 3))
    assert max(took) < AT_MOST


async def all_well(catalog: Catalog, media: Media) -> None:
    await asyncio.gather(*(act() for act in await acts(catalog, media) * 3))


async def bring(catalog: Catalog, media: Media) -> Media:
    await catalog.objects.intend(media.storage, media.storage_key)
    return (await catalog.objects.commit(media, dedupe_key=media.id, quota=0, etag="e")).media


async def test_killed_and_started_again(mortal: Catalog, mortal_server: PostgresServer, media_like: Make) -> None:
    media = await bring(mortal, media_like())
    await all_well(mortal, media)
    mortal_server.kill()
    try:
        await all_unavailable(mortal, media)
    finally:
        await anyio.to_thread.run_sync(mortal_server.start)
    with anyio.fail_after(10):
        await all_well(mortal, media)
    assert (await bring(mortal, media_like("b"))).id


async def test_restarted_unnoticed(mortal: Catalog, mortal_server: PostgresServer, media_like: Make) -> None:
    """Connections that died while nobody looked cost no caller an error."""
    media = await bring(mortal, media_like())
    await all_well(mortal, media)
    mortal_server.kill()
    await anyio.to_thread.run_sync(mortal_server.start)
    await all_well(mortal, media)


class Wire:
    """A TCP relay to the server that can fall silent without closing anything, as a lost network does."""

    def __init__(self, port: int) -> None:
        self._port = port
        self.flowing = asyncio.Event()
        self.flowing.set()
        self.port = 0

    async def _relay(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        try:
            while piece := await reader.read(65536):
                await self.flowing.wait()
                writer.write(piece)
        except OSError:
            pass
        finally:
            writer.close()

    async def _accept(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        await self.flowing.wait()
        far_reader, far_writer = await asyncio.open_connection("127.0.0.1", self._port)
        await asyncio.gather(self._relay(reader, far_writer), self._relay(far_reader, writer))

    @asynccontextmanager
    async def open(self) -> AsyncIterator["Wire"]:
        server = await asyncio.start_server(self._accept, "127.0.0.1", 0)
        self.port = server.sockets[0].getsockname()[1]
        try:
            yield self
        finally:
            self.flowing.set()
            server.close()


async def test_silent(postgres_server: PostgresServer, postgres_template: str, tmp_path: Path, clock: Any, media_like: Make) -> None:
    name = await anyio.to_thread.run_sync(postgres_server.create_database, postgres_template)
    async with Wire(postgres_server.port).open() as wire:
        config = Database(url=f"postgresql://postgres@127.0.0.1:{wire.port}/{name}", timeout=TIMEOUT, pool_size=4)
        async with open_catalog(config, tmp_path, clock) as catalog:
            media = await bring(catalog, media_like())
            await all_well(catalog, media)
            wire.flowing.clear()
            await all_unavailable(catalog, media)
            wire.flowing.set()
            with anyio.fail_after(10):
                await all_well(catalog, media)


async def test_absent_when_opened(postgres_server: PostgresServer, tmp_path: Path, clock: Any) -> None:
    for url in ("postgresql://postgres@127.0.0.1:1/x", postgres_server.url("no_such_database")):
        with pytest.raises(CatalogUnavailable):
            async with open_catalog(Database(url=url, timeout=TIMEOUT), tmp_path, clock):
                pass


@pytest.fixture
async def embedded(sqlite_template: Path, clock: Any, tmp_path: Path) -> AsyncIterator[tuple[Catalog, Path]]:
    path = sqlite_path(tmp_path)
    path.write_bytes(sqlite_path(sqlite_template).read_bytes())
    async with open_catalog(Database(timeout=TIMEOUT), tmp_path, clock) as catalog:
        yield catalog, path


async def test_locked_by_another_process(embedded: tuple[Catalog, Path], media_like: Make) -> None:
    catalog, path = embedded
    media = await bring(catalog, media_like())
    other = sqlite3.connect(path, isolation_level=None)
    other.execute("BEGIN IMMEDIATE")
    try:
        began = time.monotonic()
        ends = await asyncio.gather(*(catalog.media.revoke(media.id, 1) for _ in range(5)), return_exceptions=True)
        assert [type(end) for end in ends] == [CatalogUnavailable] * 5
        assert time.monotonic() - began < AT_MOST
        assert await catalog.media.card(media.id) == media.card, "readers are not held up"
        assert (await catalog.media.page(limit=1))[0] == [media]
        new = media_like(digest="f" * 64)
        assert (await catalog.objects.settle(new, dedupe_key="new", quota=1000)).kind == "new", "a look at new content neither"
    finally:
        other.execute("ROLLBACK")
        other.close()
    assert (await catalog.media.revoke(media.id, 1))[0].links_valid_from == 1


async def test_full(embedded: tuple[Catalog, Path], media_like: Make) -> None:
    catalog, _ = embedded
    media = await bring(catalog, media_like())

    async def bound(connection: Any) -> None:
        pages = (await connection.execute(text("PRAGMA page_count"))).scalar_one()
        await connection.execute(text(f"PRAGMA max_page_count = {pages}"))

    async def unbound(connection: Any) -> None:
        await connection.execute(text("PRAGMA max_page_count = 1000000"))

    await catalog._transactions.write(bound)
    with pytest.raises(StorageFull) as caught:
        await catalog.media.change(media.id, {"metadata": {"long": "x" * 1_000_000}}, dedupe_key=None, version=None)
    assert caught.value.status == 507
    assert await catalog.media.get(media.id) == media, "what was there can be read"
    await catalog._transactions.write(unbound)
    await catalog.media.change(media.id, {"metadata": {"long": "x" * 1_000_000}}, dedupe_key=None, version=None)


async def test_mistake_is_not_an_outage(catalog: Catalog) -> None:
    """A wrong statement is the program's fault, and must not look like the weather."""

    async def wrong(connection: Any) -> None:
        await connection.execute(text("SELECT nothing FROM nowhere"))

    for run in (catalog._transactions.read, catalog._transactions.write):
        with pytest.raises(Exception, match="nowhere") as caught:
            await run(wrong)
        assert not isinstance(caught.value, CatalogUnavailable)
        await catalog.check()


async def test_a_connection_that_is_out_of_step_is_not_lent_again(mortal: Catalog) -> None:
    """As where a statement was given up and is still under way."""
    seen = []

    async def work(connection: Any) -> int:
        seen.append(connection)
        if len(seen) == 1:
            raise asyncpg.InternalClientError("cannot switch to state 12; another operation (2) is in progress")
        return (await connection.execute(text("SELECT 7"))).scalar_one()  # type: ignore[no-any-return]

    assert await mortal._transactions.read(work) == 7
    assert seen[0] is not seen[1]

    async def never(connection: Any) -> None:
        raise asyncpg.InternalClientError("another operation is in progress")

    with pytest.raises(CatalogUnavailable):
        await mortal._transactions.write(never)
