"""Opens single drivers for verbs that need one and no server: to mint a token, to probe a storage."""

from contextlib import AbstractAsyncContextManager
from datetime import UTC, datetime
from pathlib import Path
from typing import Any, cast

import structlog
from prometheus_client import CollectorRegistry

from mediacdn.config import Config, decode_driver
from mediacdn.hookspecs import Kit
from mediacdn.plugins import Plugins


class MachineClock:
    """The clock of the machine."""

    def now(self) -> datetime:
        return datetime.now(UTC)


def open_storage(config: Config, plugins: Plugins, name: str) -> AbstractAsyncContextManager[Any]:
    """Open the storage of [storage.NAME], without the core's wrappers. Raises: ConfigError, PluginError; on entering what the driver raises."""
    table = config.storage[name]
    driver = plugins.driver("storage", table.get("driver", "local"), f"storage.{name}.driver")
    return driver.open(decode_driver(driver.config, table, f"storage.{name}"), _kit(config, f"storage.{name}"))


def open_authenticator(config: Config, plugins: Plugins, name: str) -> AbstractAsyncContextManager[Any]:
    """Open the authenticator of [auth.NAME]; the keys of [auth] stand in where its own table leaves them out, as in the server."""
    driver = plugins.driver("authenticator", name, "auth.authenticators")
    shared = {"scope_claim": config.auth.scope_claim, "scope_map": config.auth.scope_map, "default_scopes": config.auth.default_scopes}
    table = {key: value for key, value in shared.items() if key in driver.config.__struct_fields__} | config.auth.drivers.get(name, {})
    return driver.open(decode_driver(driver.config, table, f"auth.{name}"), _kit(config, name))


def open_inspector(config: Config, plugins: Plugins, name: str) -> AbstractAsyncContextManager[Any]:
    """Open the inspector of [inspection.NAME]. Raises: ConfigError, PluginError; on entering what the driver raises."""
    driver = plugins.driver("inspector", name, "inspection.inspectors")
    return driver.open(decode_driver(driver.config, config.inspection.drivers.get(name, {}), f"inspection.{name}"), _kit(config, name))


def open_part(config: Config, plugins: Plugins, seam: str, name: str) -> AbstractAsyncContextManager[Any]:
    """Open the cache_policy, bus, broker or counters driver that is configured. Raises: ConfigError, PluginError; on entering what the driver raises."""
    from mediacdn.drivers import open_lesser, open_policy

    kit = _kit(config, name)
    opened = open_policy(config, plugins, kit) if seam == "cache_policy" else open_lesser(config, plugins, seam, kit)
    return cast("AbstractAsyncContextManager[Any]", opened)


def _kit(config: Config, name: str) -> Kit:
    return Kit(str(Path(config.server.data).absolute()), structlog.get_logger(f"mediacdn.{name}"), CollectorRegistry(), MachineClock())
