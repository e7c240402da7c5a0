"""Objects that change their storage: which are to, and the transaction in which the records of one point to its new place.

The old object becomes `leaving` with its last holder: it can be read until the sweep, some time later, marks it `deleting`. Who began to read by an old card
comes to its end.
"""

from collections.abc import Mapping, Sequence
from datetime import datetime
from typing import Any

from msgspec import Struct
from sqlalchemy import ColumnElement, Row, Select, and_, case, exists, func, literal, or_, select, tuple_, update
from sqlalchemy.ext.asyncio import AsyncConnection

from mediacdn.catalog.changes import append
from mediacdn.catalog.dedupe import free_key, moved_key
from mediacdn.catalog.locks import lock_digest
from mediacdn.catalog.rows import COLUMNS, media_of
from mediacdn.catalog.selection import Selection, holds
from mediacdn.catalog.tables import media, objects, variants
from mediacdn.catalog.transactions import Transactions
from mediacdn.errors import CatalogUnavailable
from mediacdn.interfaces import Clock
from mediacdn.model import Change, Media, State

WINDOW = 1000
"""Objects that one statement looks at."""


class Stored(Struct, frozen=True):
    """An object at rest. `holders` counts the media and variants that are it."""

    storage: str
    key: str
    size: int
    digest: str
    holders: int


class Repointed(Struct, frozen=True):
    """What became of a move: how many records now point to the new place, and whether they use the bytes that were copied (else a twin's that was there)."""

    records: int
    copied: bool
    changes: list[Change] = []


class Usage(Struct, frozen=True):
    """What the catalog knows of one storage's objects in one state."""

    objects: int
    bytes: int


def _stored(row: Row[Any]) -> Stored:
    return Stored(row.storage, row.key, row.size, row.digest, row.refcount)


