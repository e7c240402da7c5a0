"""The doorbell: taskiq's stream broker, one stream a lane, whose messages are ids of jobs and nothing else. What the jobs are, the catalog's table says.

The stock broker claims what dead workers held, but only when another message arrives; rings twice for what runs longer than the claim; and asks the server three
things more for each message. None of it is needed: the table rings for what a dead worker held, so nothing is claimed here. The rest are settings: consumer_id "0", so
that nothing rung for before the first worker came is lost; one message a read, so that no worker hoards; a bounded stream, because what was acknowledged stays in it.
"""

import os
import secrets
import socket
from collections.abc import AsyncGenerator, Awaitable, Callable
from contextlib import aclosing, suppress
from typing import Any

import anyio
from redis.asyncio import Redis
from taskiq import AckableMessage, BrokerMessage
from taskiq_redis import RedisStreamBroker

from mediacdn import Ring
from mediacdn_redis.config import BrokerConfig
from mediacdn_redis.connection import FAILURES, apart, settings, unavailable

GROUP = "workers"
WITHIN = 1.0
BLOCK = 2.0
"""Seconds that one read waits on the server."""
GONE_FOR = 3600.0
"""Seconds after which a consumer that nobody was heard of is removed."""


class _Stream(RedisStreamBroker):
    """The stream of a lane; reads and claims nothing."""

    async def listen(self) -> AsyncGenerator[AckableMessage, None]:
        async with Redis(connection_pool=self.connection_pool) as redis:
            while True:
                found: Any = await redis.xreadgroup(GROUP, self.consumer_name, {self.queue_name: ">"}, block=self.block, count=self.count)
                for _, messages in found or ():
                    for name, fields in messages:
                        yield AckableMessage(data=fields[b"data"], ack=self._ack_generator(id=name, queue_name=self.queue_name))


class RedisBroker:
    """A `Broker`. Rings and reads have connections of their own, so that neither waits for the other."""

    def __init__(self, config: BrokerConfig, redis: Redis) -> None:
        self._config = config
        self._redis = redis
        self._ringing: dict[str, _Stream] = {}

    async def ring(self, lane: str, job: str) -> None:
        broker = self._ringing.get(lane)
        if broker is None:
            broker = self._ringing[lane] = self._stream(lane)
        message = BrokerMessage(task_id=job, task_name="job", message=job.encode(), labels={})
        try:
            await apart(broker.kick(message), WITHIN)
        except FAILURES as error:
            raise unavailable(error) from error

    async def listen(self, lane: str) -> AsyncGenerator[Ring | None, None]:
        broker = self._stream(lane, waits=BLOCK)
        try:
            await apart(self._begin(broker))
            yield None
            async with aclosing(broker.listen()) as messages:
                while True:
                    message = await apart(_next(messages))
                    yield Ring(job=message.data.decode("ascii", "replace"), seen_to=_seen_to(message))
        except FAILURES as error:
            raise unavailable(error) from error
        finally:
            with anyio.CancelScope(shield=True):
                await self._leave(broker)

    async def check(self) -> None:
        """Whether the server answers. Raises: Unavailable."""
        try:
            await apart(self._redis.ping(), WITHIN)
        except FAILURES as error:
            raise unavailable(error) from error

    async def close(self) -> None:
        for each in self._ringing.values():
            await each.shutdown()

    def _stream(self, lane: str, *, waits: float = 0) -> _Stream:
        broker = _Stream(
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
            **settings(self._config, waits=waits),
        )
        broker.is_worker_process = True
        return broker

    async def _begin(self, broker: _Stream) -> None:
        """Declare the group, also anew when the server has forgotten it; remove the consumers of killed workers: they would pile up, and what they held the table rings for."""
        await broker.startup()
        for each in await self._redis.xinfo_consumers(broker.queue_name, GROUP):
            if each["idle"] > GONE_FOR * 1000:
                await self._redis.xgroup_delconsumer(broker.queue_name, GROUP, each["name"])

    async def _leave(self, broker: _Stream) -> None:
        with suppress(*FAILURES):
            await apart(self._redis.xgroup_delconsumer(broker.queue_name, GROUP, broker.consumer_name), WITHIN)
        with suppress(*FAILURES):
            await apart(broker.shutdown(), WITHIN)


async def _next(messages: AsyncGenerator[AckableMessage, None]) -> AckableMessage:
    return await anext(messages)


def _seen_to(message: AckableMessage) -> Callable[[], Awaitable[None]]:
    async def acknowledge() -> None:
        answer = message.ack()
        if answer is not None:
            await answer

    return acknowledge
