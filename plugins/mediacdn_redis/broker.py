"""The doorbell: taskiq's stream broker, one stream a lane, whose messages are ids of jobs and nothing else. What the jobs are, the catalog's table says.

The stock broker has faults, which are harmless because the table is the truth: what a dead worker held is claimed only when another message arrives, and what
runs longer than the claim is rung for twice. Others are settings: consumer_id "0", so that nothing rung for before the first worker came is lost; one message a
read, so that no worker hoards; a lock that ends by itself; a bounded stream, because messages that were acknowledged stay in it.
"""

import asyncio
import os
import secrets
import socket
from collections.abc import AsyncGenerator, Awaitable, Callable
from contextlib import aclosing, suppress

from redis.asyncio import Redis
from taskiq import AckableMessage, BrokerMessage
from taskiq_redis import RedisStreamBroker

from mediacdn import Ring
from mediacdn_redis.config import BrokerConfig
from mediacdn_redis.connection import FAILURES, settings, unavailable

GROUP = "workers"
WITHIN = 1.0
BLOCK = 2.0
"""Seconds that one read waits on the server."""
GONE_FOR = 3600.0
"""Seconds after which a consumer that nobody was heard of is removed."""


class RedisBroker:
    """A `Broker`. Rings and reads have connections of their own, so that neither waits for the other."""

    def __init__(self, config: BrokerConfig, redis: Redis) -> None:
        self._config = config
        self._redis = redis
        self._ringing: dict[str, RedisStreamBroker] = {}

    async def ring(self, lane: str, job: str) -> None:
        broker = self._ringing.get(lane)
        if broker is None:
            broker = self._ringing[lane] = self._stream(lane)
        message = BrokerMessage(task_id=job, task_name="job", message=job.encode(), labels={})
        try:
            async with asyncio.timeout(WITHIN):
                await broker.kick(message)
        except FAILURES as error:
            raise unavailable(error) from error

    async def listen(self, lane: str) -> AsyncGenerator[Ring | None, None]:
        broker = self._stream(lane, waits=BLOCK)
        try:
            # Declares the group, also anew when the server has forgotten it.
            await broker.startup()
            await self._forget_the_gone(broker)
            yield None
            async with aclosing(broker.listen()) as messages:
                async for message in messages:
                    yield Ring(job=message.data.decode("ascii", "replace"), seen_to=_seen_to(message))
        except FAILURES as error:
            raise unavailable(error) from error
        finally:
            await self._leave(broker)

    async def check(self) -> None:
        """Whether the server answers. Raises: Unavailable."""
        try:
            await self._redis.ping()
        except FAILURES as error:
            raise unavailable(error) from error

    async def close(self) -> None:
        for each in self._ringing.values():
            await each.shutdown()

    def _stream(self, lane: str, *, waits: float = 0) -> RedisStreamBroker:
        broker = RedisStreamBroker(
            self._config.url,
            queue_name=f"{self._config.prefix}:jobs:{lane}",
            max_connection_pool_size=8,
            consumer_group_name=GROUP,
            consumer_name=f"{socket.gethostname()}:{os.getpid()}:{secrets.token_hex(4)}",
            consumer_id="0",
            xread_count=1,
            xread_block=int(BLOCK * 1000),
            maxlen=self._config.stream_length,
            approximate=True,
            unacknowledged_lock_timeout=5,
            **settings(self._config, waits=waits),
        )
        broker.is_worker_process = True
        return broker

    async def _forget_the_gone(self, broker: RedisStreamBroker) -> None:
        """Remove the consumers of killed workers, which would pile up; what they held, the table rings for."""
        for each in await self._redis.xinfo_consumers(broker.queue_name, GROUP):
            if each["idle"] > GONE_FOR * 1000:
                await self._redis.xgroup_delconsumer(broker.queue_name, GROUP, each["name"])

    async def _leave(self, broker: RedisStreamBroker) -> None:
        with suppress(*FAILURES):
            async with asyncio.timeout(WITHIN):
                await self._redis.xgroup_delconsumer(broker.queue_name, GROUP, broker.consumer_name)
        with suppress(*FAILURES):
            await broker.shutdown()


def _seen_to(message: AckableMessage) -> Callable[[], Awaitable[None]]:
    async def acknowledge() -> None:
        answer = message.ack()
        if answer is not None:
            await answer

    return acknowledge
