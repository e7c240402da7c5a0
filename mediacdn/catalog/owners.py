"""What each owner holds: bytes and number of media, kept in the transaction that adds or deletes one."""

from collections.abc import Callable

from sqlalchemy import Table, select, update
from sqlalchemy.dialects import postgresql, sqlite
from sqlalchemy.ext.asyncio import AsyncConnection

from mediacdn.catalog.tables import owners
from mediacdn.errors import QuotaExceeded

Insert = Callable[[Table], sqlite.Insert | postgresql.Insert]


async def used(connection: AsyncConnection, owner: str) -> tuple[int, int]:
    """Tell an owner's bytes and number of media."""
    row = (await connection.execute(select(owners.c.bytes, owners.c.count).where(owners.c.owner == owner))).one_or_none()
    return (0, 0) if row is None else (row[0], row[1])


async def charge(connection: AsyncConnection, insert: Insert, owner: str, size: int, quota: int) -> None:
    """Add one media of `size` bytes; the test of the quota (bytes, 0 is none) and the addition are one statement. Raises: QuotaExceeded."""
    add = update(owners).where(owners.c.owner == owner).values(bytes=owners.c.bytes + size, count=owners.c.count + 1)
    if quota:
        add = add.where(owners.c.bytes + size <= quota)
    if (await connection.execute(add)).rowcount == 1:
        return
    await connection.execute(insert(owners).values(owner=owner, bytes=0, count=0).on_conflict_do_nothing())
    if (await connection.execute(add)).rowcount != 1:
        raise QuotaExceeded()


async def weigh(connection: AsyncConnection, owner: str, size: int) -> None:
    """Add bytes of what a media that is counted has besides its own, or take them off; what a recipe makes never fails for a quota, and counts for the next upload."""
    await connection.execute(update(owners).where(owners.c.owner == owner).values(bytes=owners.c.bytes + size))


async def credit(connection: AsyncConnection, owner: str, size: int) -> None:
    """Take one media of `size` bytes off."""
    await connection.execute(update(owners).where(owners.c.owner == owner).values(bytes=owners.c.bytes - size, count=owners.c.count - 1))
