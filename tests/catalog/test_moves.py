"""Records that point to a new place: what moves with an object, what stays, and what becomes of the old one."""

from collections.abc import Awaitable, Callable
from datetime import UTC, datetime, timedelta
from typing import Any

import pytest
from msgspec.structs import replace

from mediacdn.catalog.database import Catalog
from mediacdn.catalog.dedupe import dedupe_key, moved_key
from mediacdn.catalog.moves import Stored
from mediacdn.catalog.selection import Selection, selection
from mediacdn.errors import CatalogUnavailable, InvalidParameter
from mediacdn.model import Kept, Media, State
from tests.catalog.conftest import SetClock

pytestmark = pytest.mark.anyio

Store = Callable[..., Awaitable[Media]]
Like = Callable[..., Media]
ALL = Selection()


def key_of(media: Media, storage: str | None = None) -> str:
    return dedupe_key(media.digest, media.public, storage or media.storage, "")


def stored(media: Media, holders: int = 1) -> Stored:
    return Stored(media.storage, media.storage_key, media.size, media.digest, holders)


async def moved(catalog: Catalog, old: Stored, chosen: Selection = ALL, to: str = "far", key: str = "originals/new.bin") -> Any:
    await catalog.objects.intend(to, key)
    return await catalog.moves.repoint(old, chosen, to=to, key=key, etag="new")


async def chosen_of(catalog: Catalog, to: str, chosen: Selection) -> list[Stored]:
    return (await catalog.moves.chosen(to, chosen, after=("", "")))[0]


async def usage(catalog: Catalog) -> dict[str, dict[str, int]]:
    return {storage: {state: each.objects for state, each in states.items()} for storage, states in (await catalog.moves.usage()).items()}


async def test_a_record_points_to_the_new_place(catalog: Catalog, media_like: Like, store: Store) -> None:
    media = media_like()
    await store(media, key_of(media))
    before = await catalog.changes.latest()
    done = await moved(catalog, stored(media))
    assert (done.records, done.copied) == (1, True)
    assert [change.media_id for change in done.changes] == [media.id]
    assert await catalog.changes.latest() == before + 1
    now = await catalog.media.get(media.id)
    assert now is not None
    assert (now.storage, now.storage_key, now.storage_etag) == ("far", "originals/new.bin", "new")
    assert (now.generation, now.links_valid_from, now.digest) == (media.generation, media.links_valid_from, media.digest)
    assert await usage(catalog) == {"default": {"leaving": 1}, "far": {"live": 1}}


async def test_the_old_object_is_swept_after_its_grace(catalog: Catalog, media_like: Like, store: Store, clock: SetClock) -> None:
    media = await store(media_like())
    await moved(catalog, stored(media))
    clock.pass_by(minutes=59)
    now = clock.now()
    assert await catalog.objects.leftovers(now, left_before=now - timedelta(hours=1)) == []
    assert await catalog.objects.leftovers(now) == [], "it is no writer's remains"
    clock.pass_by(minutes=2)
    now = clock.now()
    assert await catalog.objects.leftovers(now, left_before=now - timedelta(hours=1), dry_run=True) == [("default", media.storage_key)]
    assert await catalog.objects.leftovers(now, left_before=now - timedelta(hours=1)) == [("default", media.storage_key)]
    await catalog.objects.forget("default", media.storage_key)
    assert await usage(catalog) == {"far": {"live": 1}}


async def test_all_records_of_an_object_move_together(catalog: Catalog, media_like: Like, store: Store) -> None:
    first = await store(media_like(public=True))
    twins = [await store(media_like(public=False, owner=owner)) for owner in ("ada", "bob")]
    assert {twin.storage_key for twin in twins} == {first.storage_key}
    done = await moved(catalog, stored(first))
    assert done.records == 3
    for each in (first, *twins):
        now = await catalog.media.get(each.id)
        assert now is not None
        assert now.storage_key == "originals/new.bin"
    await catalog.media.delete(first.id)
    await catalog.media.delete(twins[0].id)
    assert (await usage(catalog))["far"] == {"live": 1}
    await catalog.media.delete(twins[1].id)
    assert (await usage(catalog))["far"] == {"deleting": 1}


async def test_who_is_not_chosen_keeps_the_old_object(catalog: Catalog, media_like: Like, store: Store) -> None:
    stays = await store(media_like(public=True))
    goes = await store(media_like(tags=("pii",)))
    done = await moved(catalog, stored(stays), Selection(tag="pii"))
    assert done.records == 1
    found = await usage(catalog)
    assert (found["default"]["live"], found["far"]) == (1, {"live": 1})
    kept, gone = await catalog.media.get(stays.id), await catalog.media.get(goes.id)
    assert kept is not None
    assert gone is not None
    assert (kept.storage, gone.storage) == ("default", "far")
    await catalog.media.delete(stays.id)
    assert "live" not in (await usage(catalog))["default"]


