"""How an upload becomes a media: duplicates, shared bytes, quota, refusals, races, and what is left over. Clauses: api.md "Duplicate =", dangers 1.4."""

import asyncio
from collections.abc import Callable
from datetime import timedelta
from typing import Any

import pytest

from mediacdn.catalog.database import Catalog
from mediacdn.errors import CatalogUnavailable, ContentRefused, QuotaExceeded
from mediacdn.model import Media, State, Status

pytestmark = pytest.mark.anyio

Make = Callable[..., Media]
LONG_AGO, FAR_AHEAD = timedelta(days=-1), timedelta(days=1)


async def test_new(catalog: Catalog, media_like: Make) -> None:
    media = media_like(tags=("b", "a"), metadata={"k": [1, None]}, title="Ünï", duration=1.5, public=True)
    await catalog.objects.intend(media.storage, media.storage_key)
    asked = await catalog.objects.settle(media, dedupe_key="k", quota=0)
    assert (asked.kind, asked.media) == ("new", media)
    assert await catalog.media.get(media.id) is None, "settle writes nothing for new content"
    done = await catalog.objects.commit(media, dedupe_key="k", quota=0, etag="v1")
    assert done.kind == "new"
    assert done.media.storage_etag == "v1"
    assert await catalog.media.get(media.id) == done.media
    assert await catalog.media.card(media.id) == done.media.card
    assert await catalog.media.usage("ada") == (100, 1)


@pytest.mark.parametrize("when", ["settle", "commit"])
async def test_duplicate(catalog: Catalog, media_like: Make, store: Any, when: str) -> None:
    first, second = await store(media_like(), "k"), media_like()
    await catalog.objects.intend(second.storage, second.storage_key)
    settled = await upload_end(catalog, when, second, "k")
    assert (settled.kind, settled.media) == ("duplicate", first)
    assert await catalog.media.usage("ada") == (100, 1)
    await bytes_to_delete(catalog, second, expected=when == "commit")


@pytest.mark.parametrize("when", ["settle", "commit"])
async def test_a_duplicate_by_its_key_alone(catalog: Catalog, media_like: Make, store: Any, when: str) -> None:
    """What a recipe makes twice need not be the same bytes."""
    first, second = await store(media_like(digest="a" * 64), "k"), media_like(digest="b" * 64)
    await catalog.objects.intend(second.storage, second.storage_key)
    settled = await upload_end(catalog, when, second, "k")
    assert (settled.kind, settled.media) == ("duplicate", first)


@pytest.mark.parametrize("when", ["settle", "commit"])
async def test_shared(catalog: Catalog, media_like: Make, store: Any, when: str) -> None:
    private, public = await store(media_like(), "private"), media_like(public=True)
    await catalog.objects.intend(public.storage, public.storage_key)
    settled = await upload_end(catalog, when, public, "public")
    assert settled.kind == "shared"
    assert settled.media.id != private.id
    assert (settled.media.storage_key, settled.media.storage_etag) == (private.storage_key, "e")
    assert await catalog.media.get(public.id) == settled.media
    assert await catalog.media.usage("ada") == (200, 2)
    await bytes_to_delete(catalog, public, expected=when == "commit")


async def test_other_storage_shares_nothing(catalog: Catalog, media_like: Make, store: Any) -> None:
    await store(media_like(), "here")
    there = media_like(storage="cold")
    await catalog.objects.intend("cold", there.storage_key)
    assert (await catalog.objects.settle(there, dedupe_key="there", quota=0)).kind == "new"


async def upload_end(catalog: Catalog, when: str, media: Media, key: str) -> Any:
    if when == "settle":
        return await catalog.objects.settle(media, dedupe_key=key, quota=0)
    return await catalog.objects.commit(media, dedupe_key=key, quota=0, etag="late")


