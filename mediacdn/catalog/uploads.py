"""Uploads in more than one request: how far each has come, who may write to it, what became of it.

Whoever writes holds the fence: the number moves with every writer and every ending, and what a former one still says meets no row. What is told to have been
received was made durable before its row was written.
"""

from collections.abc import Sequence
from datetime import datetime, timedelta
from typing import Any

from msgspec import Struct
from sqlalchemy import ColumnElement, and_, case, delete, func, insert, or_, select, update
from sqlalchemy.engine import Row
from sqlalchemy.ext.asyncio import AsyncConnection

from mediacdn.catalog.jobs import plan
from mediacdn.catalog.owners import charge, used
from mediacdn.catalog.rows import write_media
from mediacdn.catalog.tables import UNFINISHED, upload_pieces, uploads
from mediacdn.catalog.transactions import Transactions
from mediacdn.errors import QuotaExceeded, TooManyRequests
from mediacdn.interfaces import Clock
from mediacdn.model import Media, NewJob, Piece, Upload

FIELDS = Upload.__struct_fields__
COLUMNS = [uploads.c[name] for name in FIELDS]
IN_FLIGHT = 2
"""Parts that one writer has on their way at most: so many numbers are passed over when it is taken from, and never used again."""


class Step(Struct, frozen=True, kw_only=True):
    """What a writer has made durable. `pieces` are new or longer; None leaves what it would change as it is."""

    received: int
    pieces: Sequence[Piece] = ()
    size: int | None = None
    next_number: int | None = None
    tail: tuple[str, int] | None = None
    complete: bool = False
    last: bool = False
    """The writer is through, and will touch nothing of the upload any more."""


class Ending(Struct, frozen=True):
    """Whoever ends an upload, by its fence. `claims` says that its row does not name the key yet at which the bytes become an object."""

    upload: str
    fence: int
    claims: bool = False