async def test_a_tag_goes_for_what_was_made_of_its_media(catalog: Catalog, media_like: Like, store: Store, clock: SetClock) -> None:
    source = await store(media_like("source", tags=("pii",)))
    made = await store(media_like("made", source_id=source.id, derivation_key="d", relationship="thumbnail"), "derived:d")
    deeper = await store(media_like("deeper", source_id=made.id, derivation_key="e", relationship="tiny"), "derived:e")
    other = await store(media_like("other"))
    new = Kept(
        media_id=source.id, text="w=10", storage="default", key="variants/v.webp", size=5, digest="f" * 64, media_type="image/webp",
        made_at=clock.now(),
    )  # fmt: skip
    await catalog.objects.intend("default", new.key)
    await catalog.variants.keep(new, "e", 10)
    chosen = await chosen_of(catalog, "far", Selection(tag="pii"))
    assert {each.key for each in chosen} == {source.storage_key, made.storage_key, deeper.storage_key, new.key}
    assert other.storage_key not in {each.key for each in chosen}
    stale = {
        source.storage_key: {source.id},
        made.storage_key: {made.id, source.id},
        deeper.storage_key: {deeper.id, made.id, source.id},
        new.key: {source.id},
    }
    for number, each in enumerate(chosen):
        done = await moved(catalog, each, Selection(tag="pii"), key=f"originals/{number}.bin")
        assert done.records == 1
        assert {change.media_id for change in done.changes} == stale[each.key], "forms are kept with the cards of what they show"
    assert await chosen_of(catalog, "far", Selection(tag="pii")) == []
    found = await catalog.variants.find(source.id, "w=10")
    assert found is not None
    assert found.storage == "far"
    thumb = await catalog.derivatives.find("d")
    assert thumb is not None, "a derivative's own key says nothing of its place"
    assert thumb.storage == "far"
    only = await chosen_of(catalog, "default", Selection(tag="pii", variant="original"))
    assert [each.digest for each in only] == [source.digest]
    assert len(await chosen_of(catalog, "default", Selection(variant="*"))) == 3
    assert [each.digest for each in await chosen_of(catalog, "default", Selection(variant="tiny"))] == [deeper.digest]


async def test_a_twin_in_the_new_place_is_shared(catalog: Catalog, media_like: Like, store: Store) -> None:
    here = await store(media_like(), "x")
    there = await store(media_like(storage="far"))
    twin = await catalog.moves.twin("far", here.digest)
    assert twin == stored(there)
    done = await catalog.moves.repoint(stored(here), ALL, to="far", key=None)
    assert (done.records, done.copied) == (1, False)
    now = await catalog.media.get(here.id)
    assert now is not None
    assert now.storage_key == there.storage_key
    assert await usage(catalog) == {"default": {"leaving": 1}, "far": {"live": 1}}
    await catalog.media.delete(there.id)
    assert (await usage(catalog))["far"] == {"live": 1}


async def test_a_twin_that_came_meanwhile_wins_and_the_copy_goes(catalog: Catalog, media_like: Like, store: Store) -> None:
    here, there = await store(media_like()), await store(media_like(storage="far"))
    done = await moved(catalog, stored(here))
    assert (done.records, done.copied) == (1, False)
    now = await catalog.media.get(here.id)
    assert now is not None
    assert now.storage_key == there.storage_key
    assert await usage(catalog) == {"default": {"leaving": 1}, "far": {"live": 1, "deleting": 1}}


async def test_a_media_that_was_deleted_meanwhile_leaves_nothing_behind(catalog: Catalog, media_like: Like, store: Store) -> None:
    media = await store(media_like())
    await catalog.media.delete(media.id)
    done = await moved(catalog, stored(media))
    assert (done.records, done.copied, done.changes) == (0, False, [])
    assert await usage(catalog) == {"default": {"deleting": 1}, "far": {"deleting": 1}}
    assert (await catalog.moves.repoint(stored(media), ALL, to="far", key=None)).records == 0


async def test_an_intent_that_was_swept_fails_the_move(catalog: Catalog, media_like: Like, store: Store) -> None:
    media = await store(media_like())
    with pytest.raises(CatalogUnavailable):
        await catalog.moves.repoint(stored(media), ALL, to="far", key="originals/none.bin")
    now = await catalog.media.get(media.id)
    assert now is not None
    assert now.storage == "default"


async def test_the_deduplication_key_moves_along(catalog: Catalog, media_like: Like, store: Store) -> None:
    media = media_like()
    await store(media, key_of(media))
    await moved(catalog, stored(media))
    again = media_like(storage="far")
    await catalog.objects.intend("far", again.storage_key)
    settled = await catalog.objects.settle(again, dedupe_key=key_of(again), quota=0)
    assert (settled.kind, settled.media.id) == ("duplicate", media.id)
    here = media_like()
    await catalog.objects.intend("default", here.storage_key)
    assert (await catalog.objects.settle(here, dedupe_key=key_of(here), quota=0)).kind == "new"