async def bytes_to_delete(catalog: Catalog, media: Media, *, expected: bool) -> None:
    named = await catalog.objects.leftovers(media.created_at + (LONG_AGO if expected else FAR_AHEAD))
    assert named == ([(media.storage, media.storage_key)] if expected else [])


@pytest.mark.parametrize(
    ("changes", "clause"),
    [
        ({"expires_at": "past"}, "expired never match"),
        ({"status": Status.FAILED}, "failed never match"),
        ({"status": Status.REGISTERED}, "registered never match"),
        ({"status": Status.CANCELLED}, "cancelled never match"),
    ],
)
async def test_what_is_never_a_duplicate(catalog: Catalog, media_like: Make, store: Any, clock: Any, changes: Any, clause: str) -> None:
    if "expires_at" in changes:
        changes = {"expires_at": clock.now() + timedelta(seconds=1)}
    first = await store(media_like(**changes), "k")
    clock.pass_by(seconds=2)
    second = media_like()
    await catalog.objects.intend(second.storage, second.storage_key)
    assert (await catalog.objects.settle(second, dedupe_key="k", quota=0)).kind == "shared", clause
    assert (await catalog.media.get(first.id)) is not None


async def test_deleted_is_never_a_duplicate_and_lends_no_bytes(catalog: Catalog, media_like: Make, store: Any) -> None:
    first = await store(media_like(), "k")
    await catalog.media.delete(first.id)
    second = media_like()
    await catalog.objects.intend(second.storage, second.storage_key)
    assert (await catalog.objects.settle(second, dedupe_key="k", quota=0)).kind == "new"
    assert (await catalog.objects.commit(second, dedupe_key="k", quota=0, etag="e")).kind == "new"


async def test_a_withheld_media_is_nobodys_duplicate(catalog: Catalog, media_like: Make, store: Any) -> None:
    """Its record is not for another uploader to see; the bytes are shared all the same."""
    first = await store(media_like(), "k")
    await catalog.media.quarantine(first.id, scope="media", reason=None)
    again = await catalog.objects.settle(media_like(), dedupe_key="k", quota=0)
    assert (again.kind, again.media.state) == ("shared", State.LIVE)
    assert again.media.id != first.id


async def test_one_dies_the_other_reads_on(catalog: Catalog, media_like: Make, store: Any, clock: Any) -> None:
    one, two = await store(media_like(), "one"), await store(media_like(public=True), "two")
    leftover = (two.storage, media_like().storage_key)
    assert two.storage_key == one.storage_key
    await catalog.media.delete(one.id)
    unused = [pair for pair in await catalog.objects.leftovers(clock.now() + LONG_AGO) if pair[1] == one.storage_key]
    assert unused == [], "the second media still needs the bytes"
    assert (await catalog.media.get(two.id)).state is State.LIVE  # type: ignore[union-attr]
    await catalog.media.delete(two.id)
    assert (one.storage, one.storage_key) in await catalog.objects.leftovers(clock.now() + LONG_AGO)
    assert leftover not in await catalog.objects.leftovers(clock.now() + LONG_AGO)


@pytest.mark.parametrize("when", ["settle", "commit"])
async def test_refused(catalog: Catalog, media_like: Make, when: str) -> None:
    media = media_like()
    await catalog.refusals.add(media.digest, "no")
    await catalog.objects.intend(media.storage, media.storage_key)
    with pytest.raises(ContentRefused):
        await upload_end(catalog, when, media, "k")
    assert await catalog.media.get(media.id) is None
    assert await catalog.objects.abandon(media.storage, media.storage_key)


@pytest.mark.parametrize(("quota", "fits"), [(0, True), (200, True), (199, False)])
async def test_quota(catalog: Catalog, media_like: Make, store: Any, quota: int, fits: bool) -> None:
    await store(media_like("a"))
    second = media_like("b")
    await catalog.objects.intend(second.storage, second.storage_key)
    for end in (
        catalog.objects.settle(second, dedupe_key=None, quota=quota),
        catalog.objects.commit(second, dedupe_key=None, quota=quota, etag="e"),
    ):
        if fits:
            assert (await end).kind == "new"
        else:
            with pytest.raises(QuotaExceeded):
                await end
    assert await catalog.media.usage("ada") == ((200, 2) if fits else (100, 1))


