"""A catalog on each database, a clock that tests set, and media to put in."""

import itertools
import shutil
from collections.abc import AsyncIterator, Callable
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import pytest
from ulid import ULID

from mediacdn.catalog.database import Catalog, open_catalog
from mediacdn.config import Database
from mediacdn.model import Media


class SetClock:
    """Stands still until told."""

    def __init__(self) -> None:
        self.moment = datetime(2030, 1, 1, tzinfo=UTC)

    def now(self) -> datetime:
        return self.moment

    def pass_by(self, **span: float) -> None:
        self.moment += timedelta(**span)


@pytest.fixture
def clock() -> SetClock:
    return SetClock()


@pytest.fixture
async def catalog(database_url: str, sqlite_template: Path, tmp_path: Path, clock: SetClock) -> AsyncIterator[Catalog]:
    """A migrated, empty catalog; patient, because the machine that runs the tests may be busy."""
    data = tmp_path / "data"
    shutil.copytree(sqlite_template, data)
    async with open_catalog(Database(url=database_url, timeout=30), data, clock) as catalog:
        yield catalog


@pytest.fixture
def media_like(clock: SetClock) -> Callable[..., Media]:
    """Make a media with a new, higher id and a key of its own; `content` stands for the bytes."""
    numbers = itertools.count(1)

    def make(content: str = "a", **fields: Any) -> Media:
        number = next(numbers)
        ulid = str(ULID.from_timestamp(1_900_000_000 + number))
        digest = content.encode().hex().rjust(64, "0")
        now = clock.now()
        given = {
            "owner": "ada",
            "size": 100,
            "digest": digest,
            "storage_key": f"originals/{ulid}.bin",
            "created_at": now,
            "updated_at": now,
        }
        return Media(**{"id": ulid, **given, **fields})

    return make


@pytest.fixture
def store(catalog: Catalog) -> Callable[..., Any]:
    """Bring a media in as an upload does: intent, bytes, commit."""

    async def bring(media: Media, dedupe_key: str | None = None, quota: int = 0) -> Media:
        await catalog.objects.intend(media.storage, media.storage_key)
        return (await catalog.objects.commit(media, dedupe_key=dedupe_key, quota=quota, etag="e")).media

    return bring
