"""The redis drivers keep the seams' promises against a real Valkey that is killed, paused and locked; and what is theirs alone."""

import asyncio
import itertools
import secrets
import ssl
import time
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager, suppress
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import anyio
import pytest
from cryptography import x509
from cryptography.hazmat.primitives import hashes
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.hazmat.primitives.serialization import Encoding, NoEncryption, PrivateFormat
from redis.asyncio import Redis

from mediacdn import Unavailable
from mediacdn.config import decode_driver
from mediacdn.errors import ConfigError
from mediacdn.interfaces import Broker, Bus, Counters
from mediacdn.model import Change
from mediacdn.testing import BrokerConformance, BusConformance, CountersConformance, Outage, kit
from mediacdn_redis import BrokerConfig, RedisConfig, open_broker, open_bus, open_counters
from tests.services.valkey import ValkeyServer

pytestmark = pytest.mark.anyio
_numbers = itertools.count(1)


@pytest.fixture
def given(valkey_server: ValkeyServer) -> dict[str, Any]:
    return {"url": valkey_server.url, "prefix": f"test{next(_numbers)}"}


@pytest.fixture
def outage(valkey_server: ValkeyServer) -> Outage:
    return valkey_server.killed


class TestBroker(BrokerConformance):
    @pytest.fixture
    async def ends(self, given: dict[str, Any], tmp_path: Path) -> AsyncIterator[tuple[Broker, Broker]]:
        async with (
            open_broker(BrokerConfig(**given), kit(str(tmp_path))) as one,
            open_broker(BrokerConfig(**given), kit(str(tmp_path))) as other,
        ):
            yield one, other

    @pytest.fixture
    def outage(self, valkey_server: ValkeyServer) -> Outage:
        return valkey_server.killed


class TestBus(BusConformance):
    @pytest.fixture
    async def ends(self, given: dict[str, Any], tmp_path: Path) -> AsyncIterator[tuple[Bus, Bus]]:
        async with open_bus(RedisConfig(**given), kit(str(tmp_path))) as one, open_bus(RedisConfig(**given), kit(str(tmp_path))) as other:
            yield one, other

    @pytest.fixture
    def outage(self, valkey_server: ValkeyServer) -> Outage:
        return valkey_server.killed


class TestCounters(CountersConformance):
    @pytest.fixture
    async def ends(self, given: dict[str, Any], tmp_path: Path) -> AsyncIterator[tuple[Counters, Counters]]:
        async with (
            open_counters(RedisConfig(**given), kit(str(tmp_path))) as one,
            open_counters(RedisConfig(**given), kit(str(tmp_path))) as other,
        ):
            yield one, other

    @pytest.fixture
    def outage(self, valkey_server: ValkeyServer) -> Outage:
        return valkey_server.killed


@asynccontextmanager
async def looking(given: dict[str, Any]) -> AsyncIterator[Redis]:
    client: Redis = Redis.from_url(given["url"], protocol=2)
    try:
        yield client
    finally:
        await client.aclose()


async def rung(broker: Broker, lane: str, count: int, seconds: float = 5) -> list[str]:
    """Hear `count` rings of a lane, each seen to."""
    heard: list[str] = []
    listening = broker.listen(lane)
    async with asyncio.timeout(seconds):
        async for ring in listening:
            if ring is not None:
                heard.append(ring.job)
                await ring.seen_to()
            if len(heard) == count:
                break
    await listening.aclose()  # type: ignore[attr-defined]
    return heard


async def test_a_message_is_the_job_and_nothing_else(given: dict[str, Any], tmp_path: Path) -> None:
    async with open_broker(BrokerConfig(**given), kit(str(tmp_path))) as broker, looking(given) as redis:
        await broker.ring("images", "01ARZ3NDEKTSV4RRFFQ69G5FAV")
        [(_, fields)] = await redis.xrange(f"{given['prefix']}:jobs:images")
    assert fields == {b"data": b"01ARZ3NDEKTSV4RRFFQ69G5FAV"}


async def test_what_was_rung_for_before_anybody_listened_is_heard(given: dict[str, Any], tmp_path: Path) -> None:
    async with open_broker(BrokerConfig(**given), kit(str(tmp_path))) as broker:
        jobs = [f"job{number}" for number in range(5)]
        for job in jobs:
            await broker.ring("images", job)
        assert await rung(broker, "images", 5) == jobs