async def test_quota_counts_shared_bytes_too(catalog: Catalog, media_like: Make, store: Any) -> None:
    await store(media_like(), "private")
    with pytest.raises(QuotaExceeded):
        await catalog.objects.settle(media_like(public=True), dedupe_key="public", quota=150)


async def test_quota_race(catalog: Catalog, media_like: Make) -> None:
    async def bring(media: Media) -> bool:
        await catalog.objects.intend(media.storage, media.storage_key)
        try:
            await catalog.objects.commit(media, dedupe_key=None, quota=1000, etag="e")
        except QuotaExceeded:
            return False
        return True

    came = await asyncio.gather(*(bring(media_like(str(number))) for number in range(30)))
    assert sum(came) == 10
    assert await catalog.media.usage("ada") == (1000, 10)


async def test_fifty_at_once_are_one(catalog: Catalog, media_like: Make, clock: Any) -> None:
    medias = [media_like() for _ in range(50)]
    for media in medias:
        await catalog.objects.intend(media.storage, media.storage_key)
    ends = await asyncio.gather(*(catalog.objects.commit(media, dedupe_key="k", quota=0, etag="e") for media in medias))
    assert sorted(end.kind for end in ends) == ["duplicate"] * 49 + ["new"]
    assert len({end.media.id for end in ends}) == 1
    page, _ = await catalog.media.page(limit=100)
    assert [media.id for media in page] == [ends[0].media.id]
    losers = await catalog.objects.leftovers(clock.now() + LONG_AGO)
    assert len(losers) == 49
    assert (page[0].storage, page[0].storage_key) not in losers
    assert await catalog.media.usage("ada") == (100, 1)


async def test_twins_at_once_share_one_object(catalog: Catalog, media_like: Make) -> None:
    medias = [media_like(public=bool(number % 2)) for number in range(40)]
    for media in medias:
        await catalog.objects.intend(media.storage, media.storage_key)
    ends = await asyncio.gather(
        *(catalog.objects.commit(media, dedupe_key=f"public={media.public}", quota=0, etag="e") for media in medias)
    )
    assert len({end.media.id for end in ends if end.media.public}) == 1
    assert len({end.media.id for end in ends}) == 2
    assert len({end.media.storage_key for end in ends}) == 1
    assert all(end.media.public == media.public for end, media in zip(ends, medias, strict=True))


async def test_upload_races_with_the_last_delete(catalog: Catalog, media_like: Make, store: Any, clock: Any) -> None:
    """Whatever the order, a media that stands has live bytes: the object is marked before it goes."""
    for turn in range(20):
        first = await store(media_like(f"c{turn}"), f"k{turn}")
        second = media_like(f"c{turn}", public=True)
        await catalog.objects.intend(second.storage, second.storage_key)
        end, _ = await asyncio.gather(
            catalog.objects.commit(second, dedupe_key=f"p{turn}", quota=0, etag="e"), catalog.media.delete(first.id)
        )
        doomed = await catalog.objects.leftovers(clock.now() + LONG_AGO, limit=1000)
        assert (end.media.storage, end.media.storage_key) not in doomed


async def test_refusal_races_with_uploads(catalog: Catalog, media_like: Make, store: Any) -> None:
    """After a quarantine by digest has returned, no upload that raced with it is readable."""
    for turn in range(10):
        first = await store(media_like(f"c{turn}"), f"k{turn}")
        others = [media_like(f"c{turn}") for _ in range(4)]
        await asyncio.gather(
            catalog.media.quarantine(first.id, scope="digest", reason=None),
            *(catalog.objects.settle(media, dedupe_key=media.id, quota=0) for media in others),
            return_exceptions=True,
        )
        page, _ = await catalog.media.page(limit=100)
        assert page == []


