"""Changing, withholding, deleting and reading media's rows."""

from collections.abc import Callable
from datetime import timedelta
from typing import Any

import pytest
from msgspec.structs import replace

from mediacdn.catalog.database import Catalog
from mediacdn.errors import DuplicateExists, InvalidParameter, NotFound, PreconditionFailed
from mediacdn.model import Media, State

pytestmark = pytest.mark.anyio

Make = Callable[..., Media]
NOBODY = "01ARZ3NDEKTSV4RRFFQ69G5FAV"


async def test_unknown(catalog: Catalog) -> None:
    assert await catalog.media.get(NOBODY) is None
    assert await catalog.media.card(NOBODY) is None
    assert await catalog.media.delete(NOBODY) == (None, [])
    assert await catalog.media.usage("nobody") == (0, 0)
    for act in (
        catalog.media.change(NOBODY, {"title": "x"}, dedupe_key=None, version=None),
        catalog.media.quarantine(NOBODY, scope="digest", reason=None),
        catalog.media.release(NOBODY),
        catalog.media.revoke(NOBODY, 1),
    ):
        with pytest.raises(NotFound):
            await act


async def test_every_field_survives(catalog: Catalog, media_like: Make, store: Any, clock: Any) -> None:
    source = await store(media_like("source", public=True, expires_at=clock.now() + timedelta(microseconds=1), links_valid_from=2**33), "s")
    full = media_like(
        title="t\u2028\U0001f600", filename="f", public=True, error_message="e", kind="video", media_type="video/mp4", size=2**40, width=1, height=2,
        duration=0.1, frame_rate=29.97, codecs="avc1", placeholder="p", tags=("z", "a"), metadata={"ü": {"n": 1.5}}, source_id=source.id, facts={"ß": [1]},
        derivation_key="d", relationship="thumb", expires_at=clock.now() + timedelta(microseconds=1), links_valid_from=2**33, generation=7, version=9,
    )  # fmt: skip
    stored = await store(full)
    assert await catalog.media.get(full.id) == stored == replace(full, storage_etag="e")
    assert await catalog.media.card(full.id) == stored.card


async def test_change(catalog: Catalog, media_like: Make, store: Any, clock: Any) -> None:
    before = await store(media_like(tags=("old",)), "k")
    clock.pass_by(seconds=5)
    until = clock.now() + timedelta(days=1)
    changes = {"title": "new", "tags": ("x", "y", "x"), "public": True, "expires_at": until, "metadata": {"a": 1}}
    after, _ = await catalog.media.change(before.id, changes, dedupe_key="k2", version=before.version)
    assert (after.title, after.tags, after.public, after.expires_at, after.metadata) == ("new", ("x", "y"), True, until, {"a": 1})
    assert (after.version, after.updated_at, after.created_at) == (2, clock.now(), before.created_at)
    assert (after.generation, after.links_valid_from) == (1, 0), "becoming public kills nothing"
    assert await catalog.media.get(before.id) == after
    assert [media.id for media in (await catalog.media.page(limit=5, tag="y"))[0]] == [before.id]
    assert (await catalog.media.page(limit=5, tag="old"))[0] == []


async def test_change_refuses_another_version(catalog: Catalog, media_like: Make, store: Any) -> None:
    media = await store(media_like())
    await catalog.media.change(media.id, {"title": "first"}, dedupe_key=None, version=1)
    with pytest.raises(PreconditionFailed):
        await catalog.media.change(media.id, {"title": "second"}, dedupe_key=None, version=1)
    assert (await catalog.media.get(media.id)).title == "first"  # type: ignore[union-attr]


async def test_change_refuses_other_fields(catalog: Catalog, media_like: Make, store: Any) -> None:
    media = await store(media_like())
    with pytest.raises(InvalidParameter, match="owner"):
        await catalog.media.change(media.id, {"owner": "eve"}, dedupe_key=None, version=None)


async def test_making_private_kills_links_and_copies(catalog: Catalog, media_like: Make, store: Any, clock: Any) -> None:
    media = await store(media_like(public=True), "public")
    clock.pass_by(seconds=5)
    after, _ = await catalog.media.change(media.id, {"public": False}, dedupe_key="private", version=None)
    assert (after.links_valid_from, after.generation) == (int(clock.now().timestamp()) + 1, 2)
    again, _ = await catalog.media.change(media.id, {"public": False}, dedupe_key="private", version=None)
    assert again.generation == 2, "it was private already"


