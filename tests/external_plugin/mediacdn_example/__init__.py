"""An example plugin: a storage driver, an authenticator and a route, written against the public names of mediacdn alone."""

from typing import Any

from mediacdn import Core, Driver, hookimpl
from mediacdn_example.api_keys import ApiKeys, ApiKeysConfig, Key, open_api_keys
from mediacdn_example.hello import hello_route
from mediacdn_example.storage import SqliteConfig, SqliteStorage, open_sqlite

__all__ = ["ApiKeys", "ApiKeysConfig", "Key", "SqliteConfig", "SqliteStorage", "open_api_keys", "open_sqlite"]


@hookimpl
def mediacdn_drivers() -> list[Driver]:
    return [
        Driver(seam="storage", name="sqlite", config=SqliteConfig, open=open_sqlite),
        Driver(seam="authenticator", name="api-keys", config=ApiKeysConfig, open=open_api_keys),
    ]


@hookimpl
def mediacdn_routes(core: Core) -> list[Any]:
    return [hello_route(core)]
