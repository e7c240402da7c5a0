"""Media: reading, listing, changing, withholding and deleting their rows. A row is made by the object's commit."""

from collections.abc import Callable, Mapping, Sequence
from datetime import datetime
from typing import Any

from msgspec.structs import replace
from sqlalchemy import and_, bindparam, case, select, update
from sqlalchemy.ext.asyncio import AsyncConnection

from mediacdn.catalog.changes import append
from mediacdn.catalog.dedupe import free_key
from mediacdn.catalog.derivatives import FOLLOWED, follow, forget_recipes, within_its_source
from mediacdn.catalog.jobs import plan
from mediacdn.catalog.locks import lock_digest
from mediacdn.catalog.outward import Outward
from mediacdn.catalog.owners import credit, used
from mediacdn.catalog.packages import SUBTITLES, forget_package
from mediacdn.catalog.pages import Filters, page
from mediacdn.catalog.quarantine import lift, withhold
from mediacdn.catalog.rows import CARD_COLUMNS, COLUMNS, WITHOUT_BYTES, card_of, erase_tags, media_of, write_tags
from mediacdn.catalog.sharing import let_go
from mediacdn.catalog.tables import jobs, media
from mediacdn.catalog.transactions import Transactions
from mediacdn.catalog.variants import forget_variants
from mediacdn.errors import DuplicateExists, InvalidParameter, NotFound, PreconditionFailed
from mediacdn.interfaces import Clock
from mediacdn.model import Card, Change, Media, NewJob, State, Status

CHANGEABLE = frozenset({"title", "tags", "public", "expires_at", "metadata"})

BY_ID = select(*COLUMNS).where(media.c.id == bindparam("id"))
CARD_BY_ID = select(*CARD_COLUMNS).where(media.c.id == bindparam("id"))

GONE = State.DELETED.value