async def test_swept_intent_cannot_commit(catalog: Catalog, media_like: Make, clock: Any) -> None:
    media = media_like()
    await catalog.objects.intend(media.storage, media.storage_key)
    clock.pass_by(minutes=20)
    assert await catalog.objects.leftovers(clock.now() - timedelta(minutes=15)) == [(media.storage, media.storage_key)]
    with pytest.raises(CatalogUnavailable):
        await catalog.objects.commit(media, dedupe_key="k", quota=0, etag="e")
    assert await catalog.media.get(media.id) is None
    assert await catalog.media.usage("ada") == (0, 0), "the transaction was rolled back whole"


async def test_touched_intent_stays(catalog: Catalog, media_like: Make, clock: Any) -> None:
    kept, left = media_like("a"), media_like("b")
    for media in (kept, left):
        await catalog.objects.intend(media.storage, media.storage_key)
    clock.pass_by(minutes=20)
    await catalog.objects.touch([(kept.storage, kept.storage_key), ("default", "never/heard/of")])
    await catalog.objects.touch([])
    before = clock.now() - timedelta(minutes=15)
    gone = [(left.storage, left.storage_key)]
    assert await catalog.objects.leftovers(before, dry_run=True) == gone
    assert await catalog.objects.abandon("default", "never/heard/of") is False
    assert (await catalog.objects.commit(kept, dedupe_key=None, quota=0, etag="e")).kind == "new"
    assert await catalog.objects.leftovers(before) == gone
    assert await catalog.objects.leftovers(before) == gone, "until the bytes are gone and forgotten"
    await catalog.objects.forget(*gone[0])
    await catalog.objects.forget(*gone[0])
    assert await catalog.objects.leftovers(before) == []


async def test_dry_run_gives_nothing_up(catalog: Catalog, media_like: Make, clock: Any) -> None:
    media = media_like()
    await catalog.objects.intend(media.storage, media.storage_key)
    await catalog.objects.leftovers(clock.now() + FAR_AHEAD, dry_run=True)
    assert (await catalog.objects.commit(media, dedupe_key=None, quota=0, etag="e")).kind == "new"


async def test_abandon(catalog: Catalog, media_like: Make, store: Any) -> None:
    given_up, stored = media_like("a"), await store(media_like("b"))
    await catalog.objects.intend(given_up.storage, given_up.storage_key)
    assert await catalog.objects.abandon(given_up.storage, given_up.storage_key) is True
    assert await catalog.objects.abandon(stored.storage, stored.storage_key) is False, "a media has the bytes by now"
    await catalog.objects.forget(stored.storage, stored.storage_key)
    assert (await catalog.objects.settle(media_like("b"), dedupe_key="k", quota=0)).kind == "shared"


async def test_leftovers_are_bounded(catalog: Catalog, media_like: Make, clock: Any) -> None:
    for number in range(5):
        await catalog.objects.intend("default", f"originals/{number}")
    assert len(await catalog.objects.leftovers(clock.now() + FAR_AHEAD, 3)) == 3


async def test_cancelled_commit_is_settled_when_the_cancellation_arrives(catalog: Catalog, media_like: Make) -> None:
    """The caller then asks `abandon`, which must know whose the bytes are."""
    for delay in (0, 0.0005, 0.001, 0.002, 0.004):
        media = media_like(str(delay))
        await catalog.objects.intend(media.storage, media.storage_key)
        task = asyncio.create_task(catalog.objects.commit(media, dedupe_key=None, quota=0, etag="e"))
        await asyncio.sleep(delay)
        task.cancel()
        stands = not (await asyncio.gather(task, return_exceptions=True))[0] or await catalog.media.get(media.id) is not None
        assert await catalog.objects.abandon(media.storage, media.storage_key) is not stands