async def test_two_that_meet_keep_their_ids_and_one_the_key(catalog: Catalog, media_like: Like, store: Store) -> None:
    one = media_like()
    await store(one, key_of(one))
    other = media_like(storage="far")
    await store(other, key_of(other))
    assert (await catalog.moves.repoint(stored(one), ALL, to="far", key=None)).records == 1
    third = media_like(storage="far")
    await catalog.objects.intend("far", third.storage_key)
    assert (await catalog.objects.settle(third, dedupe_key=key_of(third), quota=0)).media.id == other.id
    back = await catalog.media.get(one.id)
    assert back is not None
    assert back.state is State.LIVE


@pytest.mark.parametrize(
    ("key", "moved"),
    [
        ("a" * 64 + ":public:default:", "a" * 64 + ":public:far:"),
        ("a" * 64 + ":private:default:who:ever", "a" * 64 + ":private:far:who:ever"),
        ("derived:" + "b" * 64, "derived:" + "b" * 64),
        ("derived:x:y:z", "derived:x:y:z"),
    ],
)
def test_keys_speak_of_the_place_or_do_not(key: str, moved: str) -> None:
    assert moved_key(key, "far") == moved


async def test_objects_come_in_pages_each_once(catalog: Catalog, media_like: Like, store: Store) -> None:
    stored_media = [await store(media_like(str(number))) for number in range(7)]
    seen: list[str] = []
    after: tuple[str, str] | None = ("", "")
    while after is not None:
        page, after = await catalog.moves.chosen("far", ALL, after=after, window=3)
        seen += [each.key for each in page]
    sparse, after = await catalog.moves.chosen("far", Selection(id=stored_media[6].id), after=("", ""), window=3)
    assert (sparse, after) == ([], ("default", seen[2])), "it goes on behind objects of which none is chosen"
    assert seen == sorted(media.storage_key for media in stored_media)
    assert [each.key for each in await catalog.moves.of_storage("default", after=seen[3], limit=10)] == seen[4:]
    assert await catalog.moves.known("default", [*seen, "originals/x"]) == set(seen)
    assert await catalog.moves.holders(stored(stored_media[0])) == [stored_media[0].id]
    landed, following = await catalog.moves.landed("default", after="", window=3)
    assert ([media.id for media in landed], following) == ([each.id for each in stored_media[:3]], seen[2])
    landed, following = await catalog.moves.landed("default", after=seen[2], window=5)
    assert ([media.id for media in landed], following) == ([each.id for each in stored_media[3:]], None)


@pytest.mark.parametrize(
    ("written", "chosen"),
    [
        (["owner=ada"], True),
        (["owner=bob"], False),
        (["tag=pii"], True),
        (["tag=p"], False),
        (["type=image/*"], True),
        (["type=image/png"], True),
        (["type=*/*"], True),
        (["type=video/*"], False),
        (["public=false"], True),
        (["public=true"], False),
        (["storage=default"], True),
        (["storage=far"], False),
        (["min_size=100", "max_size=100"], True),
        (["min_size=101"], False),
        (["max_size=99"], False),
        (["after=2030-01-01T00:00:00Z"], True),
        (["before=2030-01-01T00:00:00Z"], False),
        (["variant=original"], True),
        (["variant=*"], False),
        (["owner=ada", "tag=p"], False),
    ],
)
async def test_conditions(catalog: Catalog, media_like: Like, store: Store, written: list[str], chosen: bool) -> None:
    await store(media_like(media_type="image/png", tags=("pii",)))
    assert bool(await chosen_of(catalog, "elsewhere", selection(written))) is chosen


@pytest.mark.parametrize("written", ["tag", "tag=", "color=red", "public=perhaps", "min_size=-1", "min_size=1k", "before=soon", "=x"])
def test_what_is_no_condition(written: str) -> None:
    with pytest.raises(InvalidParameter):
        selection([written])


def test_a_condition_is_given_once_and_times_are_aware() -> None:
    with pytest.raises(InvalidParameter, match="twice"):
        selection(["tag=a", "tag=b"])
    assert selection(["before=2030-01-01T00:00:00+00:00"]).before == datetime(2030, 1, 1, tzinfo=UTC)
    before = selection(["before=2030-01-01"]).before
    assert before is not None
    assert before.tzinfo is not None


async def test_a_deleted_or_withheld_record(catalog: Catalog, media_like: Like, store: Store) -> None:
    """What is withheld moves too: it is released later, and must be found then."""
    media = await store(media_like())
    await catalog.media.quarantine(media.id, scope="media", reason=None)
    assert len(await chosen_of(catalog, "far", ALL)) == 1
    assert (await moved(catalog, stored(media))).records == 1
    now = await catalog.media.get(media.id)
    assert now == replace(now, storage="far", state=State.QUARANTINED) if now else False