async def test_making_public_beside_a_twin(catalog: Catalog, media_like: Make, store: Any, clock: Any) -> None:
    private = await store(media_like(), "private")
    public = await store(media_like(public=True, expires_at=clock.now() + timedelta(hours=1)), "public")
    with pytest.raises(DuplicateExists):
        await catalog.media.change(private.id, {"public": True}, dedupe_key="public", version=None)
    assert (await catalog.media.get(private.id)) == private
    clock.pass_by(hours=2)
    after, _ = await catalog.media.change(private.id, {"public": True}, dedupe_key="public", version=None)
    assert after.public, "an expired twin gives its key up"
    assert (await catalog.media.get(public.id)).public  # type: ignore[union-attr]


async def test_delete(catalog: Catalog, media_like: Make, store: Any) -> None:
    media = await store(media_like(tags=("t",)), "k")
    gone, _ = await catalog.media.delete(media.id)
    assert gone is not None
    assert (gone.state, gone.version) == (State.DELETED, 2)
    assert await catalog.media.get(media.id) == gone, "the tombstone"
    assert (await catalog.media.delete(media.id))[0] is None
    assert await catalog.media.usage("ada") == (0, 0)
    with pytest.raises(NotFound):
        await catalog.media.change(media.id, {"title": "x"}, dedupe_key=None, version=None)
    for hidden in (False, True):
        assert (await catalog.media.page(limit=5, include_hidden=hidden))[0] == []
        assert (await catalog.media.page(limit=5, tag="t", include_hidden=hidden))[0] == []


async def test_quarantine_by_media(catalog: Catalog, media_like: Make, store: Any) -> None:
    media, twin = await store(media_like(), "a"), await store(media_like(public=True), "b")
    thumb = await store(media_like("thumb", source_id=media.id))
    small = await store(media_like("small", source_id=thumb.id))
    await store(media_like("other", source_id=twin.id))
    assert (await catalog.media.quarantine(media.id, scope="media", reason="why"))[0] == sorted([media.id, thumb.id, small.id])
    card, record = await catalog.media.card(media.id), await catalog.media.get(media.id)
    assert card is not None
    assert record is not None
    assert (card.state, card.generation) == (State.QUARANTINED, 2)
    assert (record.quarantine_reason, record.version) == ("why", 2)
    assert await catalog.refusals.get(media.digest) is None
    assert {media.id for media in (await catalog.media.page(limit=9))[0]} == {twin.id}
    assert {media.id for media in (await catalog.media.page(limit=9, include_hidden=True))[0]} == {media.id, twin.id}


async def test_quarantine_by_digest_and_release_by_a_twin(catalog: Catalog, media_like: Make, store: Any) -> None:
    media, twin = await store(media_like(), "a"), await store(media_like(public=True), "b")
    thumb = await store(media_like("thumb", source_id=twin.id))
    apart = await store(media_like("apart", source_id=media.id))
    await catalog.media.quarantine(apart.id, scope="media", reason="its own")
    assert (await catalog.media.quarantine(media.id, scope="digest", reason="why"))[0] == sorted([media.id, twin.id, thumb.id])
    assert await catalog.refusals.get(media.digest) == "why"
    assert (await catalog.media.release(twin.id))[0] == sorted([media.id, twin.id, thumb.id])
    assert await catalog.refusals.get(media.digest) is None
    released = await catalog.media.get(thumb.id)
    assert released is not None
    assert (released.state, released.generation, released.quarantine_reason) == (State.LIVE, 3, None)
    assert (await catalog.media.get(apart.id)).state is State.QUARANTINED  # type: ignore[union-attr]
    assert (await catalog.media.release(media.id))[0] == [], "idempotent"


async def test_quarantine_again_by_digest(catalog: Catalog, media_like: Make, store: Any) -> None:
    media, twin = await store(media_like(), "a"), await store(media_like(public=True), "b")
    await catalog.media.quarantine(media.id, scope="media", reason=None)
    assert (await catalog.media.quarantine(media.id, scope="digest", reason=None))[0] == sorted([media.id, twin.id])
    assert await catalog.refusals.get(media.digest) == ""
    assert (await catalog.media.release(media.id))[0] == sorted([media.id, twin.id])


async def test_quarantine_knows_no_twins_without_bytes(catalog: Catalog, media_like: Make, store: Any) -> None:
    one = await store(media_like(digest="", storage="one"))
    two = await store(media_like(digest="", storage="two"))
    assert (await catalog.media.quarantine(one.id, scope="digest", reason=None))[0] == [one.id]
    assert await catalog.refusals.get("") is None
    assert (await catalog.media.get(two.id)).state is State.LIVE  # type: ignore[union-attr]


async def test_quarantine_scope(catalog: Catalog, media_like: Make, store: Any) -> None:
    media = await store(media_like())
    with pytest.raises(InvalidParameter):
        await catalog.media.quarantine(media.id, scope="planet", reason=None)


