"""The list: filters, order, cursor, visibility; and that every filter has an index that it walks in the order of ids."""

from collections.abc import Callable
from datetime import UTC, datetime, timedelta
from typing import Any

import pytest
from sqlalchemy import insert, text

from mediacdn.catalog.database import Catalog
from mediacdn.catalog.pages import FEW, Filters, page
from mediacdn.catalog.rows import row_of
from mediacdn.catalog.tables import media as media_table
from mediacdn.catalog.tables import media_tags
from mediacdn.model import Media, Status

pytestmark = pytest.mark.anyio

Make = Callable[..., Media]


async def names(catalog: Catalog, **filters: Any) -> str:
    """List everything, three at a time; titles as one word, newest first."""
    found: list[Media] = []
    after = None
    while True:
        few, following = await catalog.media.page(limit=3, after=after, **filters)
        assert len(few) == 3 or following is None
        assert following == (few[-1].id if following else None)
        found += few
        if following is None:
            break
        after = following
    assert [media.id for media in found] == sorted((media.id for media in found), reverse=True)
    return "".join(media.title or "?" for media in found)


async def fill(media_like: Make, store: Any, clock: Any) -> None:
    """Seven media, titled a to g from the oldest to the newest."""
    for title, fields in {
        "a": {"public": True, "tags": ("x",), "media_type": "image/png"},
        "b": {"owner": "eve", "tags": ("x", "y"), "media_type": "image/png"},
        "c": {"status": Status.FAILED, "media_type": "image/webp"},
        "d": {"owner": "eve", "public": True, "media_type": "video/mp4"},
        "e": {"tags": ("y",), "media_type": "imageish/x"},
        "f": {"owner": "eve", "public": True, "tags": ("x",), "media_type": "image/png"},
        "g": {"media_type": "audio/mpeg"},
    }.items():
        await store(media_like(title, title=title, **fields))
        clock.pass_by(seconds=10)


async def test_filters(catalog: Catalog, media_like: Make, store: Any, clock: Any) -> None:
    start = clock.now()
    await fill(media_like, store, clock)
    for filters, expected in [
        ({}, "gfedcba"),
        ({"owner": "eve"}, "fdb"),
        ({"owner": "nobody"}, ""),
        ({"tag": "x"}, "fba"),
        ({"tag": "none"}, ""),
        ({"media_type": "image/png"}, "fba"),
        ({"media_type": "image/*"}, "fcba"),
        ({"media_type": "*/*"}, "gfedcba"),
        ({"status": "FAILED"}, "c"),
        ({"created_after": start + timedelta(seconds=30)}, "gfe"),
        ({"created_after": clock.now()}, ""),
        ({"visible_to": "eve"}, "fdba"),
        ({"visible_to": "ada"}, "gfedca"),
        ({"visible_to": "nobody"}, "fda"),
        ({"visible_to": "eve", "owner": "eve"}, "fdb"),
        ({"visible_to": "ada", "owner": "eve"}, "fd"),
        ({"visible_to": "ada", "tag": "x"}, "fa"),
        ({"visible_to": "ada", "tag": "x", "media_type": "image/*", "status": "READY", "created_after": start}, "f"),
        ({"owner": "eve", "tag": "x", "created_after": start}, "fb"),
    ]:
        assert await names(catalog, **filters) == expected, filters


async def test_hidden(catalog: Catalog, media_like: Make, store: Any, clock: Any) -> None:
    quarantined = await store(media_like("q", title="q", tags=("t",)))
    await store(media_like("e", title="e", tags=("t",), expires_at=clock.now() + timedelta(seconds=1)))
    deleted = await store(media_like("d", title="d", tags=("t",)))
    await store(media_like("l", title="l", tags=("t",), expires_at=clock.now() + timedelta(hours=1)))
    await catalog.media.quarantine(quarantined.id, scope="media", reason=None)
    await catalog.media.delete(deleted.id)
    clock.pass_by(seconds=1)
    for more in ({}, {"tag": "t"}, {"visible_to": "ada"}, {"owner": "ada"}):
        assert await names(catalog, **more) == "l", more
        assert await names(catalog, include_hidden=True, **more) == "leq", more
        assert await names(catalog, quarantined=True, **more) == "q", more


async def test_withheld(catalog: Catalog, media_like: Make, store: Any, clock: Any) -> None:
    """Originals, expired ones too, and what was withheld by itself; not what goes with its source, which is listed."""
    film = await store(media_like("f", title="f", expires_at=clock.now() + timedelta(seconds=1)))
    other = await store(media_like("o", title="o"))
    await store(media_like("s", title="s", source_id=film.id, derivation_key="s", relationship="poster", expires_at=film.expires_at))
    alone = await store(media_like("p", title="p", source_id=other.id, derivation_key="p", relationship="poster"))
    await catalog.media.quarantine(film.id, scope="digest", reason="bad")
    await catalog.media.quarantine(alone.id, scope="media", reason=None)
    clock.pass_by(seconds=2)
    assert await names(catalog, quarantined=True) == "pf"
    await catalog.media.release(film.id)
    assert await names(catalog, quarantined=True) == "p"
    await catalog.media.delete(alone.id)
    assert await names(catalog, quarantined=True) == ""


