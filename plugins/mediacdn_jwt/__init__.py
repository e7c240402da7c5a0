"""Authenticator driver `jwt`: bearer tokens (RFC 6750, RFC 7519) of the Authentication Service, verified with its JWKS or with static keys, or with the development key.

What needs PyJWT and cryptography is imported when the driver is opened: naming it must stay cheap.
"""

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from importlib import import_module
from typing import TYPE_CHECKING

from anyio import to_thread

from mediacdn import Driver, Kit, hookimpl
from mediacdn_jwt.config import JwtConfig

if TYPE_CHECKING:
    from mediacdn_jwt.driver import JwtAuthenticator


@asynccontextmanager
async def open_driver(config: JwtConfig, kit: Kit) -> "AsyncIterator[JwtAuthenticator]":
    """Open the driver; see `mediacdn_jwt.driver.open_authenticator`."""
    await to_thread.run_sync(import_module, "mediacdn_jwt.driver")
    from mediacdn_jwt.driver import open_authenticator

    async with open_authenticator(config, kit) as authenticator:
        yield authenticator


@hookimpl
def mediacdn_drivers() -> list[Driver]:
    return [Driver("authenticator", "jwt", JwtConfig, open_driver)]