async def test_quarantined_can_be_deleted_and_stays_so(catalog: Catalog, media_like: Make, store: Any) -> None:
    media, twin = await store(media_like(), "a"), await store(media_like(public=True), "b")
    await catalog.media.quarantine(media.id, scope="digest", reason=None)
    assert (await catalog.media.delete(media.id))[0] is not None
    assert (await catalog.media.release(twin.id))[0] == [twin.id]
    assert (await catalog.media.get(media.id)).state is State.DELETED  # type: ignore[union-attr]
    assert await catalog.refusals.get(media.digest) is None


async def test_revoke(catalog: Catalog, media_like: Make, store: Any) -> None:
    media = await store(media_like())
    after, _ = await catalog.media.revoke(media.id, 1000)
    assert (after.links_valid_from, after.generation, after.version) == (1000, 1, 2)
    assert (await catalog.media.revoke(media.id, 500))[0].links_valid_from == 1000, "an earlier moment revives nothing"


async def test_a_derivative_is_never_more_visible_than_its_source(catalog: Catalog, media_like: Make, store: Any, clock: Any) -> None:
    end = clock.now() + timedelta(hours=2)
    source = await store(media_like(expires_at=end))
    poster = await store(media_like("poster", source_id=source.id))

    async def change(**changes: Any) -> None:
        await catalog.media.change(poster.id, changes, dedupe_key=None, version=None)

    for changes in ({"public": True}, {"expires_at": None}, {"expires_at": end + timedelta(seconds=1)}):
        with pytest.raises(InvalidParameter):
            await change(**changes)
    await change(public=False, expires_at=end - timedelta(hours=1), title="Less is fine")
    await catalog.media.change(source.id, {"public": True, "expires_at": None}, dedupe_key=None, version=None)
    await change(public=False)
    await change(public=True, expires_at=end)
    assert (await catalog.media.get(poster.id)).public  # type: ignore[union-attr]


async def test_revoke_kills_links_to_what_was_made_of_it(catalog: Catalog, media_like: Make, store: Any) -> None:
    source = await store(media_like())
    film = await store(media_like("film", source_id=source.id))
    poster = await store(media_like("poster", source_id=film.id))
    await catalog.media.revoke(poster.id, 2000)
    other = await store(media_like("other"))
    told = (await catalog.media.revoke(source.id, 1000))[1]
    assert {change.media_id for change in told} == {source.id, film.id, poster.id}
    assert [(await catalog.media.get(each.id)).links_valid_from for each in (film, poster, other)] == [1000, 2000, 0]  # type: ignore[union-attr]
    await catalog.media.revoke(film.id, 3000)
    assert [(await catalog.media.get(each.id)).links_valid_from for each in (source, poster)] == [1000, 3000], (
        "not those to what it was made of"
    )  # type: ignore[union-attr]


async def test_expired(catalog: Catalog, media_like: Make, store: Any, clock: Any) -> None:
    later = await store(media_like("a", expires_at=clock.now() + timedelta(hours=2)))
    sooner = await store(media_like("b", expires_at=clock.now() + timedelta(hours=1)))
    await store(media_like("c"))
    assert await catalog.media.expired() == []
    clock.pass_by(hours=2)
    assert await catalog.media.expired() == [sooner.id, later.id]
    assert await catalog.media.expired(1) == [sooner.id]
    await catalog.media.change(sooner.id, {"expires_at": clock.now() + timedelta(hours=1)}, dedupe_key=None, version=None)
    assert (await catalog.media.delete(sooner.id, expired=True))[0] is None, "prolonged since it was listed"
    await catalog.media.change(sooner.id, {"expires_at": sooner.expires_at}, dedupe_key=None, version=None)
    assert await catalog.media.expired(1) == [sooner.id]
    await catalog.media.delete(sooner.id)
    assert await catalog.media.expired() == [later.id]


@pytest.mark.parametrize("text", ["a\0b", "\ud800"], ids=["NUL", "lone surrogate"])
async def test_text_that_cannot_be_stored(catalog: Catalog, media_like: Make, store: Any, text: str) -> None:
    """SQLite keeps a NUL, PostgreSQL cannot; neither may answer with an outage or a stack trace."""
    media = await store(media_like())
    try:
        changed, _ = await catalog.media.change(media.id, {"title": text}, dedupe_key=None, version=None)
    except InvalidParameter:
        assert (await catalog.media.get(media.id)).title is None  # type: ignore[union-attr]
    else:
        assert changed.title == text
        assert catalog.dialect == "sqlite"
