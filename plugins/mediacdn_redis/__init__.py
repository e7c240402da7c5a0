"""Redis or Valkey for what several nodes share beside the database: a doorbell for jobs, a bus for changes, counters for rates. Everything works without, slower."""

from mediacdn import Driver, hookimpl
from mediacdn_redis.config import BrokerConfig, RedisConfig
from mediacdn_redis.driver import open_broker, open_bus, open_counters

__all__ = ["BrokerConfig", "RedisConfig", "mediacdn_drivers", "open_broker", "open_bus", "open_counters"]


@hookimpl
def mediacdn_drivers() -> list[Driver]:
    """The broker, bus and counters named `redis`."""
    return [
        Driver("broker", "redis", BrokerConfig, open_broker),
        Driver("bus", "redis", RedisConfig, open_bus),
        Driver("counters", "redis", RedisConfig, open_counters),
    ]
