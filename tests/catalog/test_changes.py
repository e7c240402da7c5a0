"""The sequence of changes: which statements append to it, that it has no gaps and is seen in order, how it is pruned, and what purges do."""

import asyncio
import os
import random
import shutil
from collections.abc import AsyncIterator, Callable
from datetime import timedelta
from pathlib import Path
from typing import Any

import pytest
from sqlalchemy import insert, text

from mediacdn.catalog import changes as changes_module
from mediacdn.catalog import tables
from mediacdn.catalog.changes import Position
from mediacdn.catalog.database import Catalog, open_catalog
from mediacdn.catalog.engine import create_engine
from mediacdn.catalog.rows import row_of
from mediacdn.config import Database
from mediacdn.errors import CatalogUnavailable, DuplicateExists, NotFound, PreconditionFailed
from mediacdn.model import Change, Media

pytestmark = pytest.mark.anyio

Make = Callable[..., Media]
NOBODY = "01ARZ3NDEKTSV4RRFFQ69G5FAV"


def ids(changes: list[Change]) -> list[str | None]:
    return [change.media_id for change in changes]


async def put_in(config: Database, data: Path, media: Media) -> None:
    """Write a row as the program of the first revision did."""
    values = row_of(media, None)
    del values["facts"], values["manifest"]
    engine = create_engine(config, data)
    async with engine.begin() as connection:
        await connection.execute(insert(tables.media).values(values))
    await engine.dispose()


async def test_empty(catalog: Catalog) -> None:
    changes = catalog.changes
    assert (await changes.latest(), await changes.oldest(), await changes.epoch()) == (0, None, 0)
    assert await changes.since(0, 10) == []
    assert await changes.prune() == 0


async def test_uploads_append_nothing(catalog: Catalog, media_like: Make, store: Any) -> None:
    await store(media_like(tags=("a",)), "k")
    await store(media_like(), "k")
    assert await catalog.changes.latest() == 0


async def test_every_change_of_a_card_is_appended(catalog: Catalog, media_like: Make, store: Any, clock: Any) -> None:
    one = await store(media_like(), "one")
    thumb = await store(media_like("t", source_id=one.id))
    twin = await store(media_like(), "twin")
    family, everyone = sorted([one.id, thumb.id]), sorted([one.id, thumb.id, twin.id])
    told: list[Change] = []
    for expected, act in [
        ([one.id], catalog.media.change(one.id, {"title": "t"}, dedupe_key=None, version=None)),
        (family, catalog.media.revoke(one.id, 5)),
        (family, catalog.media.quarantine(one.id, scope="media", reason=None)),
        ([one.id], catalog.media.quarantine(one.id, scope="media", reason=None)),
        (family, catalog.media.release(one.id)),
        ([one.id], catalog.media.release(one.id)),
        (everyone, catalog.media.quarantine(one.id, scope="digest", reason=None)),
        (everyone, catalog.media.release(twin.id)),
        ([one.id], catalog.media.delete(one.id)),
        ([one.id], catalog.media.delete(one.id)),
    ]:
        _, changes = await act
        assert ids(changes) == expected, "also where the work was found done: who did it may not have lived to tell"
        told += changes
    assert [change.seq for change in told] == list(range(1, len(told) + 1))
    assert await catalog.changes.since(0, 100) == told
    assert await catalog.changes.since(3, 2) == told[3:5]
    assert (await catalog.changes.latest(), await catalog.changes.oldest()) == (len(told), 1)


async def test_what_fails_appends_nothing(catalog: Catalog, media_like: Make, store: Any) -> None:
    one = await store(media_like(), "one")
    await store(media_like(), "other")
    for act, error in [
        (catalog.media.change(one.id, {}, dedupe_key="other", version=None), DuplicateExists),
        (catalog.media.change(one.id, {}, dedupe_key=None, version=7), PreconditionFailed),
        (catalog.media.change(NOBODY, {}, dedupe_key=None, version=None), NotFound),
        (catalog.media.quarantine(NOBODY, scope="digest", reason=None), NotFound),
    ]:
        with pytest.raises(error):
            await act
    assert await catalog.media.delete(NOBODY) == (None, [])
    assert await catalog.changes.latest() == 0
    await catalog.media.revoke(one.id, 1)
    assert ids(await catalog.changes.since(0, 9)) == [one.id], "and leaves no gap"


