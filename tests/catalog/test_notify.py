"""The bus over LISTEN and NOTIFY keeps the seam's promises against a real PostgreSQL that is killed, and respects how much one notification holds."""

import asyncio
from collections.abc import AsyncIterator, Iterator
from contextlib import asynccontextmanager

import asyncpg
import msgspec
import pytest

from mediacdn.catalog.notify import PAYLOAD, PostgresBusConfig, _dsn, _payloads, open_postgres_bus
from mediacdn.config import Database
from mediacdn.errors import ConfigError
from mediacdn.interfaces import Bus
from mediacdn.model import Change
from mediacdn.testing import BusConformance, Outage
from tests.services.postgres import PostgresServer

pytestmark = pytest.mark.anyio


@pytest.fixture(scope="module")
def server() -> Iterator[PostgresServer]:
    """A server of this module's own, because it is killed."""
    server = PostgresServer.create()
    try:
        server.start()
        yield server
    finally:
        server.destroy()


class TestPostgres(BusConformance):
    @pytest.fixture
    async def ends(self, server: PostgresServer) -> AsyncIterator[tuple[Bus, Bus]]:
        database = Database(url=server.url())
        async with open_postgres_bus(PostgresBusConfig(), database) as one, open_postgres_bus(PostgresBusConfig(), database) as other:
            yield one, other

    @pytest.fixture
    def outage(self, server: PostgresServer) -> Outage:
        @asynccontextmanager
        async def killed() -> AsyncIterator[None]:
            await asyncio.to_thread(server.kill)
            try:
                yield
            finally:
                await asyncio.to_thread(server.start)

        return killed


@pytest.mark.parametrize("count", [0, 1, 2, 100, 5000])
def test_a_notification_holds_less_than_8000_bytes(count: int) -> None:
    changes = [Change(2**63 - 1 - number, None if number % 7 == 3 else f"01ARZ3NDEKTSV4RRFFQ69{number:05}") for number in range(count)]
    payloads = list(_payloads(changes))
    assert max(map(len, payloads), default=0) <= PAYLOAD < 8000
    assert [Change(*each) for text in payloads for each in msgspec.json.decode(text)] == changes
    assert len(payloads) <= 1 + count // 130, "and no less than it could"


async def test_strangers_and_other_channels_are_passed_over(server: PostgresServer) -> None:
    async with open_postgres_bus(PostgresBusConfig(), Database(url=server.url())) as bus:
        listening = bus.listen()
        assert await anext(listening) == ()
        stranger = await asyncpg.connect(server.url())
        try:
            for channel, word in (
                ("mediacdn_changes", ""), ("mediacdn_changes", "[1]"), ("mediacdn_changes", "{"), ("other", '[[6,"a"]]'), ("mediacdn_changes", '[[7,"a"]]'),
            ):  # fmt: skip
                await stranger.execute("SELECT pg_notify($1, $2)", channel, word)
        finally:
            await stranger.close()
        assert await asyncio.wait_for(anext(listening), 5) == [Change(7, "a")]
        await listening.aclose()  # type: ignore[attr-defined]


async def test_a_connection_that_an_operator_ends_is_made_anew(server: PostgresServer) -> None:
    async with open_postgres_bus(PostgresBusConfig(), Database(url=server.url())) as bus:
        listening = bus.listen()
        assert await anext(listening) == ()
        operator = await asyncpg.connect(server.url())
        try:
            await operator.execute("SELECT pg_terminate_backend(pid) FROM pg_stat_activity WHERE application_name = 'mediacdn bus'")
        finally:
            await operator.close()
        assert await asyncio.wait_for(anext(listening), 5) == (), "it says that something may have been missed"
        await listening.aclose()  # type: ignore[attr-defined]


async def test_one_connection_and_no_more(server: PostgresServer) -> None:
    async with open_postgres_bus(PostgresBusConfig(), Database(url=server.url())) as bus:
        listening = [bus.listen() for _ in range(3)]
        for each in listening:
            assert await anext(each) == ()
        await asyncio.gather(*(bus.publish([Change(number, "a")]) for number in range(1, 50)))
        looking = await asyncpg.connect(server.url())
        try:
            assert await looking.fetchval("SELECT count(*) FROM pg_stat_activity WHERE application_name = 'mediacdn bus'") == 1
        finally:
            await looking.close()
        for each in listening:
            await each.aclose()  # type: ignore[attr-defined]


@pytest.mark.parametrize(
    ("url", "dsn"),
    [
        ("postgresql://u:p%40w@db:5432/m", "postgresql://u:p%40w@db:5432/m"),
        ("postgres://u@db/m", "postgresql://u@db/m"),
        ("postgresql://db/m?ssl=require", "postgresql://db/m?sslmode=require"),
        ("postgresql://db/m?sslmode=verify-full", "postgresql://db/m?sslmode=verify-full"),
    ],
)
def test_the_address_is_the_catalogs(url: str, dsn: str) -> None:
    assert _dsn(url) == dsn


async def test_a_url_of_its_own_must_be_one() -> None:
    with pytest.raises(ConfigError, match=r"edge\.postgres\.url"):
        async with open_postgres_bus(PostgresBusConfig(url="redis://x"), Database(url="postgresql://x/y")):
            pass
