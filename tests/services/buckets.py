"""The s3 driver opened for tests: one client for many storages, each beneath a prefix of its own, for opening a client takes the time of many requests."""

import itertools
from collections.abc import AsyncIterator, Mapping
from contextlib import asynccontextmanager, suppress
from typing import Any

from botocore.exceptions import ClientError
from msgspec.structs import force_setattr

from mediacdn.hookspecs import Kit
from mediacdn.testing import kit
from mediacdn_s3 import S3Config
from mediacdn_s3.client import open_clients
from mediacdn_s3.storage import S3Storage

BUCKET = "media"
MIB = 1 << 20
_numbers = itertools.count(1)


class Bucket:
    """A bucket that is there; `storage` gives a storage in a corner of it where nothing is yet."""

    def __init__(self, client: Any, signer: Any, table: Mapping[str, Any]) -> None:
        self.client = client
        self._signer = signer
        self._table = table

    def config(self, *, part_size: int = 5 * MIB, **how: Any) -> S3Config:
        """Parts may be shorter than S3 allows: rclone takes them."""
        config = S3Config(**{"bucket": BUCKET, "prefix": f"t{next(_numbers)}", "part_size": 5 * MIB, **self._table, **how})
        force_setattr(config, "part_size", part_size)
        return config

    def storage(self, *, page: int = 1000, kit: Kit | None = None, **how: Any) -> S3Storage:
        return S3Storage(self.client, self._signer, self.config(**how), kit or _kit, page=page)


@asynccontextmanager
async def open_bucket(table: Mapping[str, Any], **how: Any) -> AsyncIterator[Bucket]:
    """`table` is where the service is and who asks, `how` are further keys of the client."""
    async with open_clients(S3Config(**{"bucket": BUCKET, **table, **how})) as (client, signer):
        with suppress(ClientError):  # it is there
            await client.create_bucket(Bucket=BUCKET)
        yield Bucket(client, signer, {**table, **how})


_kit = kit("/nowhere")