class UploadRows:
    """Uploads by id."""

    def __init__(self, transactions: Transactions, clock: Clock) -> None:
        self._transactions = transactions
        self._clock = clock

    async def parts_held(self, storage: str) -> set[str]:
        """The ids of the uploads of parts that unfinished uploads hold in a storage."""
        query = select(uploads.c.parts).where(uploads.c.storage == storage, uploads.c.parts != "", UNFINISHED)

        async def work(connection: AsyncConnection) -> set[str]:
            return {parts for (parts,) in await connection.execute(query)}

        return await self._transactions.read(work)

    async def create(self, new: Upload, *, most: int, quota: int) -> None:
        """Record a new upload. Raises: TooManyRequests when its owner has `most` unfinished ones, QuotaExceeded when there is no room for it beside what the owner has and
        has begun to send; what joins others has theirs."""

        async def work(connection: AsyncConnection) -> None:
            mine = select(func.count()).where(uploads.c.owner == new.owner, uploads.c.state.in_(("open", "complete")))
            if (await connection.execute(mine)).scalar_one() >= most:
                raise TooManyRequests(
                    f"At most {most} uploads may be under way at a time; finish or delete one", headers={"Retry-After": "60"}
                )
            if quota and new.size is not None:
                waiting = 0 if new.role == "final" else await _waiting(connection, new.owner)
                if (await used(connection, new.owner))[0] + waiting + new.size > quota:
                    raise QuotaExceeded()
            await connection.execute(insert(uploads).values({name: getattr(new, name) for name in FIELDS}))

        await self._transactions.write(work)

    async def get(self, id: str) -> Upload | None:
        """Read an upload, whatever its state."""

        async def work(connection: AsyncConnection) -> Upload | None:
            row = (await connection.execute(select(*COLUMNS).where(uploads.c.id == id))).one_or_none()
            return None if row is None else _upload(row)

        return await self._transactions.read(work)

    async def pieces(self, id: str) -> list[Piece]:
        """Read the pieces, in the order of their bytes."""
        columns = (upload_pieces.c.number, upload_pieces.c.start, upload_pieces.c.size, upload_pieces.c.mark)

        async def work(connection: AsyncConnection) -> list[Piece]:
            rows = await connection.execute(select(*columns).where(upload_pieces.c.upload_id == id).order_by(upload_pieces.c.start))
            return [Piece(*row) for row in rows]

        return await self._transactions.read(work)

    async def take(self, id: str, received: int) -> tuple[Upload, Upload] | None:
        """Take the writing from whoever has it, if exactly so much is here: the row as it was, and as it is. None when it is not so, or not open."""
        free = and_(uploads.c.id == id, uploads.c.state == "open", uploads.c.received == received, uploads.c.expires_at > self._clock.now())
        values = {
            "fence": uploads.c.fence + 1,
            "held": True,
            "next_number": uploads.c.next_number + case((uploads.c.held, IN_FLIGHT), else_=0),
        }

        async def work(connection: AsyncConnection) -> tuple[Upload, Upload] | None:
            before = (await connection.execute(select(*COLUMNS).where(free).with_for_update())).one_or_none()
            if before is None:
                return None
            after = (await connection.execute(update(uploads).where(uploads.c.id == id).values(values).returning(*COLUMNS))).one()
            return _upload(before), _upload(after)

        return await self._transactions.write(work)

    async def stage(self, id: str, fence: int, *, storage: str, key: str, parts: str, part_size: int) -> bool:
        """Say where the bytes are going to be. False when the fence is lost."""
        values = {"storage": storage, "key": key, "parts": parts, "part_size": part_size}
        return await self._mine(id, fence, values, "open")

    async def advance(self, id: str, fence: int, step: Step, *, expires_at: datetime, quota: int = 0) -> bool:
        """Write down what is durable. False when the fence is lost: nothing of it counts then. `quota` is the owner's bytes, 0 for none. Raises: QuotaExceeded."""
        values: dict[str, Any] = {"received": step.received, "expires_at": expires_at}
        if step.size is not None:
            values["size"] = step.size
        if step.next_number is not None:
            values["next_number"] = step.next_number
        if step.tail is not None:
            values["tail"], values["tail_size"] = step.tail
        if step.complete:
            values["state"] = "complete"
        if step.last:
            values["held"] = False
        mine = and_(uploads.c.id == id, uploads.c.fence == fence, uploads.c.state == "open", uploads.c.received <= step.received)

        async def work(connection: AsyncConnection) -> bool:
            row = (await connection.execute(update(uploads).where(mine).values(values).returning(uploads.c.owner))).one_or_none()
            if row is None:
                return False
            if quota and (await used(connection, row.owner))[0] + await _waiting(connection, row.owner) > quota:
                raise QuotaExceeded()
            for piece in step.pieces:
                row = self._transactions.insert(upload_pieces).values(
                    upload_id=id, number=piece.number, start=piece.start, size=piece.size, mark=piece.mark
                )
                await connection.execute(row.on_conflict_do_update(index_elements=["upload_id", "number"], set_={"size": piece.size}))
            return True

        return await self._transactions.write(work)

    async def let_go(self, id: str, fence: int) -> None:
        """Say that the writer is through, without having made anything durable since it last said so."""
        await self._mine(id, fence, {"held": False}, "open")

    # The ending.

    async def begin_ending(self, id: str, seconds: float) -> Upload | None:
        """Take a complete upload for `seconds`, to record its media; None when it is not complete, or somebody else is at it."""
        now = self._clock.now()
        free = or_(uploads.c.lease_until.is_(None), uploads.c.lease_until < now)
        values = {"fence": uploads.c.fence + 1, "held": False, "lease_until": now + timedelta(seconds=seconds)}
        due = update(uploads).where(uploads.c.id == id, uploads.c.state == "complete", free).values(values).returning(*COLUMNS)

        async def work(connection: AsyncConnection) -> Upload | None:
            row = (await connection.execute(due)).one_or_none()
            return None if row is None else _upload(row)

        return await self._transactions.write(work)

    async def beat(self, id: str, fence: int, seconds: float) -> bool:
        """Go on with an ending for `seconds` more, 0 to give it up. False when the fence is lost."""
        return await self._mine(id, fence, {"lease_until": self._clock.now() + timedelta(seconds=seconds) if seconds else None}, "complete")

    async def end(self, id: str, *, fence: int | None, media_id: str | None, created: bool, joined: Sequence[str] = ()) -> bool:
        """Say that the media is recorded; the partial uploads it `joined` have served their end."""

        async def work(connection: AsyncConnection) -> bool:
            if not await end(connection, id, fence, media_id, created):
                return False
            if joined:
                over = {"state": "done", "fence": uploads.c.fence + 1}
                await connection.execute(update(uploads).where(uploads.c.id.in_(joined), uploads.c.role == "partial").values(over))
            return True

        return await self._transactions.write(work)

    async def fail(self, id: str, *, fence: int | None, error: dict[str, Any]) -> bool:
        """Say that nothing will come of it, and why."""
        values = {"state": "failed", "error": error, "lease_until": None, "held": False, "fence": uploads.c.fence + 1}
        return await self._mine(id, fence, values, "open", "complete")

    async def drop(self, id: str) -> bool:
        """Give an open upload up; who writes to it loses the fence. False when it is not open any more."""
        return await self._mine(id, None, {"state": "gone", "held": False, "fence": uploads.c.fence + 1}, "open")

    async def forget_staged(self, id: str) -> None:
        """Say that nothing is staged any more."""

        async def work(connection: AsyncConnection) -> None:
            await connection.execute(delete(upload_pieces).where(upload_pieces.c.upload_id == id))
            await connection.execute(update(uploads).where(uploads.c.id == id).values(staged=False))

        await self._transactions.write(work)

    async def register(self, id: str, media: Media, job: NewJob, *, mark: str) -> bool:
        """Record, in one transaction, that all bytes of a direct upload are here, its media without them yet, and the job that looks at them. False when it is not open."""
        open_ = and_(uploads.c.id == id, uploads.c.state == "open", uploads.c.role == "direct")
        values = {"state": "complete", "mark": mark, "media_id": media.id, "received": uploads.c.size, "fence": uploads.c.fence + 1}

        async def work(connection: AsyncConnection) -> bool:
            if (await connection.execute(update(uploads).where(open_).values(values))).rowcount != 1:
                return False
            await charge(connection, self._transactions.insert, media.owner, 0, 0)
            await write_media(connection, media, None)
            await plan(connection, [job], self._clock.now())
            return True

        return await self._transactions.write(work)

    # What comes round.

    async def unended(self, limit: int = 20) -> list[str]:
        """Name complete uploads that nobody is ending: who was is dead, or the media could not be recorded then."""
        now = self._clock.now()
        free = or_(uploads.c.lease_until.is_(None), uploads.c.lease_until < now)
        due = and_(uploads.c.state == "complete", uploads.c.role.in_(("whole", "final")), free)
        return await self._ids(due, limit)

    async def expire(self, limit: int = 100) -> list[str]:
        """Give up to `limit` uploads up whose time has passed before their bytes were whole; name them."""
        late = and_(uploads.c.expires_at <= self._clock.now(), or_(uploads.c.state == "open", _PARTIAL))
        some = select(uploads.c.id).where(late).order_by(uploads.c.expires_at).limit(limit)
        gone = update(uploads).where(late, uploads.c.id.in_(some)).values(state="gone", held=False, fence=uploads.c.fence + 1)

        async def work(connection: AsyncConnection) -> list[str]:
            return list(await connection.scalars(gone.returning(uploads.c.id)))

        return await self._transactions.write(work)

    async def leftovers(self, limit: int = 100) -> list[str]:
        """Name uploads that are over and still have something staged, or whose presigned URLs were good until now."""
        shut = or_(uploads.c.role != "direct", uploads.c.expires_at <= self._clock.now())
        return await self._ids(and_(uploads.c.state.in_(("done", "failed", "gone")), uploads.c.staged, shut), limit)

    async def purge(self, older_than: datetime) -> int:
        """Forget uploads that are over, have nothing staged, and whose time was past before `older_than`."""
        over = and_(uploads.c.expires_at < older_than, uploads.c.state.in_(("done", "failed", "gone")), uploads.c.staged.is_(False))

        async def work(connection: AsyncConnection) -> int:
            return (await connection.execute(delete(uploads).where(over))).rowcount

        return await self._transactions.write(work)

    async def _mine(self, id: str, fence: int | None, values: dict[str, Any], *states: str) -> bool:
        mine = and_(uploads.c.id == id, uploads.c.state.in_(states), *(() if fence is None else (uploads.c.fence == fence,)))

        async def work(connection: AsyncConnection) -> bool:
            return (await connection.execute(update(uploads).where(mine).values(values))).rowcount == 1

        return await self._transactions.write(work)

    async def _ids(self, which: ColumnElement[bool], limit: int) -> list[str]:
        async def work(connection: AsyncConnection) -> list[str]:
            return list(await connection.scalars(select(uploads.c.id).where(which).order_by(uploads.c.expires_at).limit(limit)))

        return await self._transactions.read(work)


