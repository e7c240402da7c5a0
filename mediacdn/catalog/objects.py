"""Objects: which bytes stand at which key, shared by how many media, and how an upload becomes a media in one transaction.

An object is `writing` from before its first byte, `live` from the transaction that inserts its first media, and `deleting` from the one
that took its last: bytes are only removed when their row says so, so an upload racing with that stores its own anew. One whose media were moved to another
storage is `leaving` before that: nobody finds it any more, and those who had may still read it.
"""

from collections.abc import Sequence
from datetime import datetime
from typing import Any

from msgspec import Struct
from msgspec.structs import replace
from sqlalchemy import ColumnElement, and_, bindparam, delete, exists, func, or_, select, tuple_, update
from sqlalchemy.ext.asyncio import AsyncConnection

from mediacdn.catalog.changes import append
from mediacdn.catalog.dedupe import holder
from mediacdn.catalog.derivatives import credit_recipe, like_its_source
from mediacdn.catalog.jobs import plan
from mediacdn.catalog.leases import Held, insist
from mediacdn.catalog.locks import lock_digest
from mediacdn.catalog.outward import Outward
from mediacdn.catalog.owners import charge, credit, used
from mediacdn.catalog.packages import SUBTITLES, Package, drop_package, write_package
from mediacdn.catalog.rows import fulfil, write_media
from mediacdn.catalog.sharing import share
from mediacdn.catalog.tables import LIVE, UNFINISHED, Micros, Name, media, objects, owners, refusals, uploads
from mediacdn.catalog.transactions import Transactions
from mediacdn.catalog.uploads import Ending, claim, end
from mediacdn.errors import CatalogUnavailable, ContentRefused, QuotaExceeded, TakenOver
from mediacdn.interfaces import Clock
from mediacdn.model import Change, Derivation, Media, NewJob


class Settled(Struct, frozen=True):
    """What became of an upload.

    "new": its own bytes are, or are to be, the media's. "shared": the media stands and points to bytes that were there. "duplicate": `media` was there.
    """

    kind: str
    media: Media
    changes: Sequence[Change] = ()
    """What makes cards untrue: those of a media that was registered before, or in whose place a package stands."""


def _at(storage: str, key: str, state: str) -> ColumnElement[bool]:
    return and_(objects.c.storage == storage, objects.c.key == key, objects.c.state == state)


_INTENT = {
    "storage": bindparam("place", type_=Name),
    "key": bindparam("name", type_=Name),
    "size": 0,
    "refcount": 0,
    "state": "writing",
    "touched_at": bindparam("now", type_=Micros()),
    "etag": "",
}
_HELD = select(owners.c.bytes).where(owners.c.owner == bindparam("owner")).scalar_subquery()
_OUTLOOK = select(
    or_(
        exists().where(refusals.c.digest == bindparam("content")),
        exists().where(media.c.dedupe_key == bindparam("twin")),
        exists().where(objects.c.storage == bindparam("place"), objects.c.digest == bindparam("content"), LIVE),
    ),
    func.coalesce(_HELD, 0),
)
"""Whether the catalog knows anything of a content, and the bytes that its owner has."""


def _named(media: Media, dedupe_key: str | None) -> dict[str, Any]:
    return {"content": media.digest, "twin": dedupe_key, "place": media.storage, "owner": media.owner}


