"""Answers already given, by Idempotency-Key: which request holds a key, until when, and what was answered."""

import secrets
from datetime import datetime, timedelta

from msgspec import Struct
from sqlalchemy import delete, or_, select, update
from sqlalchemy.ext.asyncio import AsyncConnection

from mediacdn.catalog.tables import MICROSECOND, idempotency
from mediacdn.catalog.transactions import Transactions
from mediacdn.errors import IdempotencyInFlight
from mediacdn.interfaces import Clock


class Begun(Struct, frozen=True):
    """The key is the caller's: it does the work and then says `finish` or `drop` with this token."""

    token: str


class Answered(Struct, frozen=True):
    """The work was done before: this is what was answered, and the fingerprint of the request that was."""

    status: int
    media_id: str
    fingerprint: str


class IdempotencyRows:
    """Keys as each principal sent them to each route."""

    def __init__(self, transactions: Transactions, clock: Clock) -> None:
        self._transactions = transactions
        self._clock = clock

    async def begin(self, principal: str, route: str, key: str, *, lease: timedelta) -> Begun | Answered:
        """Take a key for `lease`, also from a holder whose own lease has run out. Raises: IdempotencyInFlight."""
        now, token = self._clock.now(), secrets.token_urlsafe(16)
        held = {"token": token, "lease": lease // MICROSECOND, "lease_until": now + lease, "created_at": now}
        insert = self._transactions.insert(idempotency).values(principal=principal, route=route, key=key, **held)
        mine = (idempotency.c.principal == principal) & (idempotency.c.route == route) & (idempotency.c.key == key)

        async def work(connection: AsyncConnection) -> Begun | Answered:
            if (await connection.execute(insert.on_conflict_do_nothing())).rowcount == 1:
                return Begun(token)
            expired = mine & idempotency.c.status.is_(None) & (idempotency.c.lease_until <= now)
            if (await connection.execute(update(idempotency).where(expired).values(held))).rowcount == 1:
                return Begun(token)
            row = (await connection.execute(select(idempotency).where(mine))).one_or_none()
            if row is None or row.status is None:  # running, or dropped between the two statements: the client may try again
                raise IdempotencyInFlight()
            return Answered(row.status, row.media_id, row.fingerprint)

        return await self._transactions.write(work)

    async def touch(self, token: str) -> None:
        """Lengthen the lease by its own length from now; nothing when the key was taken over."""
        running = (idempotency.c.token == token) & idempotency.c.status.is_(None)

        async def work(connection: AsyncConnection) -> None:
            lease = (await connection.execute(select(idempotency.c.lease).where(running))).scalar_one_or_none()
            if lease is not None:
                until = self._clock.now() + lease * MICROSECOND
                await connection.execute(update(idempotency).where(running).values(lease_until=until))

        await self._transactions.write(work)

    async def finish(self, token: str, *, status: int, media_id: str, fingerprint: str) -> None:
        """Remember the answer; nothing when the key was taken over, whose new holder answers for itself."""
        answer = {"status": status, "media_id": media_id, "fingerprint": fingerprint}

        async def work(connection: AsyncConnection) -> None:
            await connection.execute(update(idempotency).where(idempotency.c.token == token).values(answer))

        await self._transactions.write(work)

    async def drop(self, token: str) -> None:
        """Give the key back unanswered, so that a retry runs anew; idempotent."""

        async def work(connection: AsyncConnection) -> None:
            await connection.execute(delete(idempotency).where(idempotency.c.token == token, idempotency.c.status.is_(None)))

        await self._transactions.write(work)

    async def purge(self, older_than: datetime) -> int:
        """Forget keys taken before `older_than` and no longer running; tell how many."""
        over = or_(idempotency.c.status.is_not(None), idempotency.c.lease_until <= self._clock.now())

        async def work(connection: AsyncConnection) -> int:
            return (await connection.execute(delete(idempotency).where(idempotency.c.created_at < older_than, over))).rowcount

        return await self._transactions.write(work)