class MoveRows:
    """Objects by storage and key, as those see them who move, promote, scrub and count them."""

    def __init__(self, transactions: Transactions, clock: Clock) -> None:
        self._transactions = transactions
        self._clock = clock

    async def chosen(
        self, to: str, chosen: Selection, *, after: tuple[str, str], window: int = WINDOW
    ) -> tuple[list[Stored], tuple[str, str] | None]:
        """Of the next `window` objects outside the storage `to`, by (storage, key) beyond `after`: those that a chosen media, or a variant of one, is.

        With where to go on, None at the end: however few are chosen of however many, no statement takes long.
        """
        here = and_(objects.c.state == "live", objects.c.storage != to, tuple_(objects.c.storage, objects.c.key) > after)
        if chosen.storage is not None:
            here = and_(here, objects.c.storage == chosen.storage)
        near = select(objects).where(here).order_by(objects.c.storage, objects.c.key).limit(window).subquery("near")
        mine = and_(media.c.digest == near.c.digest, media.c.storage == near.c.storage, media.c.storage_key == near.c.key)
        wanted: ColumnElement[bool] = exists(select(literal(1)).where(mine, holds(chosen)))
        if (of := _variants_of(chosen)) is not None:
            of_object = and_(variants.c.storage == near.c.storage, variants.c.key == near.c.key)
            wanted = or_(wanted, exists(select(literal(1)).where(of_object, of)))
        statement = select(near, wanted.label("wanted")).order_by(near.c.storage, near.c.key)

        async def work(connection: AsyncConnection) -> tuple[list[Stored], tuple[str, str] | None]:
            rows = (await connection.execute(statement)).all()
            following = (rows[-1].storage, rows[-1].key) if len(rows) == window else None
            return [_stored(row) for row in rows if row.wanted], following

        return await self._transactions.read(work)

    async def of_storage(self, storage: str, *, after: str, limit: int) -> list[Stored]:
        """List a storage's live objects by key, beyond `after`."""
        here = and_(objects.c.storage == storage, objects.c.state == "live", objects.c.key > after)

        async def work(connection: AsyncConnection) -> list[Stored]:
            return [_stored(row) for row in await connection.execute(select(objects).where(here).order_by(objects.c.key).limit(limit))]

        return await self._transactions.read(work)

    async def known(self, storage: str, keys: list[str]) -> set[str]:
        """Those of some keys that belong to an object, in whatever state."""

        async def work(connection: AsyncConnection) -> set[str]:
            return set(await connection.scalars(select(objects.c.key).where(objects.c.storage == storage, objects.c.key.in_(keys))))

        return await self._transactions.read(work)

    async def holders(self, stored: Stored) -> list[str]:
        """Name the media that are this object, or have a variant that is."""
        of_media = select(media.c.id).where(_is(stored), media.c.state != State.DELETED.value)
        of_variants = select(variants.c.media_id).where(variants.c.storage == stored.storage, variants.c.key == stored.key)

        async def work(connection: AsyncConnection) -> list[str]:
            return sorted({*await connection.scalars(of_media), *await connection.scalars(of_variants)})

        return await self._transactions.read(work)

    async def twin(self, storage: str, digest: str) -> Stored | None:
        """The live object of this content in a storage."""
        same = and_(objects.c.storage == storage, objects.c.digest == digest, objects.c.state == "live")

        async def work(connection: AsyncConnection) -> Stored | None:
            row = (await connection.execute(select(objects).where(same))).one_or_none()
            return None if row is None else _stored(row)

        return await self._transactions.read(work)

    async def repoint(self, old: Stored, chosen: Selection, *, to: str, key: str | None, etag: str = "") -> Repointed:
        """Have the chosen records of an object be its copy in the storage `to`: at `key`, which was intended and is durable, or, with None, a twin that is live there.

        A twin that came to be meanwhile is preferred; what is at `key` is then `deleting`, as it is when no record is left that wants it.
        A record whose twin in the new place holds its deduplication key stays without one: neither takes the other's id.
        Raises: CatalogUnavailable, also when the sweeper took the intent away.
        """
        intent = and_(objects.c.storage == to, objects.c.key == (key or ""), objects.c.state == "writing")

        async def work(connection: AsyncConnection) -> Repointed:
            await lock_digest(connection, old.digest)
            now = self._clock.now()
            live = and_(objects.c.storage == to, objects.c.digest == old.digest, objects.c.state == "live")
            twin = (await connection.execute(select(objects.c.key, objects.c.etag).where(live).with_for_update())).one_or_none()
            place: tuple[str, str]
            if twin is not None:
                place = (twin.key, twin.etag)
            elif key is not None:
                place = (key, etag)
            else:
                return Repointed(0, False)
            ids = await self._repoint_media(connection, old, chosen, to, place, now)
            of_variants = await self._repoint_variants(connection, old, chosen, to, place[0])
            count = len(ids) + len(of_variants)
            if twin is not None:
                await connection.execute(update(objects).where(live).values(refcount=objects.c.refcount + count))
            if key is not None:
                mine: dict[str, Any] = {"state": "deleting"}
                if twin is None and count:
                    mine = {"state": "live", "digest": old.digest, "size": old.size, "refcount": count, "etag": etag, "touched_at": now}
                if (await connection.execute(update(objects).where(intent).values(mine))).rowcount != 1:
                    raise CatalogUnavailable("The copy took too long and was swept away; move it again")
            await self._let_go(connection, old, count, now)
            # A form is kept with the card of the media that it shows: that has to be read anew too.
            stale = {*ids, *of_variants, *(await connection.scalars(_above(ids)) if ids else ())}
            return Repointed(count, twin is None and count > 0, await append(connection, stale, now))

        return await self._transactions.write(work, clash=CatalogUnavailable)

    async def landed(self, storage: str, *, after: str, window: int = WINDOW) -> tuple[list[Media], str | None]:
        """The original media of the next `window` objects of a storage, by key beyond `after`; with where to go on, None at the end."""
        here = and_(objects.c.storage == storage, objects.c.state == "live", objects.c.key > after)
        near = select(objects.c.key, objects.c.digest).where(here).order_by(objects.c.key).limit(window).subquery("near")
        mine = and_(media.c.digest == near.c.digest, media.c.storage == storage, media.c.storage_key == near.c.key)
        those = and_(media.c.state != State.DELETED.value, media.c.source_id.is_(None))
        last = select(func.max(near.c.key), func.count()).select_from(near)

        async def work(connection: AsyncConnection) -> tuple[list[Media], str | None]:
            key, count = (await connection.execute(last)).one()
            found = await connection.execute(select(*COLUMNS).join(near, mine).where(those).order_by(media.c.id))
            return [media_of(row) for row in found], key if count == window else None

        return await self._transactions.read(work)

    async def usage(self) -> dict[str, dict[str, Usage]]:
        """Count objects and bytes by storage and state."""
        statement = select(objects.c.storage, objects.c.state, func.count(), func.sum(objects.c.size)).group_by(
            objects.c.storage, objects.c.state
        )

        async def work(connection: AsyncConnection) -> dict[str, dict[str, Usage]]:
            found: dict[str, dict[str, Usage]] = {}
            for storage, state, count, size in await connection.execute(statement):
                found.setdefault(storage, {})[state] = Usage(count, int(size or 0))
            return found

        return await self._transactions.read(work)

    async def _repoint_media(
        self, connection: AsyncConnection, old: Stored, chosen: Selection, to: str, place: tuple[str, str], now: datetime
    ) -> Sequence[str]:
        rows = await connection.execute(
            select(media.c.id, media.c.dedupe_key).where(_is(old), holds(chosen)).order_by(media.c.id).with_for_update()
        )
        ids: list[str] = []
        for own, dedupe_key in rows.all():
            values: Mapping[str, Any] = {
                "storage": to,
                "storage_key": place[0],
                "storage_etag": place[1],
                "dedupe_key": await _free(connection, dedupe_key, to, own, now),
                "updated_at": now,
                "version": media.c.version + 1,
            }
            await connection.execute(update(media).where(media.c.id == own).values(values))
            ids.append(own)
        return ids

    async def _repoint_variants(self, connection: AsyncConnection, old: Stored, chosen: Selection, to: str, key: str) -> Sequence[str]:
        of = _variants_of(chosen)
        if of is None:
            return ()
        mine = and_(variants.c.storage == old.storage, variants.c.key == old.key, of)
        changed = update(variants).where(mine).values(storage=to, key=key).returning(variants.c.media_id)
        return (await connection.scalars(changed)).all()

    async def _let_go(self, connection: AsyncConnection, old: Stored, count: int, now: datetime) -> None:
        if not count:
            return
        last = objects.c.refcount <= count
        values = {
            "state": case((last, "leaving"), else_=objects.c.state),
            "touched_at": case((last, literal(now, objects.c.touched_at.type)), else_=objects.c.touched_at),
            "refcount": objects.c.refcount - count,
        }
        here = and_(objects.c.storage == old.storage, objects.c.key == old.key, objects.c.state == "live")
        await connection.execute(update(objects).where(here).values(values))