async def purged(catalog: Catalog, **what: list[str]) -> list[list[Change]]:
    return [batch async for batch in catalog.changes.purge(**what)]


async def test_purge(catalog: Catalog, media_like: Make, store: Any) -> None:
    red = [await store(media_like(f"red{number}", tags=("red", "all"))) for number in range(3)]
    blue = await store(media_like("blue", tags=("blue", "all")))
    thumb = await store(media_like("thumb", source_id=red[0].id))
    small = await store(media_like("small", source_id=thumb.id))
    other = await store(media_like("other"))
    [told] = await purged(catalog, ids=[red[0].id, NOBODY])
    assert ids(told) == [red[0].id, thumb.id, small.id]
    [told] = await purged(catalog, tags=["red"])
    assert ids(told) == sorted([*(each.id for each in red), thumb.id, small.id])
    assert ids([change for batch in await purged(catalog, ids=[other.id], tags=["blue", "nobody's"]) for change in batch]) == [
        other.id,
        blue.id,
    ]
    assert await purged(catalog, ids=[], tags=["nobody's"]) == await purged(catalog, ids=[NOBODY]) == []
    generations = {}
    for media in (*red, blue, thumb, small, other):
        now = await catalog.media.get(media.id)
        assert now is not None
        generations[media.digest.lstrip("0")] = now.generation
        assert (now.version, now.updated_at) == (media.version, media.updated_at), "the record itself did not change"
    assert list(generations.values()) == [3, 2, 2, 2, 3, 3, 2]
    assert await catalog.changes.epoch() == 0


