"""Content that is refused here, by digest: uploads of it are turned away as long as its row stands."""

from sqlalchemy import delete, select
from sqlalchemy.ext.asyncio import AsyncConnection

from mediacdn.catalog.locks import lock_digest
from mediacdn.catalog.tables import refusals
from mediacdn.catalog.transactions import Transactions
from mediacdn.interfaces import Clock


class RefusalRows:
    """Refused digests, each lower-case hexadecimal SHA-256."""

    def __init__(self, transactions: Transactions, clock: Clock) -> None:
        self._transactions = transactions
        self._clock = clock

    async def add(self, digest: str, reason: str | None) -> None:
        """Refuse a digest; a second time changes the reason."""
        row = {"digest": digest, "reason": reason, "created_at": self._clock.now()}
        insert = self._transactions.insert(refusals).values(row)

        async def work(connection: AsyncConnection) -> None:
            await lock_digest(connection, digest)
            await connection.execute(insert.on_conflict_do_update(index_elements=["digest"], set_={"reason": reason}))

        await self._transactions.write(work)

    async def remove(self, digest: str) -> None:
        """Accept a digest again; idempotent."""

        async def work(connection: AsyncConnection) -> None:
            await lock_digest(connection, digest)
            await connection.execute(delete(refusals).where(refusals.c.digest == digest))

        await self._transactions.write(work)

    async def get(self, digest: str) -> str | None:
        """Tell why a digest is refused: "" when no reason was given, None when it is not refused."""

        async def work(connection: AsyncConnection) -> str | None:
            row = (await connection.execute(select(refusals.c.reason).where(refusals.c.digest == digest))).one_or_none()
            return None if row is None else row.reason or ""

        return await self._transactions.read(work)
