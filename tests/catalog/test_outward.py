"""Jobs that call caches in front are planned in the transaction of what needs them, and only there."""

import shutil
from collections.abc import AsyncIterator, Callable
from datetime import timedelta
from pathlib import Path
from typing import Any

import pytest

from mediacdn.catalog.database import Catalog, open_catalog
from mediacdn.config import PURGES, Database, Purge
from mediacdn.errors import NotFound, PreconditionFailed
from mediacdn.model import Job, Media
from tests.catalog.conftest import SetClock

pytestmark = pytest.mark.anyio
FRONT = (Purge(url="https://a/{id}", name="one", again_after=0), Purge(url="https://b/{id}", name="two", again_after=7))


@pytest.fixture
async def catalog(database_url: str, sqlite_template: Path, tmp_path: Path, clock: SetClock) -> AsyncIterator[Catalog]:
    data = tmp_path / "data"
    shutil.copytree(sqlite_template, data)
    async with open_catalog(Database(url=database_url, timeout=30), data, clock, FRONT) as catalog:
        yield catalog


async def planned(catalog: Catalog) -> list[Job]:
    return (await catalog.jobs.page(limit=100, kind=PURGES))[0]


async def test_each_cache_is_told_and_one_of_them_twice(
    catalog: Catalog, clock: SetClock, media_like: Callable[..., Media], store: Callable[..., Any]
) -> None:
    media = media_like("a", public=True)
    await store(media)
    assert not await planned(catalog)
    await catalog.media.quarantine(media.id, scope="media", reason=None)
    jobs = await planned(catalog)
    assert sorted((job.code or "", job.run_at - clock.now()) for job in jobs) == [
        ("one", timedelta()),
        ("two", timedelta()),
        ("two", timedelta(seconds=7)),
    ]
    assert {(job.lane, job.media_id, job.arguments["ids"][0]) for job in jobs} == {(PURGES, media.id, media.id)}
    assert {job.max_attempts for job in jobs} == {10_000}
    assert sorted(await catalog.leases.due(PURGES, 10)) == sorted(job.id for job in jobs if job.run_at == clock.now())
    await catalog.changes.purge_all()
    assert len([job for job in await planned(catalog) if "ids" not in job.arguments]) == 3


async def test_what_fails_plans_nothing(catalog: Catalog, media_like: Callable[..., Media], store: Callable[..., Any]) -> None:
    media = media_like("a", public=True)
    await store(media)
    with pytest.raises(PreconditionFailed):
        await catalog.media.change(media.id, {"public": False}, dedupe_key=None, version=99)
    with pytest.raises(NotFound):
        await catalog.media.quarantine("0" * 26, scope="digest", reason=None)
    assert [told async for told in catalog.changes.purge(ids=["0" * 26])] == []
    assert not await planned(catalog)


async def test_a_derivative_made_anew_is_told_of_by_its_source(
    catalog: Catalog, media_like: Callable[..., Media], store: Callable[..., Any]
) -> None:
    """The path below the source means other bytes then; made for the first time it was nowhere yet, and of private media nobody has a copy."""
    for digest, public in (("a", True), ("b", False)):
        source = media_like(digest, public=public)
        await store(source)
        for again in ("c", "d"):
            assert not await planned(catalog)
            await store(
                media_like(again + digest, public=public, source_id=source.id, relationship="thumbnail", derivation_key=again + digest)
            )
        jobs = await planned(catalog)
        assert {job.media_id for job in jobs} == ({source.id} if public else set())
        assert len(jobs) == 3 * public
        for job in jobs:
            await catalog.jobs.cancel(job.id)
        while await catalog.jobs.prune(timedelta(-1), timedelta(-1)):
            pass
