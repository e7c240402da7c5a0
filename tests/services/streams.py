"""A stream, or another output of a media, that no ffmpeg has made: files that a test says, published as the packer publishes them."""

import asyncio
import hashlib
from collections.abc import AsyncIterator, Mapping
from datetime import UTC, datetime
from pathlib import Path

import structlog
from prometheus_client import CollectorRegistry

from mediacdn.catalog.database import open_catalog
from mediacdn.catalog.packages import Package
from mediacdn.config import Database
from mediacdn.drivers import SystemClock
from mediacdn.hookspecs import Kit
from mediacdn.model import Media, PackageFile
from mediacdn.plugins import Plugins
from mediacdn.ulids import Ulids


def publish(data: Path, source: str, files: Mapping[str, bytes], mount: str = "hls", media_type: str = "video/mp4") -> None:
    """Publish them below `/v1/media/{source}/{mount}/`, on the local storage and the embedded catalog of a data directory; without any, a derivative of one file."""

    folder = str(data.absolute())

    async def work() -> None:
        driver = Plugins.load(("local",)).driver("storage", "local")
        kit = Kit(folder, structlog.get_logger("test"), CollectorRegistry(), SystemClock())
        async with open_catalog(Database(timeout=30), data, SystemClock()) as catalog, driver.open(driver.config(), kit) as storage:
            run, now = Ulids()(), datetime.now(UTC)
            prefix, body = f"{mount}/{source}/{run}/", run.encode()
            entry = Media(
                id=run, owner="write", media_type="application/vnd.apple.mpegurl", size=len(body), digest=hashlib.sha256(body).hexdigest(),
                storage_key=f"derivatives/{run}.m3u8", source_id=source, relationship=mount, derivation_key=run, created_at=now, updated_at=now,
            )  # fmt: skip
            await catalog.objects.intend("default", entry.storage_key)
            await storage.put(entry.storage_key, _chunks(body))
            stored = []
            if files:
                await catalog.packages.intend("default", [prefix + path for path in files])
            for path, content in files.items():
                await storage.put(prefix + path, _chunks(content), size=len(content))
                digest = hashlib.sha256(content).hexdigest()
                stored.append(PackageFile(path=path, key=prefix + path, size=len(content), digest=digest, media_type=media_type))
            package = Package(prefix, stored, next(iter(files))) if files else None
            await catalog.objects.commit(entry, dedupe_key=f"derived:{run}", quota=0, etag="e", package=package)

    asyncio.run(work())


async def _chunks(content: bytes) -> AsyncIterator[bytes]:
    yield content
