"""Packages: published whole or not at all, shared where the bytes are the same, replaced without taking anything from who reads, and gone with their media."""

from collections.abc import Callable
from datetime import timedelta
from typing import Any

import pytest

from mediacdn.catalog.database import Catalog
from mediacdn.catalog.derivatives import dedupe_key
from mediacdn.catalog.objects import Settled
from mediacdn.catalog.packages import Package
from mediacdn.errors import CatalogUnavailable
from mediacdn.model import Media, PackageFile

pytestmark = pytest.mark.anyio
Make = Callable[..., Media]


@pytest.fixture
async def source(media_like: Make, store: Any) -> Media:
    media: Media = await store(media_like("film"))
    return media


@pytest.fixture
def publish(catalog: Catalog, media_like: Make, source: Media) -> Any:
    """Store a package of `files` (path and content) as a run of the source's stream, as the packer does."""

    async def bring(files: dict[str, str], key: str = "k", mount: str = "hls", intended: int | None = None) -> Settled:
        entry = media_like("master of " + key, source_id=source.id, relationship=mount, derivation_key=key)
        prefix = f"{mount}/{source.id}/{entry.id}/"
        await catalog.objects.intend("default", entry.storage_key)
        await catalog.packages.intend("default", [prefix + path for path in list(files)[:intended]])
        stored = [
            PackageFile(
                path=path, key=prefix + path, size=len(content), digest=content.encode().hex().rjust(64, "1"), media_type="video/mp4"
            )
            for path, content in files.items()
        ]
        package = Package(prefix, stored, "master.m3u8")
        return await catalog.objects.commit(entry, dedupe_key=dedupe_key(key), quota=0, etag="e", package=package)

    return bring


FILES = {"segments/0.m4s": "zero", "segments/1.m4s": "one", "master.m3u8": "m"}


async def test_it_is_read_by_its_path(catalog: Catalog, publish: Any, source: Media) -> None:
    assert await catalog.packages.find(source.id, "hls", "master.m3u8") is None
    settled = await publish(FILES)
    assert [change.media_id for change in settled.changes] == [source.id]
    for path, content in FILES.items():
        found = await catalog.packages.find(source.id, "hls", path)
        assert found is not None
        assert (found.file.size, found.media_id, found.storage) == (len(content), settled.media.id, "default")
    for wrong in (("hls", "segments/2.m4s"), ("dash", "master.m3u8")):
        assert await catalog.packages.find(source.id, *wrong) is None
    now = await catalog.media.get(source.id)
    assert now is not None
    assert (now.manifest, now.generation, now.version) == ("hls/master.m3u8", source.generation, source.version + 1)
    assert [each.path for each in await catalog.packages.files(settled.media.id)] == sorted(FILES)


async def test_nothing_of_it_is_swept(catalog: Catalog, publish: Any, clock: Any) -> None:
    await publish(FILES)
    clock.pass_by(days=1)
    assert await catalog.objects.leftovers(clock.now()) == []


async def test_its_files_count_for_the_owner(catalog: Catalog, publish: Any, source: Media) -> None:
    """Each as often as it stands in a package, and no more once the package is deleted; a run in another's place counts until that one goes."""
    before = await catalog.media.usage(source.owner)
    first = await publish({**FILES, "segments/2.m4s": "one"})
    size = first.media.size + len("zeroonemone")
    assert await catalog.media.usage(source.owner) == (before[0] + size, before[1] + 1)
    second = await publish(FILES, key="other")
    await catalog.media.delete(first.media.id)
    assert await catalog.media.usage(source.owner) == (before[0] + second.media.size + len("zeroonem"), before[1] + 1)
    await catalog.media.delete(second.media.id)
    assert await catalog.media.usage(source.owner) == before


async def test_what_is_the_same_twice_is_stored_once(catalog: Catalog, publish: Any, source: Media, clock: Any) -> None:
    await publish({**FILES, "segments/2.m4s": "one"})
    one, two = [await catalog.packages.find(source.id, "hls", f"segments/{number}.m4s") for number in (1, 2)]
    assert one is not None
    assert two is not None
    assert one.file.key == two.file.key
    assert [key.rpartition("/")[2] for _, key in await catalog.objects.leftovers(clock.now())] == ["2.m4s"]


async def test_a_run_that_makes_the_same_shares_it(catalog: Catalog, publish: Any, source: Media, clock: Any) -> None:
    first = await publish(FILES)
    second = await publish({**FILES, "segments/1.m4s": "another"}, key="l")
    found = await catalog.packages.find(source.id, "hls", "segments/0.m4s")
    assert found is not None
    assert (found.media_id, first.media.id in found.file.key) == (second.media.id, True)
    gone = [key for _, key in await catalog.objects.leftovers(clock.now())]
    assert sorted(key.rpartition("/")[2] for key in gone) == ["0.m4s", "master.m3u8"]
    await catalog.media.delete(first.media.id)
    left = [key for _, key in await catalog.objects.leftovers(clock.now()) if key not in gone]
    assert [key.rpartition("/")[2] for key in left if key.startswith("hls/")] == ["1.m4s"], "the other two are still held"
    await catalog.media.delete(second.media.id)
    left = [key for _, key in await catalog.objects.leftovers(clock.now()) if key not in gone]
    assert len([key for key in left if key.startswith("hls/")]) == 4


