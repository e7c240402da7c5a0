"""Connections: what every one is told, and what their failures mean."""

import asyncio
from collections.abc import AsyncIterator, Awaitable
from contextlib import asynccontextmanager
from typing import Any, TypeVar

import anyio
from redis.asyncio import Redis
from redis.asyncio.retry import Retry
from redis.backoff import NoBackoff
from redis.exceptions import RedisError

from mediacdn import Unavailable
from mediacdn_redis.config import RedisConfig

T = TypeVar("T")


def settings(config: RedisConfig, *, waits: float = 0) -> dict[str, Any]:
    """What a connection of redis-py is opened with. `waits` are seconds for which it is normal that nothing is answered."""
    found: dict[str, Any] = {
        "socket_connect_timeout": config.connect_timeout,
        "socket_timeout": config.timeout + waits,
        # One more try at once, because a pooled connection may have died with a server that is back; the callers know when to ask later.
        "retry": Retry(NoBackoff(), 0 if waits else 1),
        "client_name": config.prefix,
        "protocol": 2,
    }
    if not config.url.startswith("unix:"):
        found["socket_keepalive"] = True
    if config.username:
        found["username"] = config.username
    if config.password:
        found["password"] = config.password
    if config.ca_file:
        found["ssl_ca_certs"] = config.ca_file
    return found


@asynccontextmanager
async def client(config: RedisConfig) -> AsyncIterator["Redis"]:
    """A client, closed in the end; nothing is connected yet."""
    redis: Redis = Redis.from_url(config.url, **settings(config))
    try:
        yield redis
    finally:
        await redis.aclose()


async def apart(work: Awaitable[T], seconds: float | None = None) -> T:
    """Do what waits for the server in a task of its own, for so long at most. Raises: TimeoutError, and what `work` raises.

    redis-py waits with asyncio.wait_for, which loses a cancellation that comes as it ends (until Python 3.12; CPython issue 86296): whoever was cancelled would
    go on for ever. A task of its own is cancelled until it has ended.
    """
    task = asyncio.ensure_future(work)
    try:
        await asyncio.wait({task}, timeout=seconds)
    finally:
        late = not task.done()
        with anyio.CancelScope(shield=True):
            while not task.done():
                task.cancel()
                await asyncio.wait({task}, timeout=0.1)
        if not task.cancelled():
            task.exception()  # heard of, whatever becomes of us
    if late or task.cancelled():
        raise TimeoutError
    return task.result()


def unavailable(error: BaseException) -> Unavailable:
    """The house's word for any failure of the server or on the way to it. Its own may hold an address, which is nobody's business."""
    failed = Unavailable("Redis does not answer")
    failed.__cause__ = error
    return failed


FAILURES = (RedisError, OSError, TimeoutError)
