"""Changes told by publish and subscribe. Who does not listen at that moment does not hear; on coming back a listener says so, and the core looks at the sequence."""

import asyncio
from collections.abc import AsyncGenerator, AsyncIterator, Sequence
from contextlib import aclosing
from random import Random
from typing import Any

import anyio
import msgspec
from redis.asyncio import Redis

from mediacdn import Change
from mediacdn_redis.config import RedisConfig
from mediacdn_redis.connection import FAILURES, apart, unavailable

QUIET = 5.0
"""Seconds without a word after which the server is asked whether it is still there."""
WITHIN = 1.0
AGAIN_FIRST, AGAIN_MOST = 0.1, 3.0


class RedisBus:
    """A `Bus` on one channel."""

    def __init__(self, config: RedisConfig, redis: Redis, log: Any) -> None:
        self._redis = redis
        self._channel = f"{config.prefix}:changes"
        self._log = log
        self._random = Random()  # noqa: S311 - it spreads load, it keeps no secret

    async def publish(self, changes: Sequence[Change]) -> None:
        if not changes:
            return
        message = msgspec.json.encode([(each.seq, each.media_id) for each in changes])
        try:
            await apart(self._redis.publish(self._channel, message), WITHIN)
        except FAILURES as error:
            raise unavailable(error) from error

    async def listen(self) -> AsyncIterator[Sequence[Change]]:
        failures = 0
        while True:
            try:
                async with aclosing(self._subscribed()) as told:
                    async for changes in told:
                        if failures:
                            self._log.info("the bus is heard again")
                        failures = 0
                        yield changes
            except FAILURES as error:
                failures += 1
                if failures == 1:
                    self._log.warning("the bus cannot be heard", error=type(error).__name__)
            # Scattered, so that not all nodes come back in the same moment.
            await asyncio.sleep(self._random.uniform(0.5, 1) * min(AGAIN_MOST, AGAIN_FIRST * 2**failures))

    async def check(self) -> None:
        """Whether the server answers. Raises: Unavailable."""
        try:
            await apart(self._redis.ping(), WITHIN)
        except FAILURES as error:
            raise unavailable(error) from error

    async def _subscribed(self) -> AsyncGenerator[Sequence[Change], None]:
        """What is heard over one connection: first that it is there. Raises: FAILURES when it is not any more."""
        channel = self._redis.pubsub()
        try:
            await apart(channel.subscribe(self._channel))
            asked = False
            while True:
                message = await apart(channel.get_message(timeout=QUIET))
                if message is None:
                    if asked:
                        raise TimeoutError
                    await apart(channel.ping())
                    asked = True
                    continue
                asked = False
                if message["type"] == "subscribe":
                    yield ()
                elif message["type"] == "message" and (changes := _changes(message["data"])):
                    yield changes
        finally:
            with anyio.move_on_after(WITHIN, shield=True):
                await channel.aclose()  # type: ignore[no-untyped-call]


def _changes(text: bytes) -> list[Change]:
    try:
        return [Change(*each) for each in msgspec.json.decode(text, type=list[tuple[int, str | None]])]
    except msgspec.MsgspecError:  # whoever else speaks there
        return []
