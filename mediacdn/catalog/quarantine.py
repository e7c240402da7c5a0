"""Withholding media and lifting it again: which rows follow one that is withheld, and which come back with it."""

from datetime import datetime

from sqlalchemy import CTE, ColumnElement, delete, select, update
from sqlalchemy.ext.asyncio import AsyncConnection

from mediacdn.catalog.locks import lock_digest
from mediacdn.catalog.owners import Insert
from mediacdn.catalog.tables import media, refusals
from mediacdn.errors import NotFound
from mediacdn.model import State

STEP = {"generation": media.c.generation + 1, "version": media.c.version + 1}


async def withhold(connection: AsyncConnection, insert: Insert, id: str, *, scope: str, reason: str | None, now: datetime) -> list[str]:
    """Quarantine a media with its descendants; by digest also its twins, theirs, and every later upload of the content. Raises: NotFound."""
    digest = await _digest(connection, id)
    roots: ColumnElement[bool] = media.c.id == id
    if scope == "digest" and digest:  # a registered media has no bytes yet, and no twins
        roots = media.c.digest == digest
        refused = insert(refusals).values(digest=digest, reason=reason, created_at=now)
        await connection.execute(refused.on_conflict_do_update(index_elements=["digest"], set_={"reason": reason}))
    ids = select(with_descendants(roots).c.id)
    values = {"state": State.QUARANTINED.value, "quarantine_reason": reason, "quarantined_by": id, "updated_at": now, **STEP}
    live = media.c.state == State.LIVE.value
    changed = await connection.scalars(update(media).where(media.c.id.in_(ids), live).values(values).returning(media.c.id))
    return sorted({id, *changed})


async def lift(connection: AsyncConnection, id: str, *, now: datetime) -> list[str]:
    """Release a media, all that was withheld together with it, and the digest; a deleted one stays deleted, but what it took along is free. Raises: NotFound."""
    digest = await _digest(connection, id, deleted=True)
    root = (await connection.execute(select(media.c.quarantined_by).where(media.c.id == id))).scalar_one() or id
    root_digest = select(media.c.digest).where(media.c.id == root).scalar_subquery()
    await connection.execute(delete(refusals).where((refusals.c.digest == digest) | (refusals.c.digest == root_digest)))
    together = (media.c.quarantined_by == root) & (media.c.state == State.QUARANTINED.value)
    values = {"state": State.LIVE.value, "quarantine_reason": None, "quarantined_by": None, "updated_at": now, **STEP}
    return sorted(await connection.scalars(update(media).where(together).values(values).returning(media.c.id)))


async def _digest(connection: AsyncConnection, id: str, *, deleted: bool = False) -> str:
    here = media.c.id == id
    if not deleted:
        here &= media.c.state != State.DELETED.value
    digest: str | None = (await connection.execute(select(media.c.digest).where(here))).scalar_one_or_none()
    if digest is None:
        raise NotFound()
    await lock_digest(connection, digest)
    return digest


def with_descendants(roots: ColumnElement[bool]) -> CTE:
    """Name the ids of some media and of all that was derived from them."""
    kin = select(media.c.id).where(roots).cte(recursive=True)
    return kin.union(select(media.c.id).join(kin, media.c.source_id == kin.c.id))