async def test_a_stream_is_bounded_and_nothing_stays_pending(given: dict[str, Any], tmp_path: Path) -> None:
    async with open_broker(BrokerConfig(**given, stream_length=100), kit(str(tmp_path))) as broker, looking(given) as redis:
        for _ in range(10):
            jobs = [f"job{next(_numbers)}" for _ in range(80)]
            for job in jobs:
                await broker.ring("images", job)
            assert await rung(broker, "images", 80) == jobs
        stream = f"{given['prefix']}:jobs:images"
        assert await redis.xlen(stream) <= 300
        [group] = await redis.xinfo_groups(stream)
        assert (group["consumers"], group["pending"]) == (0, 0), "who leaves is forgotten, with what it held"


async def test_a_worker_holds_one_ring_ahead_at_most(given: dict[str, Any], tmp_path: Path) -> None:
    async with open_broker(BrokerConfig(**given), kit(str(tmp_path))) as broker, looking(given) as redis:
        for number in range(20):
            await broker.ring("video", str(number))
        listening = broker.listen("video")
        assert await anext(listening) is None
        assert await anext(listening) is not None
        assert (await redis.xpending(f"{given['prefix']}:jobs:video", "workers"))["pending"] == 1
        await listening.aclose()  # type: ignore[attr-defined]


