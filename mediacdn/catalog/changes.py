"""The gapless sequence of changes that make cards untrue: appended to in the transaction that makes them, read by whoever keeps cards.

Numbers become visible in order: a reader that has seen one has seen all below it. Telling anybody is the caller's business.
"""

from collections.abc import AsyncIterator, Iterable, Sequence
from datetime import datetime, timedelta
from typing import TYPE_CHECKING

from msgspec import Struct
from sqlalchemy import bindparam, delete, func, insert, or_, select, update
from sqlalchemy.ext.asyncio import AsyncConnection

from mediacdn.catalog.quarantine import with_descendants
from mediacdn.catalog.tables import change_counters, changes, media, media_tags
from mediacdn.catalog.transactions import Transactions
from mediacdn.interfaces import Clock
from mediacdn.model import Change

if TYPE_CHECKING:
    from mediacdn.catalog.outward import Outward

COUNTER = "changes"
KEPT = 100_000
KEPT_FOR = timedelta(days=1)

ROOTS = 200
BATCH = 500
"""Media whose rows one transaction of a purge locks."""

POSITION = select(change_counters.c.seq, change_counters.c.epoch).where(change_counters.c.name == bindparam("name"))


class Position(Struct, frozen=True):
    """How far the catalog is: the number of its last change (0 before the first), and how often everything was purged."""

    seq: int
    epoch: int


async def append(connection: AsyncConnection, ids: Iterable[str], now: datetime) -> list[Change]:
    """Append a change for each media, as the last statements of the transaction: from here to the commit every other writer of changes waits."""
    return await _append(connection, sorted(set(ids)), now)


async def _append(connection: AsyncConnection, ids: Sequence[str | None], now: datetime, *, epochs: int = 0) -> list[Change]:
    if not ids:
        return []
    counter = change_counters.c
    step = update(change_counters).where(counter.name == COUNTER).values(seq=counter.seq + len(ids), epoch=counter.epoch + epochs)
    last: int = (await connection.execute(step.returning(counter.seq))).scalar_one()
    appended = [Change(last - len(ids) + number, each) for number, each in enumerate(ids, 1)]
    await connection.execute(insert(changes), [{"seq": each.seq, "media_id": each.media_id, "at": now} for each in appended])
    return appended


class ChangeRows:
    """Changes by number."""

    def __init__(self, transactions: Transactions, clock: Clock, outward: "Outward") -> None:
        self._transactions = transactions
        self._clock = clock
        self._outward = outward
        self._position_words = transactions.words(POSITION)

    async def position(self) -> Position:
        """Tell how far the sequence is; a point read. Raises: CatalogUnavailable."""
        row = await self._transactions.point(self._position_words, name=COUNTER)
        assert row is not None, "the migration writes it and nothing deletes it"
        return Position(*row)

    async def latest(self) -> int:
        """Tell the number of the last change, 0 before the first."""
        return (await self.position()).seq

    async def epoch(self) -> int:
        """Tell how often everything was purged."""
        return (await self.position()).epoch

    async def oldest(self) -> int | None:
        """Tell the number of the first change that is still here, None when none is."""

        async def work(connection: AsyncConnection) -> int | None:
            oldest: int | None = await connection.scalar(select(func.min(changes.c.seq)))
            return oldest

        return await self._transactions.read(work)

    async def since(self, seq: int, limit: int) -> list[Change]:
        """Read up to `limit` changes after `seq`, in order. Where the first is not `seq` + 1, those between were pruned away."""
        statement = select(changes.c.seq, changes.c.media_id).where(changes.c.seq > seq).order_by(changes.c.seq).limit(limit)

        async def work(connection: AsyncConnection) -> list[Change]:
            return [Change(number, media_id) for number, media_id in await connection.execute(statement)]

        return await self._transactions.read(work)

    async def prune(self, keep: int = KEPT, keep_for: timedelta = KEPT_FOR) -> int:
        """Forget changes older than `keep_for`, and all but the last `keep`; tell how many."""
        over = or_(changes.c.at < self._clock.now() - keep_for, changes.c.seq <= await self.latest() - keep)

        async def work(connection: AsyncConnection) -> int:
            # A prefix, so that what stays has no gaps even where a clock was set back.
            bound = select(func.max(changes.c.seq)).where(over).scalar_subquery()
            return (await connection.execute(delete(changes).where(changes.c.seq <= bound))).rowcount

        return await self._transactions.write(work)

    async def purge(self, *, ids: Sequence[str] = (), tags: Sequence[str] = ()) -> AsyncIterator[list[Change]]:
        """Kill every copy of these media, of those with one of these tags, and of all that was derived from them.

        Gives the changes of each batch once it is committed; a media may come twice. Unknown ids are passed over. Raises: CatalogUnavailable.
        """
        async for roots in self._roots(ids, tags):
            family = await self._family(roots)
            for at in range(0, len(family), BATCH):
                if told := await self._purge(family[at : at + BATCH]):
                    yield told

    async def purge_all(self) -> list[Change]:
        """Kill every copy of everything, by a new epoch. Raises: CatalogUnavailable."""

        async def work(connection: AsyncConnection) -> list[Change]:
            await self._outward.plan(connection, None, self._clock.now())
            return await _append(connection, [None], self._clock.now(), epochs=1)

        return await self._transactions.write(work)

    async def _roots(self, ids: Sequence[str], tags: Sequence[str]) -> AsyncIterator[Sequence[str]]:
        for at in range(0, len(ids), ROOTS):
            yield ids[at : at + ROOTS]
        for tag in tags:
            after = ""
            while page := await self._tagged(tag, after):
                yield page
                after = page[-1]

    async def _tagged(self, tag: str, after: str) -> Sequence[str]:
        tagged = media_tags.c
        statement = select(tagged.media_id).where(tagged.tag == tag, tagged.media_id > after).order_by(tagged.media_id).limit(ROOTS)

        async def work(connection: AsyncConnection) -> Sequence[str]:
            return (await connection.scalars(statement)).all()

        return await self._transactions.read(work)

    async def _family(self, roots: Sequence[str]) -> Sequence[str]:
        async def work(connection: AsyncConnection) -> Sequence[str]:
            return sorted(await connection.scalars(select(with_descendants(media.c.id.in_(roots)).c.id)))

        return await self._transactions.read(work)

    async def _purge(self, ids: Sequence[str]) -> list[Change]:
        step = update(media).where(media.c.id.in_(ids)).values(generation=media.c.generation + 1).returning(media.c.id)

        async def work(connection: AsyncConnection) -> list[Change]:
            purged, now = (await connection.scalars(step)).all(), self._clock.now()
            await self._outward.plan(connection, purged, now)
            return await append(connection, purged, now)

        return await self._transactions.write(work)
