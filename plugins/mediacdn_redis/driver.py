"""Opening the drivers. What they need is imported here, when one is wanted; the server may be away."""

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import TYPE_CHECKING

from mediacdn import Kit
from mediacdn_redis.config import BrokerConfig, RedisConfig

if TYPE_CHECKING:
    from mediacdn_redis.broker import RedisBroker
    from mediacdn_redis.bus import RedisBus
    from mediacdn_redis.counters import RedisCounters


@asynccontextmanager
async def open_broker(config: BrokerConfig, kit: Kit) -> AsyncIterator["RedisBroker"]:
    from mediacdn_redis.broker import RedisBroker
    from mediacdn_redis.connection import client

    async with client(config) as redis:
        broker = RedisBroker(config, redis)
        try:
            yield broker
        finally:
            await broker.close()


@asynccontextmanager
async def open_bus(config: RedisConfig, kit: Kit) -> AsyncIterator["RedisBus"]:
    from mediacdn_redis.bus import RedisBus
    from mediacdn_redis.connection import client

    async with client(config) as redis:
        yield RedisBus(config, redis, kit.logger)


@asynccontextmanager
async def open_counters(config: RedisConfig, kit: Kit) -> AsyncIterator["RedisCounters"]:
    from mediacdn_redis.connection import client
    from mediacdn_redis.counters import RedisCounters

    async with client(config) as redis:
        yield RedisCounters(config, redis)
