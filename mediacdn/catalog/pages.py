"""The list of media, newest first: a statement for each set of filters whose cost is that of one page, however many rows there are."""

from datetime import datetime
from typing import Any

from msgspec import Struct
from sqlalchemy import ColumnElement, Select, and_, or_, select, union_all
from sqlalchemy.ext.asyncio import AsyncConnection

from mediacdn.catalog.rows import COLUMNS, media_of
from mediacdn.catalog.tables import HERE, WITHHELD, media, media_tags
from mediacdn.model import Media, State

FEW = 1000
"""Up to so many rows newer than `created_after` are looked up and sorted; beyond, walking back by id meets enough of them at once."""


class Filters(Struct, frozen=True):
    """What a listed media must be. `media_type` is exact or a range such as image/*; `visible_to` keeps what is public or that owner's own."""

    owner: str | None = None
    tag: str | None = None
    media_type: str | None = None
    status: str | None = None
    created_after: datetime | None = None
    visible_to: str | None = None
    include_hidden: bool = False
    quarantined: bool = False
    """Those that are withheld, whatever else they are, and no others: originals, and what was withheld by itself and not with its source."""


async def page(
    connection: AsyncConnection, filters: Filters, *, limit: int, after: str | None, now: datetime
) -> tuple[list[Media], str | None]:
    """Read one page of ids below `after`, and the cursor of the next or None at the end."""
    few = filters.created_after is not None and await _few_since(connection, filters.created_after)
    branches = [_branch(filters, visible, few=few, after=after, now=now).limit(limit + 1) for visible in _visible(filters)]
    statement: Any = branches[0]
    if len(branches) > 1:
        # "Mine or public" is the newest of two lists: an OR would leave both of their indexes unused.
        whole = union_all(*(select(branch.subquery()) for branch in branches)).subquery()
        statement = select(whole).order_by(whole.c.id.desc()).limit(limit + 1)
    found = [media_of(row) for row in await connection.execute(statement)]
    return found[:limit], (found[limit - 1].id if len(found) > limit else None)


def _visible(filters: Filters) -> list[list[ColumnElement[bool]]]:
    reader, owner = filters.visible_to, filters.owner
    if reader is None or reader == owner:
        return [[media.c.owner == owner]] if owner is not None else [[]]
    if owner is not None:
        return [[media.c.owner == owner, media.c.public.is_(True)]]
    return [[media.c.owner == reader], [media.c.owner != reader, media.c.public.is_(True)]]


def _branch(filters: Filters, visible: list[ColumnElement[bool]], *, few: bool, after: str | None, now: datetime) -> Select[Any]:
    listed: ColumnElement[bool] = media.c.source_id.is_(None)  # derivatives are listed with what they were made of
    if filters.quarantined:
        listed = and_(WITHHELD, or_(listed, media.c.quarantined_by == media.c.id))
    statement = select(*COLUMNS).where(HERE, *visible, listed)
    walked = media.c.id
    if filters.tag is not None:
        # The same ids, but those of the index to walk: SQLite does not see through the join and would sort.
        walked = media_tags.c.media_id
        statement = statement.join(media_tags, walked == media.c.id).where(media_tags.c.tag == filters.tag)
    statement = statement.order_by(walked.desc())
    if after is not None:
        statement = statement.where(walked < after)
    if filters.media_type is not None:
        family, _, rest = filters.media_type.partition("/")
        if filters.media_type != "*/*":
            statement = statement.where(media.c.family == family if rest == "*" else media.c.media_type == filters.media_type)
    if filters.status is not None:
        statement = statement.where(media.c.status == filters.status)
    if filters.created_after is not None:
        if few:
            recent = _since(filters.created_after).subquery("recent")
            statement = statement.join(recent, recent.c.id == media.c.id)
        else:
            statement = statement.where(media.c.created_at > filters.created_after)
    if not filters.include_hidden and not filters.quarantined:
        statement = statement.where(media.c.state == State.LIVE.value, or_(media.c.expires_at.is_(None), media.c.expires_at > now))
    return statement


def _since(moment: datetime) -> Select[tuple[str]]:
    return select(media.c.id).where(HERE, media.c.created_at > moment).limit(FEW + 1)


async def _few_since(connection: AsyncConnection, moment: datetime) -> bool:
    return len((await connection.execute(_since(moment))).all()) <= FEW
