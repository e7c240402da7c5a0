"""Uploads of parts that nobody will complete are taken from every storage that has such, and no others."""

import shutil
from collections.abc import AsyncIterator, Collection
from datetime import UTC, datetime, timedelta
from pathlib import Path

import pytest

from mediacdn import NotFound, PartsBegun, StorageUnavailable
from mediacdn.catalog.database import Catalog, open_catalog
from mediacdn.config import Database
from mediacdn.edge.files import OpenFiles
from mediacdn.lifecycle import Lifecycle
from mediacdn.testing import MemoryParts, MemoryStorage

pytestmark = pytest.mark.anyio

DAY = timedelta(days=1)


class Now:
    """The time, moved by `ahead`."""

    ahead = timedelta()

    def now(self) -> datetime:
        return datetime.now(UTC) + self.ahead


class Away(MemoryParts):
    async def list_uploads(self, prefix: str = "") -> AsyncIterator[PartsBegun]:
        raise StorageUnavailable
        yield


@pytest.fixture
async def catalog(sqlite_template: Path, tmp_path: Path) -> AsyncIterator[Catalog]:
    shutil.copytree(sqlite_template, tmp_path / "data")
    async with open_catalog(Database(), tmp_path / "data", Now()) as catalog:
        yield catalog


async def test_abandoned_uploads_of_parts_are_reaped(catalog: Catalog) -> None:
    parts, clock = MemoryParts(), Now()

    async def told(changes: object) -> None:
        raise AssertionError("no record changes")

    lifecycle = Lifecycle(
        catalog=catalog,
        told=told,
        files=OpenFiles(4),
        storages={"away": Away(), "plain": MemoryStorage(), "cold": parts},
        clock=clock,
        emit=lambda event: None,
    )
    dead, session, put, elsewhere = [await parts.begin_parts(f"originals/{name}") for name in ("dead", "session", "put", "elsewhere")]
    await catalog.objects.intend("cold", "originals/put")
    await catalog.objects.intend("plain", "originals/elsewhere")

    async def held(storage: str) -> Collection[str]:
        assert storage == "cold"
        return {session}

    assert await lifecycle.reap_parts(DAY, held) == []  # none is old
    clock.ahead = 2 * DAY
    young = await parts.begin_parts("originals/young")
    parts._uploads[young].begun = clock.now()
    expected = [("cold", "originals/dead"), ("cold", "originals/elsewhere")]
    assert await lifecycle.reap_parts(DAY, held, dry_run=True) == expected
    assert {each.upload async for each in parts.list_uploads()} == {dead, session, put, elsewhere, young}
    assert await lifecycle.reap_parts(DAY, held) == expected
    assert {each.upload async for each in parts.list_uploads()} == {session, put, young}
    with pytest.raises(NotFound):
        await parts.list_parts("originals/dead", dead)