class ObjectRows:
    """Objects by storage and key. Sizes are bytes, digests lower-case hexadecimal SHA-256."""

    def __init__(self, transactions: Transactions, clock: Clock, outward: Outward) -> None:
        self._transactions = transactions
        self._clock = clock
        self._outward = outward
        intent = transactions.insert(objects).values(_INTENT)
        self._intend = intent.on_conflict_do_update(
            index_elements=["storage", "key"], set_={"touched_at": _INTENT["touched_at"]}, where=objects.c.state == "writing"
        ).returning(objects.c.key)
        self._intend_words = transactions.words(self._intend)
        self._outlook_words = transactions.words(_OUTLOOK)

    async def intend(self, storage: str, key: str, ending: Ending | None = None) -> None:
        """Say that bytes are about to be written at a key that no media ever had; until `commit` they belong to the sweeper once nobody touches them.

        An upload that is tried again says it again; `ending` is the one whose bytes wait elsewhere, which may have to learn of the key.
        Raises: CatalogUnavailable, also when the sweeper has taken the key away; TakenOver, when another ends the upload.
        """
        row = {"place": storage, "name": key, "now": self._clock.now()}
        if ending is None or not ending.claims:
            intended = await self._transactions.stroke(self._intend_words, **row) is not None
        else:

            async def work(connection: AsyncConnection) -> bool:
                if not await claim(connection, ending, storage, key):
                    raise TakenOver()
                return (await connection.execute(self._intend, row)).first() is not None

            intended = await self._transactions.write(work)
        if not intended:
            raise CatalogUnavailable("The upload took too long to finish and was swept away; send it again")

    async def touch(self, keys: Sequence[tuple[str, str]]) -> None:
        """Say that these (storage, key) are still being written."""
        if not keys:
            return
        named = tuple_(objects.c.storage, objects.c.key).in_(keys)

        async def work(connection: AsyncConnection) -> None:
            await connection.execute(update(objects).where(named, objects.c.state == "writing").values(touched_at=self._clock.now()))

        await self._transactions.write(work)

    async def being_written(self, storage: str) -> set[str]:
        """The keys of a storage at which somebody writes, or wrote until a moment ago."""
        query = select(objects.c.key).where(objects.c.storage == storage, objects.c.state == "writing")

        async def work(connection: AsyncConnection) -> set[str]:
            return {key for (key,) in await connection.execute(query)}

        return await self._transactions.read(work)

    async def settle(
        self, media: Media, *, dedupe_key: str | None, quota: int, jobs: Sequence[NewJob] = (), registered: bool = False
    ) -> Settled:
        """Spare the bytes of an upload whose digest is known, where that is possible; `media` names the key that was intended.

        "duplicate" and "shared" are final and the intent is gone; "new" has written nothing and asks for the bytes and `commit`.
        `quota` is the owner's bytes, 0 for none. A `registered` media has its row already, and is nobody's duplicate: its id was told.
        Raises: ContentRefused, QuotaExceeded (the intent stays), CatalogUnavailable, also when a registered media was changed meanwhile.
        """

        # Most content is new: a look tells, and what becomes true right after it `commit` sees.
        known, held = await self._transactions.point(self._outlook_words, **_named(media, dedupe_key)) or (True, 0)
        if not known and (not quota or held + media.size <= quota):
            return Settled("new", media)

        async def work(connection: AsyncConnection) -> Settled:
            settled = await self._without_bytes(connection, media, dedupe_key, quota, jobs, registered)
            if settled is not None:
                await connection.execute(delete(objects).where(_at(media.storage, media.storage_key, "writing")))
                return settled
            if quota and (await used(connection, media.owner))[0] + media.size > quota:
                raise QuotaExceeded()
            return Settled("new", media)

        return await self._transactions.write(work)

    async def commit(
        self,
        media: Media,
        *,
        dedupe_key: str | None,
        quota: int,
        etag: str,
        jobs: Sequence[NewJob] = (),
        held: Held | None = None,
        by: Derivation | None = None,
        package: Package | None = None,
        registered: bool = False,
        ending: Ending | None = None,
    ) -> Settled:
        """Record a media whose bytes are durable at its key, with its `jobs`; `etag` is the storage's mark of them.

        "duplicate" and "shared" tell of a twin that was quicker: the bytes at the intended key are then to be deleted, and forgotten.
        A derivative is as visible as its source is at this moment; `held` is the lease under which it was made, `by` the recipe, `package` the files that are
        published with it; `ending` is the upload that is over with this.
        Raises: ContentRefused, QuotaExceeded (the intent stays, to be abandoned), CatalogUnavailable, also when the sweeper took the intent away;
        Gone, when the source is not to be read any more; LeaseLost; TakenOver, when another ends the upload.
        """
        given = replace(media, storage_etag=etag)
        intent = _at(media.storage, media.storage_key, "writing")

        async def over(connection: AsyncConnection, settled: Settled) -> None:
            created = settled.kind != "duplicate"
            if ending is not None and not await end(connection, ending.upload, ending.fence, settled.media.id, created):
                raise TakenOver()

        async def work(connection: AsyncConnection) -> Settled:
            if held is not None:
                await insist(connection, held)
            media = given if given.source_id is None else await like_its_source(connection, given)
            settled = await self._without_bytes(connection, media, dedupe_key, quota, jobs, registered)
            if settled is not None:
                await connection.execute(update(objects).where(intent).values(state="deleting"))
                await over(connection, settled)
                if by is not None:
                    await credit_recipe(connection, self._transactions.insert, settled.media.id, by)
                return await self._packed(connection, settled, package)
            live = {
                "state": "live",
                "digest": media.digest,
                "size": media.size,
                "refcount": 1,
                "etag": etag,
                "touched_at": self._clock.now(),
            }
            if (await connection.execute(update(objects).where(intent).values(live))).rowcount != 1:
                raise CatalogUnavailable("The upload took too long to finish and was swept away; send it again")
            settled = Settled("new", media, await self._write(connection, media, dedupe_key, quota, jobs, registered))
            await over(connection, settled)
            if by is not None:
                await credit_recipe(connection, self._transactions.insert, media.id, by)
            return await self._packed(connection, settled, package)

        return await self._transactions.write(work)

    async def _packed(self, connection: AsyncConnection, settled: Settled, package: Package | None) -> Settled:
        """Publish the package of a derivative that was recorded; one that was there has its own."""
        if package is None:
            return await self._replaced(connection, settled)
        if settled.kind == "duplicate":
            await drop_package(connection, settled.media.storage, package.prefix)
            return settled
        changes, anew = await write_package(connection, settled.media, package, self._clock.now())
        return await self._made_anew(connection, settled, changes) if anew else replace(settled, changes=tuple(changes))

    async def _replaced(self, connection: AsyncConnection, settled: Settled) -> Settled:
        """Say of the source that what is read by a relationship is another one now; the first one of it makes nothing untrue, unless manifests list it."""
        made = settled.media
        if settled.kind == "duplicate" or made.source_id is None or made.relationship is None:
            return settled
        before = and_(media.c.source_id == made.source_id, media.c.relationship == made.relationship, media.c.id < made.id)
        listed = made.relationship.startswith(SUBTITLES)
        if not listed and (await connection.execute(select(media.c.id).where(before).limit(1))).first() is None:
            return settled
        return await self._made_anew(connection, settled, await append(connection, [made.source_id], self._clock.now()))

    async def _made_anew(self, connection: AsyncConnection, settled: Settled, changes: Sequence[Change]) -> Settled:
        """What was read by a source's path is another one now; caches in front are told of it too."""
        made = settled.media
        if made.public and made.source_id is not None:
            await self._outward.plan(connection, [made.source_id], self._clock.now())
        return replace(settled, changes=tuple(changes))

    async def _without_bytes(
        self, connection: AsyncConnection, media: Media, dedupe_key: str | None, quota: int, jobs: Sequence[NewJob], registered: bool
    ) -> Settled | None:
        """Answer with what is already there: the media itself, or its bytes under another media."""
        await lock_digest(connection, media.digest)
        if not (await connection.execute(_OUTLOOK, _named(media, dedupe_key))).one()[0]:
            return None
        if (await connection.execute(select(refusals.c.digest).where(refusals.c.digest == media.digest))).first() is not None:
            raise ContentRefused()
        if not registered and dedupe_key is not None and (existing := await holder(connection, dedupe_key, self._clock.now())) is not None:
            return Settled("duplicate", existing)
        if (found := await share(connection, media.storage, media.digest)) is None:
            return None
        shared = replace(media, storage_key=found[0], storage_etag=found[1])
        return Settled("shared", shared, await self._write(connection, shared, dedupe_key, quota, jobs, registered))

    async def _write(
        self, connection: AsyncConnection, media: Media, dedupe_key: str | None, quota: int, jobs: Sequence[NewJob], registered: bool
    ) -> list[Change]:
        await charge(connection, self._transactions.insert, media.owner, media.size, quota)
        if registered:
            await credit(connection, media.owner, 0)  # it was counted when it was registered
            taken = dedupe_key is not None and await holder(connection, dedupe_key, self._clock.now()) is not None
            if not await fulfil(connection, media, None if taken else dedupe_key):
                raise CatalogUnavailable("The media was changed meanwhile; try again")
        else:
            await write_media(connection, media, dedupe_key)
        await plan(connection, jobs, self._clock.now())
        return await append(connection, [media.id] if registered else [], self._clock.now())

    async def abandon(self, storage: str, key: str) -> bool:
        """Give up an intended key. True: its bytes are the caller's to delete; False: they are a media's by now, or were given up and forgotten."""

        async def work(connection: AsyncConnection) -> bool:
            await connection.execute(update(objects).where(_at(storage, key, "writing")).values(state="deleting"))
            return (await connection.execute(select(objects.c.key).where(_at(storage, key, "deleting")))).first() is not None

        return await self._transactions.write(work)

    async def lives(self, storage: str, key: str) -> bool:
        """Whether the bytes at a key are some media's."""

        async def work(connection: AsyncConnection) -> bool:
            return (await connection.execute(select(objects.c.key).where(_at(storage, key, "live")))).first() is not None

        return await self._transactions.read(work)

    async def forget(self, storage: str, key: str) -> None:
        """Drop the row of an object whose bytes are gone; idempotent."""

        async def work(connection: AsyncConnection) -> None:
            await connection.execute(delete(objects).where(_at(storage, key, "deleting")))

        await self._transactions.write(work)

    async def leftovers(
        self, older_than: datetime, limit: int = 100, *, dry_run: bool = False, left_before: datetime | None = None
    ) -> list[tuple[str, str]]:
        """Name up to `limit` (storage, key) whose bytes are to be deleted: those given up, those intended but untouched since `older_than`, and those
        whose media were moved away before `left_before`.

        The latter two are thereby given up, unless this is a `dry_run`.
        """
        claimed = select(uploads.c.id).where(uploads.c.storage == objects.c.storage, uploads.c.key == objects.c.key, UNFINISHED).exists()
        stale = and_(objects.c.state == "writing", objects.c.touched_at < older_than, ~claimed)
        if left_before is not None:
            stale = or_(stale, and_(objects.c.state == "leaving", objects.c.touched_at < left_before))
        some = select(objects.c.storage, objects.c.key).order_by(objects.c.touched_at).limit(limit)
        # The update tests the state once more by itself: an upload that commits meanwhile keeps its bytes.
        give_up = update(objects).where(stale, tuple_(objects.c.storage, objects.c.key).in_(some.where(stale))).values(state="deleting")

        async def look(connection: AsyncConnection) -> list[tuple[str, str]]:
            due = some.where(or_(objects.c.state == "deleting", stale) if dry_run else objects.c.state == "deleting")
            return [(storage, key) for storage, key in await connection.execute(due)]

        async def work(connection: AsyncConnection) -> list[tuple[str, str]]:
            await connection.execute(give_up)
            return await look(connection)

        return await (self._transactions.read(look) if dry_run else self._transactions.write(work))
