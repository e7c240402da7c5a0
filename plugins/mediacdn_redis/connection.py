"""Connections: what every one is told, and what their failures mean."""

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import Any

from redis.asyncio import Redis
from redis.asyncio.retry import Retry
from redis.backoff import NoBackoff
from redis.exceptions import RedisError

from mediacdn import Unavailable
from mediacdn_redis.config import RedisConfig


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


def unavailable(error: BaseException) -> Unavailable:
    """The house's word for any failure of the server or on the way to it. Its own may hold an address, which is nobody's business."""
    failed = Unavailable("Redis does not answer")
    failed.__cause__ = error
    return failed


FAILURES = (RedisError, OSError, TimeoutError)