async def _waiting(connection: AsyncConnection, owner: str) -> int:
    """The bytes of an owner's unfinished uploads: those that are here, or all that were announced."""
    bytes_ = case((uploads.c.size > uploads.c.received, uploads.c.size), else_=uploads.c.received)
    mine = select(func.coalesce(func.sum(bytes_), 0)).where(uploads.c.owner == owner, UNFINISHED, uploads.c.role != "final")
    return int((await connection.execute(mine)).scalar_one())


async def end(connection: AsyncConnection, id: str, fence: int | None, media_id: str | None, created: bool) -> bool:
    """Say within a transaction that an upload has its media. False when the fence is lost."""
    mine = and_(uploads.c.id == id, uploads.c.state == "complete", *(() if fence is None else (uploads.c.fence == fence,)))
    values = {"state": "done", "media_id": media_id, "created": created, "lease_until": None, "held": False}
    return (await connection.execute(update(uploads).where(mine).values(values))).rowcount == 1


async def claim(connection: AsyncConnection, ending: Ending, storage: str, key: str) -> bool:
    """Say within a transaction at which key the bytes become an object, so that no sweep takes them from there before the media is recorded.
    False when the fence is lost."""
    mine = and_(uploads.c.id == ending.upload, uploads.c.state == "complete", uploads.c.fence == ending.fence)
    return (await connection.execute(update(uploads).where(mine).values(storage=storage, key=key))).rowcount == 1


_PARTIAL = and_(uploads.c.state == "complete", uploads.c.role == "partial")


def _upload(row: Row[Any]) -> Upload:
    return Upload(**dict(zip(FIELDS, row, strict=True)))