class MediaRows:
    """Media by id. A deleted one keeps its row as a tombstone.

    Whatever makes cards untrue gives the changes of the sequence that say so, already committed; also where it found its work done, since who did
    it may have died before it told anybody.
    """

    def __init__(self, transactions: Transactions, clock: Clock, outward: Outward) -> None:
        self._transactions = transactions
        self._clock = clock
        self._outward = outward
        self._media_words = transactions.words(BY_ID)
        self._card_words = transactions.words(CARD_BY_ID)

    async def get(self, id: str) -> Media | None:
        """Read a media, whatever its state; None for an id that never was."""
        row = await self._transactions.point(self._media_words, id=id)
        return None if row is None else media_of(self._media_words.read(row))

    async def card(self, id: str) -> Card | None:
        """Read what delivery needs of a media, whatever its state."""
        row = await self._transactions.point(self._card_words, id=id)
        return None if row is None else card_of(row)

    async def page(
        self,
        *,
        limit: int,
        after: str | None = None,
        owner: str | None = None,
        tag: str | None = None,
        media_type: str | None = None,
        status: str | None = None,
        created_after: datetime | None = None,
        visible_to: str | None = None,
        include_hidden: bool = False,
        quarantined: bool = False,
    ) -> tuple[list[Media], str | None]:
        """List media, newest id first, of ids below `after`; with the cursor of the next page, None at the end.

        `media_type` is exact or a range such as image/*; `visible_to` keeps what is public or that owner's own. Deleted media are never listed;
        quarantined and expired ones with `include_hidden`, and with `quarantined` what is withheld alone. A page costs the same at any depth and any number of rows.
        """
        filters = Filters(owner, tag, media_type, status, created_after, visible_to, include_hidden, quarantined)
        return await self._transactions.read(lambda connection: page(connection, filters, limit=limit, after=after, now=self._clock.now()))

    async def change(
        self, id: str, changes: Mapping[str, Any], *, dedupe_key: str | None, version: int | None
    ) -> tuple[Media, list[Change]]:
        """Change title, tags, public, expires_at or metadata; `dedupe_key` is the key of the media as it will be, `version` the one that the caller saw.

        Making a public media private kills its links and every copy. Raises: NotFound, PreconditionFailed (another version),
        DuplicateExists (another media has the key), InvalidParameter, also where a derivative would be more visible than its source.
        """
        if unknown := changes.keys() - CHANGEABLE:
            raise InvalidParameter(f"{min(unknown)} cannot be changed")

        async def work(connection: AsyncConnection) -> tuple[Media, list[Change]]:
            now = self._clock.now()
            row = (
                await connection.execute(select(*COLUMNS).where(media.c.id == id, media.c.state != GONE).with_for_update())
            ).one_or_none()
            if row is None:
                raise NotFound()
            before = media_of(row)
            if version is not None and version != before.version:
                raise PreconditionFailed("The record was changed since it was read")
            if before.source_id is not None and changes.keys() & {"public", "expires_at"}:
                await within_its_source(connection, replace(before, **changes))
            values = {**changes, "updated_at": now, "version": before.version + 1}
            if "tags" in changes:
                values["tags"] = tuple(dict.fromkeys(changes["tags"]))
                await erase_tags(connection, id)
                await write_tags(connection, id, values["tags"])
            if before.public and not changes.get("public", True):
                values.update(links_valid_from=max(before.links_valid_from, int(now.timestamp()) + 1), generation=before.generation + 1)
            if dedupe_key is not None:
                await free_key(connection, dedupe_key, now)
            await connection.execute(update(media).where(media.c.id == id).values(**values, dedupe_key=dedupe_key))
            family = await follow(connection, id, values) if values.keys() & FOLLOWED else []
            if before.public and (not changes.get("public", True) or "expires_at" in changes):
                await self._outward.plan(connection, [id, *family], now)
            return replace(before, **values), await append(connection, [id, *family], now)

        return await self._transactions.write(work, clash=DuplicateExists)

    async def delete(self, id: str, *, expired: bool = False) -> tuple[Media | None, list[Change]]:
        """Leave a tombstone and let go of the object, whose state becomes `deleting` with its last media; None when there is nothing to delete, or, with `expired`,
        when its time has not passed, or was prolonged.
        """

        async def work(connection: AsyncConnection) -> tuple[Media | None, list[Change]]:
            now = self._clock.now()
            here = (media.c.id == id) & (media.c.state != GONE)
            if expired:
                here &= media.c.expires_at <= now
            digest = (await connection.execute(select(media.c.digest).where(media.c.id == id))).scalar_one_or_none()
            if digest is None:
                return None, []
            await lock_digest(connection, digest)
            values = {"state": GONE, "dedupe_key": None, "updated_at": now, "version": media.c.version + 1}
            row = (await connection.execute(update(media).where(here).values(values).returning(*COLUMNS))).one_or_none()
            if row is None:
                return None, await append(connection, [id], now)
            gone = media_of(row)
            await erase_tags(connection, id)
            await credit(connection, gone.owner, gone.size)
            await let_go(connection, gone.storage, gone.storage_key)
            await forget_variants(connection, id)
            untrue = [id]
            if gone.source_id is not None and gone.relationship is not None and gone.relationship.startswith(SUBTITLES):
                untrue.append(gone.source_id)  # its manifests list it
            if gone.public:
                await self._outward.plan(connection, untrue, now)
            await forget_recipes(connection, id)
            await forget_package(connection, gone)
            return gone, await append(connection, untrue, now)

        return await self._transactions.write(work)

    async def give_up(self, id: str, why: str) -> list[Change]:
        """Say of a media without bytes that none will come, and why; nothing when it has some, or is not here."""
        waiting = (media.c.id == id) & media.c.status.in_(WITHOUT_BYTES) & (media.c.state != GONE)

        async def work(connection: AsyncConnection) -> list[Change]:
            now = self._clock.now()
            values = {"status": Status.FAILED.value, "error_message": why, "updated_at": now, "version": media.c.version + 1}
            found = (await connection.execute(update(media).where(waiting).values(values))).rowcount
            return await append(connection, [id] if found else [], now)

        return await self._transactions.write(work)

    async def expired(self, limit: int = 100) -> list[str]:
        """Name up to `limit` media whose time has passed and whose rows are still here, the longest expired first."""
        over = media.c.expires_at <= self._clock.now()

        async def work(connection: AsyncConnection) -> list[str]:
            statement = select(media.c.id).where(media.c.state != GONE, over).order_by(media.c.expires_at).limit(limit)
            return list(await connection.scalars(statement))

        return await self._transactions.read(work)

    async def quarantine(self, id: str, *, scope: str, reason: str | None) -> tuple[list[str], list[Change]]:
        """Withhold a media and what was derived from it; with scope "digest" also its twins, what was derived from them, and later uploads.

        Tells the ids of what is withheld by this, the media itself always. Raises: NotFound, InvalidParameter.
        """
        if scope not in {"media", "digest"}:
            raise InvalidParameter('scope is "media" or "digest"')

        async def work(connection: AsyncConnection) -> tuple[list[str], list[Change]]:
            now = self._clock.now()
            ids = await withhold(connection, self._transactions.insert, id, scope=scope, reason=reason, now=now)
            await self._outward.plan(connection, ids, now)
            return ids, await append(connection, ids, now)

        return await self._transactions.write(work)

    async def release(self, id: str, planned: Callable[[Media], Sequence[NewJob]] | None = None) -> tuple[list[str], list[Change]]:
        """Lift a quarantine from all that it withheld, and from the digest; tells the ids. What was withheld from its first moment gets its jobs now. Raises: NotFound."""

        async def work(connection: AsyncConnection) -> tuple[list[str], list[Change]]:
            now = self._clock.now()
            ids = await lift(connection, id, now=now)
            if planned is not None:
                await self._make_up(connection, ids, planned, now)
            return ids, await append(connection, [id, *ids], now)

        return await self._transactions.write(work)

    async def _make_up(
        self, connection: AsyncConnection, ids: list[str], planned: Callable[[Media], Sequence[NewJob]], now: datetime
    ) -> None:
        """Plan the jobs of those that have had none. One whose jobs were removed by their age keeps what they made, and does not get them again."""
        derived = media.alias()
        never = and_(
            media.c.id.in_(ids),
            media.c.source_id.is_(None),
            ~select(jobs.c.id).where(jobs.c.media_id == media.c.id).exists(),
            ~select(derived.c.id).where(derived.c.source_id == media.c.id).exists(),
        )
        for row in (await connection.execute(select(*COLUMNS).where(never))).all():
            wanted = planned(record := media_of(row))
            await plan(connection, wanted, now)
            if any(each.required for each in wanted):
                await connection.execute(update(media).where(media.c.id == record.id).values(status=Status.UPLOADED.value))

    async def revoke(self, id: str, at: int) -> tuple[Media, list[Change]]:
        """Kill every link issued before `at` (unix seconds), also those to what was made of it; an earlier moment than one already set changes nothing. Raises: NotFound."""
        valid_from = case((media.c.links_valid_from < at, at), else_=media.c.links_valid_from)

        async def work(connection: AsyncConnection) -> tuple[Media, list[Change]]:
            now = self._clock.now()
            values = {"links_valid_from": valid_from, "updated_at": now, "version": media.c.version + 1}
            statement = update(media).where(media.c.id == id, media.c.state != GONE).values(values).returning(*COLUMNS)
            row = (await connection.execute(statement)).one_or_none()
            if row is None:
                raise NotFound()
            family = await follow(connection, id, values)
            return media_of(row), await append(connection, [id, *family], now)

        return await self._transactions.write(work)

    async def usage(self, owner: str) -> tuple[int, int]:
        """Tell an owner's bytes and number of media, deleted ones left out."""
        return await self._transactions.read(lambda connection: used(connection, owner))
