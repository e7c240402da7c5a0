"""Ancestry on both databases: order, pages, what is left out and what is walked through, and circles that cannot be."""

from collections.abc import Callable
from datetime import timedelta
from typing import Any

import pytest
from sqlalchemy import update

from mediacdn.catalog.ancestry import DEEPEST, Kin
from mediacdn.catalog.database import Catalog
from mediacdn.catalog.tables import media
from mediacdn.model import Media

pytestmark = pytest.mark.anyio
ALL = Kin()


@pytest.fixture
def child(store: Callable[..., Any], media_like: Callable[..., Media]) -> Callable[..., Any]:
    """Store what was made of a media."""

    async def made(source: Media | None, name: str, **fields: Any) -> Media:
        given = {} if source is None else {"source_id": source.id, "relationship": name, "derivation_key": name * 2}
        return await store(media_like(name, **{**given, **fields}))  # type: ignore[no-any-return]

    return made


async def line(child: Callable[..., Any], length: int) -> list[Media]:
    """Media each made of the one before."""
    found = [await child(None, "0")]
    for number in range(1, length):
        found.append(await child(found[-1], str(number)))
    return found


async def test_ancestors_come_nearest_first(catalog: Catalog, child: Callable[..., Any]) -> None:
    a, b, c, d = await line(child, 4)
    assert await catalog.ancestry.ancestors(d.id, ALL, limit=10) == ([c, b, a], None)
    assert await catalog.ancestry.ancestors(a.id, ALL, limit=10) == ([], None)
    assert await catalog.ancestry.ancestors("0" * 26, ALL, limit=10) == ([], None)
    first, cursor = await catalog.ancestry.ancestors(d.id, ALL, limit=2)
    assert (first, cursor) == ([c, b], b.id)
    assert await catalog.ancestry.ancestors(d.id, ALL, limit=2, after=cursor) == ([a], None)
    assert await catalog.ancestry.ancestors(b.id, ALL, limit=2, after=d.id) == ([], None)


async def test_descendants_are_all_and_derivatives_the_next(catalog: Catalog, child: Callable[..., Any]) -> None:
    root = await child(None, "root")
    thumb, text = await child(root, "thumb"), await child(root, "text")
    german = await child(text, "german")
    await child(None, "stranger")
    assert await catalog.ancestry.descendants(root.id, ALL, limit=10) == ([german, text, thumb], None)
    assert await catalog.ancestry.derivatives(root.id, ALL, limit=10) == ([text, thumb], None)
    assert await catalog.ancestry.descendants(root.id, Kin("thumb"), limit=10) == ([thumb], None)
    assert await catalog.ancestry.derivatives(root.id, Kin("german"), limit=10) == ([], None)
    assert await catalog.ancestry.ancestors(german.id, Kin("text"), limit=10) == ([text], None)
    pages, cursor = [], None
    for _ in range(3):
        page, cursor = await catalog.ancestry.descendants(root.id, ALL, limit=1, after=cursor)
        pages += page
    assert (pages, cursor) == ([german, text, thumb], None)
    assert await catalog.ancestry.derived(limit=2) == [thumb, text]
    assert await catalog.ancestry.derived(limit=2, after=text.id) == [german]


async def test_what_is_gone_is_walked_through(catalog: Catalog, child: Callable[..., Any]) -> None:
    a, b, c = await line(child, 3)
    await catalog.media.delete(b.id)
    assert await catalog.ancestry.ancestors(c.id, ALL, limit=10) == ([a], None)
    assert await catalog.ancestry.descendants(a.id, ALL, limit=10) == ([c], None)
    assert await catalog.ancestry.derivatives(a.id, ALL, limit=10) == ([], None)


async def test_what_is_withheld_or_expired_is_left_out(catalog: Catalog, child: Callable[..., Any], clock: Any) -> None:
    root = await child(None, "root", expires_at=clock.now() + timedelta(hours=1))
    shown = await child(root, "shown")
    hidden = await child(root, "hidden")
    await catalog.media.quarantine(hidden.id, scope="media", reason=None)
    listed = [each.id for each in (await catalog.ancestry.derivatives(root.id, ALL, limit=10))[0]]
    assert listed == [shown.id]
    clock.pass_by(hours=2)
    assert (await catalog.ancestry.ancestors(shown.id, ALL, limit=10))[0] == []


async def test_a_stranger_sees_what_is_public(catalog: Catalog, child: Callable[..., Any]) -> None:
    private = await child(None, "private")
    public = await child(None, "public", public=True)
    one, other = await child(private, "one"), await child(public, "other")
    assert (await catalog.ancestry.ancestors(one.id, Kin(visible_to="bob"), limit=10))[0] == []
    assert (await catalog.ancestry.ancestors(one.id, Kin(visible_to="ada"), limit=10))[0] == [private]
    assert [each.id for each in (await catalog.ancestry.derivatives(public.id, Kin(visible_to="bob"), limit=10))[0]] == [other.id]
    assert (await catalog.ancestry.derivatives(private.id, Kin(visible_to="bob"), limit=10))[0] == []


async def test_a_circle_ends(catalog: Catalog, child: Callable[..., Any]) -> None:
    a, b = await line(child, 2)

    async def bend(connection: Any) -> None:
        await connection.execute(update(media).where(media.c.id == a.id).values(source_id=b.id))

    await catalog._transactions.write(bend)
    assert {each.id for each in (await catalog.ancestry.descendants(a.id, ALL, limit=10))[0]} == {b.id}
    found, _ = await catalog.ancestry.ancestors(a.id, ALL, limit=200)
    assert len(found) <= DEEPEST