async def test_cursor_holds_while_rows_come_and_go(catalog: Catalog, media_like: Make, store: Any) -> None:
    medias = [await store(media_like(str(number))) for number in range(6)]
    first, after = await catalog.media.page(limit=2)
    await store(media_like("newer"))
    await catalog.media.delete(first[1].id)
    await catalog.media.delete(medias[3].id)
    second, _ = await catalog.media.page(limit=2, after=after)
    assert [media.id for media in second] == [medias[2].id, medias[1].id]


async def test_records_come_whole(catalog: Catalog, media_like: Make, store: Any) -> None:
    stored = await store(media_like(tags=("b", "a"), metadata={"k": "v"}))
    for filters in ({}, {"visible_to": "ada"}, {"tag": "a"}):
        assert (await catalog.media.page(limit=1, **filters)) == ([stored], None)


async def test_created_after_with_many_and_with_few(catalog: Catalog, media_like: Make, clock: Any) -> None:
    """An upload that took long has an old id and a young created_at: it is found either way."""
    start = clock.now()
    slow = media_like("slow", created_at=start + timedelta(hours=2))
    rows = [row_of(media_like(str(n), created_at=start + timedelta(minutes=1)), None) for n in range(FEW)]

    async def bring(connection: Any) -> None:
        await connection.execute(insert(media_table), [row_of(slow, None), *rows])

    await catalog._transactions.write(bring)
    for moment, count in [(start, FEW + 1), (start + timedelta(minutes=1), 1), (start + timedelta(hours=2), 0)]:
        found, _ = await catalog.media.page(limit=FEW + 5, created_after=moment)
        assert len(found) == count
        assert (slow.id in {media.id for media in found}) == (count > 0)


# The index that each list must walk, its filters, and how many sorts of at most two pages (or FEW rows) it may need.
LISTS: list[tuple[str, dict[str, Any], int]] = [
    ("media_here", {}, 0),
    ("media_owner", {"owner": "o1"}, 0),
    ("media_type", {"media_type": "f1/t"}, 0),
    ("media_family", {"media_type": "f1/*"}, 0),
    ("media_status", {"status": "FAILED"}, 0),
    ("media_tags", {"tag": "t1"}, 0),
    ("media_public", {"visible_to": "o1"}, 2),
    ("media_withheld", {"quarantined": True}, 0),
    ("media_created", {"created_after": datetime(2029, 12, 31, 23, tzinfo=UTC)}, 1),
]


async def test_lists_walk_an_index(catalog: Catalog, media_like: Make) -> None:
    """A page costs the same at any depth, so its plan reads no whole table and sorts no whole list."""
    start = datetime(2029, 12, 31, tzinfo=UTC)
    medias = [
        media_like(
            str(n),
            owner=f"o{n % 50}",
            public=n % 40 == 0,
            media_type=f"f{n % 40}/t",
            status=Status.READY if n % 40 else Status.FAILED,
            created_at=start + timedelta(seconds=n),
        )
        for n in range(4000)
    ]

    async def bring(connection: Any) -> None:
        await connection.execute(insert(media_table), [row_of(media, None) for media in medias])
        await connection.execute(insert(media_tags), [{"tag": f"t{n % 40}", "media_id": media.id} for n, media in enumerate(medias)])

    async def analyze(connection: Any) -> None:
        # PostgreSQL does this by itself; nobody does it for SQLite, whose planner must get along without.
        if catalog.dialect == "postgresql":
            await connection.execute(text("ANALYZE"))

    await catalog._transactions.write(bring)
    await catalog._transactions.read(analyze)
    explain = "EXPLAIN QUERY PLAN " if catalog.dialect == "sqlite" else "EXPLAIN "
    for index, filters, sorts in LISTS:
        plans: list[str] = []

        async def look(connection: Any, filters: Any = filters, plans: Any = plans) -> None:
            class Explained:
                async def execute(self, statement: Any) -> Any:
                    compiled = statement.compile(dialect=connection.dialect, compile_kwargs={"literal_binds": True})
                    plans.extend(str(row) for row in await connection.exec_driver_sql(explain + str(compiled)))
                    return await connection.execute(statement)

            explained: Any = Explained()
            await page(explained, Filters(**filters), limit=5, after=medias[3500].id, now=start)

        await catalog._transactions.read(look)
        plan = "\n".join(plans)
        assert index in plan, plan
        assert plan.count("TEMP B-TREE") + plan.count("Sort Key") <= sorts, plan
        assert "Seq Scan" not in plan, plan
        assert "SCAN media'" not in plan, plan
