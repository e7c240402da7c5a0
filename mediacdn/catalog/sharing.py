"""Objects that several rows share: taken by one more, and let go of."""

from sqlalchemy import and_, case, update
from sqlalchemy.ext.asyncio import AsyncConnection

from mediacdn.catalog.tables import objects


async def share(connection: AsyncConnection, storage: str, digest: str) -> tuple[str, str] | None:
    """Hold the live object with this content, where there is one: its key and the storage's mark. The caller has locked the digest."""
    same = and_(objects.c.storage == storage, objects.c.digest == digest, objects.c.state == "live")
    take = update(objects).where(same).values(refcount=objects.c.refcount + 1).returning(objects.c.key, objects.c.etag)
    row = (await connection.execute(take)).one_or_none()
    return None if row is None else (row.key, row.etag)


async def let_go(connection: AsyncConnection, storage: str, key: str) -> None:
    """Hold the object no longer; with its last holder it becomes `deleting`."""
    last = {"state": case((objects.c.refcount <= 1, "deleting"), else_=objects.c.state), "refcount": objects.c.refcount - 1}
    mine = and_(objects.c.storage == storage, objects.c.key == key, objects.c.state == "live")
    await connection.execute(update(objects).where(mine).values(last))