async def test_the_gone_are_forgotten(given: dict[str, Any], tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    import mediacdn_redis.broker

    monkeypatch.setattr(mediacdn_redis.broker, "GONE_FOR", 0.0)
    stream = f"{given['prefix']}:jobs:images"
    async with open_broker(BrokerConfig(**given), kit(str(tmp_path))) as broker, looking(given) as redis:
        await redis.xgroup_create(stream, "workers", id="0", mkstream=True)
        await redis.xgroup_createconsumer(stream, "workers", "killed")
        await asyncio.sleep(0.01)
        listening = broker.listen("images")
        await anext(listening)
        assert b"killed" not in [each["name"] for each in await redis.xinfo_consumers(stream, "workers")]
        await listening.aclose()  # type: ignore[attr-defined]


async def test_a_group_that_was_flushed_away_is_declared_anew(given: dict[str, Any], tmp_path: Path) -> None:
    async with open_broker(BrokerConfig(**given), kit(str(tmp_path))) as broker, looking(given) as redis:
        listening = broker.listen("images")
        await anext(listening)
        await redis.delete(f"{given['prefix']}:jobs:images")
        with pytest.raises(Unavailable):
            await asyncio.wait_for(anext(listening), 6)
        await broker.ring("images", "again")
        assert await rung(broker, "images", 1) == ["again"]


async def test_a_listener_that_is_left_at_any_moment_leaves_nothing(given: dict[str, Any], tmp_path: Path) -> None:
    """A cancel scope cancels every wait within it, those for tidying too."""
    before = asyncio.all_tasks()
    async with looking(given) as redis:
        for moment in range(100):  # every 0.1 ms of what connecting takes, and well after it
            async with open_bus(RedisConfig(**given), kit(str(tmp_path))) as bus:
                with anyio.move_on_after(0.0001 * moment):
                    async for _changes in bus.listen():
                        pass
                assert asyncio.all_tasks() == before
        names = [each["name"] for each in await redis.client_list()]
        assert given["prefix"] not in names


@pytest.mark.parametrize("how", ["killed", "paused"])
async def test_an_outage_of_any_kind_ends_every_wait(given: dict[str, Any], tmp_path: Path, valkey_server: ValkeyServer, how: str) -> None:
    at = kit(str(tmp_path))
    config, ringing = RedisConfig(**given, timeout=0.3), BrokerConfig(**given, timeout=0.3)
    async with open_broker(ringing, at) as broker, open_bus(config, at) as bus, open_counters(config, at) as counters:
        await counters.take("k", 1, 1, 1)
        await bus.publish([Change(1, "a")])
        await broker.ring("images", "a")
        async with getattr(valkey_server, how)():
            for act in (
                lambda: broker.ring("images", "b"), lambda: bus.publish([Change(2, "b")]), lambda: counters.take("k", 1, 1, 1),
                broker.check, bus.check, counters.check,
            ):  # fmt: skip
                began = time.monotonic()
                with pytest.raises(Unavailable) as caught:
                    await act()
                assert time.monotonic() - began < 1.5
                assert "127.0.0.1" not in caught.value.detail
        for check in (broker.check, bus.check, counters.check):
            await check()


async def test_a_listener_notices_silence(given: dict[str, Any], tmp_path: Path, valkey_server: ValkeyServer) -> None:
    async with open_broker(BrokerConfig(**given, timeout=0.3), kit(str(tmp_path))) as broker:
        listening = broker.listen("images")
        await anext(listening)
        async with valkey_server.paused():
            with pytest.raises(Unavailable):
                await asyncio.wait_for(anext(listening), 6)


async def test_a_bus_passes_over_what_strangers_say(given: dict[str, Any], tmp_path: Path) -> None:
    async with open_bus(RedisConfig(**given), kit(str(tmp_path))) as bus, looking(given) as redis:
        listening = bus.listen()
        assert await anext(listening) == ()
        for word in (b"\xff", b"{}", b"[[1]]", b'[["1","a"]]', b"[]", b'[[7,"a"]]'):
            await redis.publish(f"{given['prefix']}:changes", word)
        assert await asyncio.wait_for(anext(listening), 5) == [Change(7, "a")]
        await listening.aclose()  # type: ignore[attr-defined]


async def test_counters_leave_nothing_behind(given: dict[str, Any], tmp_path: Path) -> None:
    async with open_counters(RedisConfig(**given), kit(str(tmp_path))) as counters, looking(given) as redis:
        await counters.take("short", 1, 20, 5)
        assert 0 < await redis.pttl(f"{given['prefix']}:rate:short") <= 52
        await asyncio.sleep(0.1)
        assert await redis.exists(f"{given['prefix']}:rate:short") == 0


async def test_a_password_of_its_own(tmp_path: Path) -> None:
    word = secrets.token_urlsafe()
    server = ValkeyServer(password=word)
    try:
        server.start()
        for password, right in ((word, True), ("wrong", False), ("", False)):
            async with open_counters(RedisConfig(url=server.url, password=password), kit(str(tmp_path))) as counters:
                if right:
                    assert await counters.take("k", 1, 1, 1) == 0
                else:
                    with pytest.raises(Unavailable):
                        await counters.take("k", 1, 1, 1)
    finally:
        server.destroy()


@pytest.mark.parametrize("trusted", [True, False])
async def test_over_tls_the_servers_certificate_is_verified(tmp_path: Path, valkey_server: ValkeyServer, trusted: bool) -> None:
    own, other = (certificate(tmp_path / name) for name in ("own", "other"))
    context = ssl.create_default_context(ssl.Purpose.CLIENT_AUTH)
    context.load_cert_chain(own, own.with_suffix(".key"))

    async def forward(source: asyncio.StreamReader, sink: asyncio.StreamWriter) -> None:
        with suppress(OSError, asyncio.CancelledError):
            while part := await source.read(65536):
                sink.write(part)
        sink.close()

    async def serve(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        there, to = await asyncio.open_connection("127.0.0.1", valkey_server.port)
        await asyncio.gather(forward(reader, to), forward(there, writer))

    server = await asyncio.start_server(serve, "127.0.0.1", 0, ssl=context)
    port = server.sockets[0].getsockname()[1]
    config = RedisConfig(url=f"rediss://localhost:{port}", ca_file=str(own if trusted else other), prefix=f"tls{next(_numbers)}")
    async with server, open_counters(config, kit(str(tmp_path))) as counters:
        if trusted:
            assert await counters.take("k", 1, 1, 1) == 0
        else:
            with pytest.raises(Unavailable):
                await counters.take("k", 1, 1, 1)


def certificate(file: Path) -> Path:
    """A certificate of its own authority for localhost, in `file`, its key beside it."""
    key, name = ec.generate_private_key(ec.SECP256R1()), x509.Name([x509.NameAttribute(x509.NameOID.COMMON_NAME, "localhost")])
    now = datetime.now(UTC)
    made = (
        x509.CertificateBuilder()
        .subject_name(name)
        .issuer_name(name)
        .public_key(key.public_key())
        .serial_number(x509.random_serial_number())
    )
    made = made.not_valid_before(now - timedelta(days=1)).not_valid_after(now + timedelta(days=1))
    made = made.add_extension(x509.SubjectAlternativeName([x509.DNSName("localhost")]), critical=False)
    made = made.add_extension(x509.BasicConstraints(ca=True, path_length=None), critical=True)
    file.write_bytes(made.sign(key, hashes.SHA256()).public_bytes(Encoding.PEM))
    file.with_suffix(".key").write_bytes(key.private_bytes(Encoding.PEM, PrivateFormat.PKCS8, NoEncryption()))
    return file


@pytest.mark.parametrize(
    ("table", "says"),
    [
        ({"url": "http://x"}, "redis://"),
        ({"url": "redis://"}, "host"),
        ({"ca_file": "x.pem"}, "rediss://"),
        ({"url": "rediss://x", "ca_file": "/nowhere/x.pem"}, "cannot be read"),
        ({"prefix": "a b"}, "prefix"),
        ({"timeout": 0}, "timeout"),
        ({"pasword": "x"}, "did you mean"),
    ],
)
def test_what_cannot_be_is_refused(table: dict[str, Any], says: str) -> None:
    with pytest.raises(ConfigError, match=says):
        decode_driver(RedisConfig, table, "redis")