async def test_purge_goes_by_batches(catalog: Catalog, media_like: Make, store: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(changes_module, "ROOTS", 2)
    monkeypatch.setattr(changes_module, "BATCH", 3)
    tagged = [await store(media_like(f"m{number}", tags=("t",))) for number in range(5)]
    thumbs = [await store(media_like(f"t{number}", source_id=media.id)) for number, media in enumerate(tagged)]
    told = await purged(catalog, tags=["t"])
    assert [len(batch) for batch in told] == [3, 1, 3, 1, 2]
    assert sorted(str(each) for batch in told for each in ids(batch)) == sorted(media.id for media in (*tagged, *thumbs))
    assert [len(batch) for batch in await purged(catalog, ids=[media.id for media in tagged])] == [3, 1, 3, 1, 2]


async def test_purge_all(catalog: Catalog, media_like: Make, store: Any) -> None:
    media = await store(media_like())
    assert await catalog.changes.purge_all() == [Change(1, None)]
    assert await catalog.changes.purge_all() == [Change(2, None)]
    assert await catalog.changes.position() == Position(2, 2)
    assert await catalog.media.get(media.id) == media, "no row is touched: it costs the same for any number"


async def test_prune(catalog: Catalog, media_like: Make, store: Any, clock: Any) -> None:
    media = await store(media_like())
    for _ in range(4):
        await catalog.media.revoke(media.id, 1)
    clock.pass_by(hours=20)
    for _ in range(6):
        await catalog.media.revoke(media.id, 1)
    assert await catalog.changes.prune() == 0
    assert await catalog.changes.prune(keep=8) == 2
    assert (await catalog.changes.oldest(), await catalog.changes.latest()) == (3, 10)
    assert (await catalog.changes.since(0, 100))[0].seq == 3, "the reader sees that two are missing"
    clock.pass_by(hours=5)
    assert await catalog.changes.prune() == 2, "older than a day"
    assert await catalog.changes.prune(keep_for=timedelta(hours=5)) == 0
    clock.pass_by(hours=1)
    assert await catalog.changes.prune(keep_for=timedelta(hours=5)) == 6
    assert (await catalog.changes.oldest(), await catalog.changes.latest(), await catalog.changes.since(4, 10)) == (None, 10, [])
    assert ids((await catalog.media.revoke(media.id, 1))[1]) == [media.id]
    assert [change.seq for change in await catalog.changes.since(10, 10)] == [11], "numbers are never used twice"


async def test_a_clock_set_back_leaves_no_gap(catalog: Catalog, media_like: Make, store: Any, clock: Any) -> None:
    media = await store(media_like())
    for hours in (30, -29, 0):
        clock.pass_by(hours=hours)
        await catalog.media.revoke(media.id, 1)
    clock.pass_by(hours=25)
    assert await catalog.changes.prune() == 3


@pytest.fixture
async def another(database_url: str, tmp_path: Path, catalog: Catalog, clock: Any) -> AsyncIterator[Catalog]:
    """The same catalog as another process would hold it."""
    async with open_catalog(Database(url=database_url, timeout=30), tmp_path / "data", clock) as second:
        yield second


async def test_a_polling_reader_never_sees_a_gap(catalog: Catalog, another: Catalog, media_like: Make, store: Any) -> None:
    """Concurrent writers, some of which fail at the last moment; whoever reads n has read all below n before."""
    medias = [await store(media_like(f"m{number}", tags=("t",)), f"k{number}") for number in range(12)]
    done = asyncio.Event()
    told: list[Change] = []

    async def write(of: Catalog, seed: int) -> None:
        dice = random.Random(seed)
        for _ in range(20):
            media = dice.choice(medias)
            choice = dice.randrange(5)
            if choice == 0:
                told.extend((await of.media.quarantine(media.id, scope="media", reason=None))[1])
            elif choice == 1:
                told.extend((await of.media.release(media.id))[1])
            elif choice == 2:
                async for batch in of.changes.purge(ids=[media.id, dice.choice(medias).id]):
                    told.extend(batch)
            elif choice == 3:
                try:
                    told.extend((await of.media.change(media.id, {"title": "t"}, dedupe_key="k0", version=None))[1])
                except (DuplicateExists, CatalogUnavailable):
                    continue
            else:
                told.extend((await of.media.revoke(media.id, dice.randrange(100)))[1])

    async def poll() -> list[int]:
        seen = 0
        while True:
            ended = done.is_set()
            latest = await another.changes.latest()
            found = await another.changes.since(seen, 10_000)
            assert [change.seq for change in found] == list(range(seen + 1, seen + 1 + len(found))), "a gap"
            assert seen + len(found) >= latest, "the counter promised more than could be read"
            seen += len(found)
            if ended:
                return [seen]

    poller = asyncio.create_task(poll())
    try:
        await asyncio.gather(*(write(of, seed) for seed in range(5) for of in (catalog, another)))
    finally:
        done.set()
    [seen] = await poller
    assert seen == await catalog.changes.latest()
    assert sorted(change.seq for change in told) == list(range(1, seen + 1)), "each change was given back to who made it, once"
    assert await catalog.changes.since(0, 10_000) == sorted(told, key=lambda change: change.seq)


async def test_a_writer_that_dies_in_the_last_moment_leaves_no_gap(catalog: Catalog, media_like: Make, store: Any) -> None:
    media = await store(media_like())

    async def dies(connection: Any) -> None:
        await changes_module.append(connection, [media.id], catalog.changes._clock.now())
        await connection.execute(text("SELECT nothing FROM nowhere"))

    with pytest.raises(Exception, match="nowhere"):
        await catalog._transactions.write(dies)
    assert [change.seq for change in (await catalog.media.revoke(media.id, 1))[1]] == [1]


async def test_a_database_of_the_first_revision_opens(
    request: pytest.FixtureRequest, tmp_path: Path, media_like: Make, clock: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    """With media in it, on both databases: they are there afterwards, and the sequence begins at nothing."""
    from mediacdn.catalog import migrate as migrate_module
    from mediacdn.hookspecs import Branch

    first = tmp_path / "first"
    first.mkdir()
    shutil.copy(Path(migrate_module.CORE.folder) / "r0001_media.py", first)
    later = sorted(each[1:5] for each in os.listdir(migrate_module.CORE.folder) if each.startswith("r"))[1:]
    server = request.getfixturevalue("postgres_server")
    name = await asyncio.to_thread(server.create_database)
    try:
        for config in (Database(timeout=30), Database(url=server.url(name), timeout=30)):
            with monkeypatch.context() as patch:
                patch.setattr(migrate_module, "CORE", Branch("core", str(first)))
                assert await migrate_module.migrate(config, tmp_path) == ["0001"]
                media = media_like(tags=("t",))
                await put_in(config, tmp_path, media)
            assert await migrate_module.migrate(config, tmp_path) == later
            async with open_catalog(config, tmp_path, clock) as catalog:
                assert await catalog.media.get(media.id) == media
                assert await catalog.changes.position() == Position(0, 0)
                assert [change.seq for change in (await catalog.media.revoke(media.id, 1))[1]] == [1]
    finally:
        await asyncio.to_thread(server.drop_database, name)
