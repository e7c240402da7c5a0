"""A plugin of a storage that presigns: a local one whose URLs are signed claims, readable by the test; installed beside a served test."""

from pathlib import Path

from tests.services import distribution

PLUGIN = """
import json
from base64 import urlsafe_b64encode
from contextlib import asynccontextmanager
from mediacdn import Driver, hookimpl
from mediacdn_local import LocalConfig, open_local


class Presigning:
    def __init__(self, inner):
        self._inner = inner
        for name in ("head", "open", "put", "delete", "list"):
            setattr(self, name, getattr(inner, name))

    async def presign_get(self, key, expires, *, media_type, disposition):
        told = {"key": key, "expires": expires.total_seconds(), "type": media_type, "disposition": disposition}
        return "https://bucket.example.net/" + key + "?c=" + urlsafe_b64encode(json.dumps(told).encode()).decode()

    async def presign_put(self, key, expires, *, size=None, media_type=None):
        raise NotImplementedError

    async def presign_part(self, key, upload, number, expires, *, size=None):
        raise NotImplementedError


@asynccontextmanager
async def presigning(config, kit):
    async with open_local(config, kit) as inner:
        yield Presigning(inner)


@hookimpl
def mediacdn_drivers():
    return [Driver("storage", "presigning", LocalConfig, presigning)]
"""


def install(folder: Path) -> dict[str, str]:
    """Put the plugin `bucket` into `folder`; the environment in which a server finds it."""
    return distribution.install(folder, "bucket", PLUGIN)