async def test_who_plays_the_old_one_finds_its_segments(catalog: Catalog, publish: Any, source: Media, clock: Any) -> None:
    first = await publish({"segments/a.m4s": "a", "master.m3u8": "ma"})
    second = await publish({"segments/b.m4s": "b", "master.m3u8": "mb"}, key="l")
    names = {path: await catalog.packages.find(source.id, "hls", path) for path in ("segments/a.m4s", "segments/b.m4s", "master.m3u8")}
    assert [each and each.media_id for each in names.values()] == [first.media.id, second.media.id, second.media.id]
    assert await catalog.packages.replaced(clock.now()) == []
    clock.pass_by(hours=1)
    assert await catalog.packages.replaced(clock.now()) == [first.media.id]
    assert await catalog.packages.replaced(clock.now() - timedelta(hours=2)) == []
    await catalog.media.delete(first.media.id)
    assert await catalog.packages.replaced(clock.now()) == []
    assert await catalog.packages.find(source.id, "hls", "segments/a.m4s") is None
    media = await catalog.media.get(source.id)
    assert media is not None
    assert media.manifest == "hls/master.m3u8"


async def test_without_a_package_there_is_no_manifest(catalog: Catalog, publish: Any, source: Media) -> None:
    settled = await publish(FILES)
    await publish({"storyboard.vtt": "v", "master.m3u8": "m"}, key="s", mount="storyboard")
    await catalog.media.delete(settled.media.id)
    media = await catalog.media.get(source.id)
    assert media is not None
    assert media.manifest == "storyboard/master.m3u8", "it names what was published last"


async def test_withheld_it_is_not_found(catalog: Catalog, publish: Any, source: Media) -> None:
    settled = await publish(FILES)
    await catalog.media.quarantine(settled.media.id, scope="media", reason=None)
    assert await catalog.packages.find(source.id, "hls", "master.m3u8") is None
    await catalog.media.release(settled.media.id)
    assert await catalog.packages.find(source.id, "hls", "master.m3u8") is not None


async def test_an_older_one_does_not_stand_in_for_one_that_is_withheld(catalog: Catalog, publish: Any, source: Media) -> None:
    first = await publish({"segments/a.m4s": "a", "master.m3u8": "ma"})
    second = await publish({"segments/b.m4s": "b", "master.m3u8": "mb"}, key="l")

    async def read() -> list[str | None]:
        paths = ("master.m3u8", "segments/a.m4s", "segments/b.m4s")
        found = [await catalog.packages.find(source.id, "hls", path) for path in paths]
        output = await catalog.packages.output(source.id, "hls")
        return [*(each and each.media_id for each in found), output and output.id]

    both = [second.media.id, first.media.id, second.media.id, second.media.id]
    assert await read() == both
    await catalog.media.quarantine(second.media.id, scope="media", reason=None)
    assert await read() == [None] * 4
    await catalog.media.release(second.media.id)
    await catalog.media.quarantine(first.media.id, scope="media", reason=None)
    assert await read() == [second.media.id, None, second.media.id, second.media.id]
    await catalog.media.release(first.media.id)
    await catalog.media.delete(second.media.id)
    assert await read() == [first.media.id, first.media.id, None, first.media.id]


async def test_who_comes_second_leaves_nothing(catalog: Catalog, publish: Any, source: Media, clock: Any) -> None:
    first = await publish(FILES)
    second = await publish(FILES)
    assert (second.kind, second.media.id, second.changes) == ("duplicate", first.media.id, ())
    gone = [key for _, key in await catalog.objects.leftovers(clock.now())]
    assert len(gone) == 4
    assert not any(first.media.id in key for key in gone)
    found = await catalog.packages.find(source.id, "hls", "segments/0.m4s")
    assert found is not None
    assert first.media.id in found.file.key


async def test_what_was_swept_meanwhile_is_not_published(catalog: Catalog, publish: Any, source: Media) -> None:
    with pytest.raises(CatalogUnavailable):
        await publish(FILES, intended=2)
    assert await catalog.packages.find(source.id, "hls", "segments/0.m4s") is None


async def test_what_comes_to_nothing_is_swept(catalog: Catalog, clock: Any) -> None:
    await catalog.packages.intend("default", ["hls/a/1/x", "hls/a/1/y/z", "hls/a/10/x", "hls/a/2/x"])
    await catalog.packages.abandon("default", "hls/a/1/")
    assert sorted(key for _, key in await catalog.objects.leftovers(clock.now())) == ["hls/a/1/x", "hls/a/1/y/z"]
    clock.pass_by(hours=1)
    await catalog.packages.touch("default", "hls/a/2/")
    assert "hls/a/2/x" not in [key for _, key in await catalog.objects.leftovers(clock.now() - timedelta(minutes=1))]


async def test_many_files(catalog: Catalog, publish: Any, source: Media) -> None:
    """More than a statement has parameters for."""
    settled = await publish({f"segments/{number}.m4s": f"c{number}" for number in range(3000)} | {"master.m3u8": "m"})
    assert len(await catalog.packages.files(settled.media.id)) == 3001
    await catalog.media.delete(settled.media.id)
    assert await catalog.packages.find(source.id, "hls", "segments/7.m4s") is None


async def test_the_newest_output_of_a_relationship(catalog: Catalog, media_like: Make, store: Any, source: Media) -> None:
    assert await catalog.packages.output(source.id, "poster") is None
    first = await store(media_like("p1", source_id=source.id, relationship="poster"), "a")
    second = await store(media_like("p2", source_id=source.id, relationship="poster"), "b")
    found = await catalog.packages.output(source.id, "poster")
    assert found is not None
    assert found.id == second.id != first.id