def _is(stored: Stored) -> ColumnElement[bool]:
    return and_(media.c.digest == stored.digest, media.c.storage == stored.storage, media.c.storage_key == stored.key)


def _above(ids: Sequence[str]) -> Select[tuple[str]]:
    """The media that these were derived from, however far up."""
    kin = select(media.c.id, media.c.source_id).where(media.c.id.in_(ids), media.c.source_id.is_not(None)).cte(recursive=True)
    kin = kin.union(select(media.c.id, media.c.source_id).join(kin, media.c.id == kin.c.source_id))
    return select(kin.c.id)


def _variants_of(chosen: Selection) -> ColumnElement[bool] | None:
    """Ad-hoc variants go with their media, except where a form is named; `storage` and the sizes are those of the variant's own object."""
    if chosen.variant not in (None, "*"):
        return None
    of = Selection(
        id=chosen.id, owner=chosen.owner, tag=chosen.tag, type=chosen.type, public=chosen.public, before=chosen.before, after=chosen.after
    )
    parts: list[ColumnElement[bool]] = [variants.c.media_id.in_(select(media.c.id).where(holds(of)))]
    if chosen.storage is not None:
        parts.append(variants.c.storage == chosen.storage)
    if chosen.min_size is not None:
        parts.append(variants.c.size >= chosen.min_size)
    if chosen.max_size is not None:
        parts.append(variants.c.size <= chosen.max_size)
    return and_(*parts)


async def _free(connection: AsyncConnection, key: str | None, storage: str, id: str, now: datetime) -> str | None:
    """The key that a media has in its new place; none, where another holds that."""
    if key is None or (moved := moved_key(key, storage)) == key:
        return key
    await free_key(connection, moved, now)
    taken = select(media.c.id).where(media.c.dedupe_key == moved, media.c.id != id)
    return None if (await connection.execute(taken)).first() is not None else moved
