"""Rates counted together: the generic cell rate algorithm in a script, on the server's own clock, one key a counter that goes when nothing is owed."""

from redis.asyncio import Redis

from mediacdn_redis.config import RedisConfig
from mediacdn_redis.connection import FAILURES, apart, unavailable

# KEYS: the counter. ARGV: cost, rate, burst. The value is the moment at which nothing is owed any more, in seconds; the answer what to wait, "0" when taken.
# A double of today's seconds is exact to a quarter of a microsecond; tostring would keep 14 digits only.
TAKE = """
local time = redis.call('TIME')
local now = time[1] + time[2] / 1000000
local cost, rate, burst = tonumber(ARGV[1]), tonumber(ARGV[2]), tonumber(ARGV[3])
local due = math.max(tonumber(redis.call('GET', KEYS[1]) or now), now)
local wait = due + math.min(cost, burst) / rate - (now + burst / rate)
if wait > 0.000001 then return string.format('%.6f', wait) end
due = due + cost / rate
redis.call('SET', KEYS[1], string.format('%.6f', due), 'PX', math.ceil((due - now) * 1000) + 1)
return '0'
"""


class RedisCounters:
    """A `Counters` for every process that reaches the server."""

    def __init__(self, config: RedisConfig, redis: Redis) -> None:
        self._redis = redis
        self._prefix = f"{config.prefix}:rate:"
        self._take = redis.register_script(TAKE)

    async def take(self, key: str, cost: float, rate: float, burst: float) -> float:
        try:
            return float(await apart(self._take(keys=[self._prefix + key], args=[cost, rate, burst])))
        except FAILURES as error:
            raise unavailable(error) from error

    async def check(self) -> None:
        """Whether the server answers. Raises: Unavailable."""
        try:
            await apart(self._redis.ping())
        except FAILURES as error:
            raise unavailable(error) from error
