"""Ancestry: what a media was made of, and what was made of it, read along `source_id`. Nothing can be its own source; what is walked is bounded all the same."""

from typing import Any

from msgspec import Struct
from sqlalchemy import ColumnElement, Select, and_, literal, or_, select
from sqlalchemy.ext.asyncio import AsyncConnection

from mediacdn.catalog.rows import COLUMNS, media_of
from mediacdn.catalog.tables import HERE, media
from mediacdn.catalog.transactions import Transactions
from mediacdn.interfaces import Clock
from mediacdn.model import Media, State

DEEPEST = 64
"""Generations that are walked, up or down."""


class Kin(Struct, frozen=True):
    """Which relatives to list: `relationship` is what they are to their own source; `visible_to` keeps what is public or that owner's own."""

    relationship: str | None = None
    visible_to: str | None = None


class AncestryRows:
    """Relatives by a media's id. Deleted, quarantined and expired ones are walked through and left out."""

    def __init__(self, transactions: Transactions, clock: Clock) -> None:
        self._transactions = transactions
        self._clock = clock

    async def ancestors(self, id: str, kin: Kin, *, limit: int, after: str | None = None) -> tuple[list[Media], str | None]:
        """List what the media was made of, its own source first, from behind `after`, nothing behind what is none of them; with the cursor of the next page."""
        line = select(media.c.source_id.label("id"), literal(1).label("depth")).where(media.c.id == id).cte("line", recursive=True)
        above = select(media.c.source_id, line.c.depth + 1).join(line, media.c.id == line.c.id)
        line = line.union_all(above.where(line.c.depth < DEEPEST, line.c.id.is_not(None)))

        async def work(connection: AsyncConnection) -> tuple[list[Media], str | None]:
            depth = 0
            if after is not None:
                found = (await connection.execute(select(line.c.depth).where(line.c.id == after))).first()
                depth = DEEPEST if found is None else found[0]
            statement = select(*COLUMNS).join(line, media.c.id == line.c.id).where(line.c.depth > depth, *self._shown(kin))
            return await _page(connection, statement.order_by(line.c.depth), limit)

        return await self._transactions.read(work)

    async def descendants(self, id: str, kin: Kin, *, limit: int, after: str | None = None) -> tuple[list[Media], str | None]:
        """List all that was made of the media and of what was made of it, newest first, of ids below `after`."""
        tree = select(media.c.id, literal(1).label("depth")).where(media.c.source_id == id).cte("tree", recursive=True)
        below = select(media.c.id, tree.c.depth + 1).join(tree, media.c.source_id == tree.c.id)
        tree = tree.union_all(below.where(tree.c.depth < DEEPEST))
        return await self._down(media.c.id.in_(select(tree.c.id)) & (media.c.id != id), kin, limit, after)

    async def derivatives(self, id: str, kin: Kin, *, limit: int, after: str | None = None) -> tuple[list[Media], str | None]:
        """List what was made of the media itself, newest first, of ids below `after`."""
        return await self._down(media.c.source_id == id, kin, limit, after)

    async def derived(self, *, limit: int, after: str = "") -> list[Media]:
        """List whatever was made of anything, oldest first, of ids above `after`."""
        statement = select(*COLUMNS).where(HERE, media.c.id > after, media.c.source_id.is_not(None), *self._shown(Kin()))

        async def work(connection: AsyncConnection) -> list[Media]:
            return [media_of(row) for row in await connection.execute(statement.order_by(media.c.id).limit(limit))]

        return await self._transactions.read(work)

    async def _down(self, which: ColumnElement[bool], kin: Kin, limit: int, after: str | None) -> tuple[list[Media], str | None]:
        statement = select(*COLUMNS).where(which, *self._shown(kin), *([media.c.id < after] if after else []))
        return await self._transactions.read(lambda connection: _page(connection, statement.order_by(media.c.id.desc()), limit))

    def _shown(self, kin: Kin) -> list[ColumnElement[bool]]:
        """The rules of listings, and those of the caller."""
        alive = or_(media.c.expires_at.is_(None), media.c.expires_at > self._clock.now())
        where = [and_(media.c.state == State.LIVE.value, alive)]
        if kin.relationship is not None:
            where.append(media.c.relationship == kin.relationship)
        if kin.visible_to is not None:
            where.append(or_(media.c.owner == kin.visible_to, media.c.public.is_(True)))
        return where


async def _page(connection: AsyncConnection, statement: Select[Any], limit: int) -> tuple[list[Media], str | None]:
    found = [media_of(row) for row in await connection.execute(statement.limit(limit + 1))]
    return found[:limit], (found[limit - 1].id if len(found) > limit else None)
