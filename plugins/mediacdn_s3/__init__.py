"""Storage driver `s3`: objects in a bucket of Amazon S3 or of a service that speaks its protocol."""

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import TYPE_CHECKING

import aiobotocore  # noqa: F401 - cheap, and missing it is told at once; what is dear is imported when a storage opens

from mediacdn import Driver, Kit, hookimpl
from mediacdn_s3.config import S3Config

if TYPE_CHECKING:
    from mediacdn_s3.storage import S3Storage

__all__ = ["S3Config", "mediacdn_drivers", "open_s3"]


@asynccontextmanager
async def open_s3(config: S3Config, kit: Kit) -> AsyncIterator["S3Storage"]:
    """Open the storage of `config`; the service need not be up. Raises: ConfigError when there are no credentials."""
    from mediacdn_s3.client import open_clients
    from mediacdn_s3.storage import S3Storage

    async with open_clients(config) as (client, signer):
        yield S3Storage(client, signer, config, kit)


@hookimpl
def mediacdn_drivers() -> list[Driver]:
    return [Driver(seam="storage", name="s3", config=S3Config, open=open_s3)]
