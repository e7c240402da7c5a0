"""Ad-hoc variants: which forms of a media are kept, up to a number for each media; the one used longest ago makes room."""

from collections.abc import Sequence
from datetime import timedelta
from typing import Any

from msgspec.structs import replace
from sqlalchemy import Row, and_, delete, insert, select, update
from sqlalchemy.ext.asyncio import AsyncConnection

from mediacdn.catalog.locks import lock_digest
from mediacdn.catalog.sharing import let_go, share
from mediacdn.catalog.tables import media, objects, variants
from mediacdn.catalog.transactions import Transactions
from mediacdn.errors import CatalogUnavailable, Gone
from mediacdn.interfaces import Clock
from mediacdn.model import Kept, State

FIELDS = Kept.__struct_fields__
COLUMNS = [variants.c[name] for name in FIELDS]
TOUCHED_EVERY = timedelta(hours=1)


async def forget_variants(connection: AsyncConnection, media_id: str) -> None:
    """Let go of all variants of a media that is being deleted."""
    rows = await connection.execute(delete(variants).where(variants.c.media_id == media_id).returning(variants.c.storage, variants.c.key))
    for storage, key in rows.all():
        await let_go(connection, storage, key)


class VariantRows:
    """Kept variants by media and text."""

    def __init__(self, transactions: Transactions, clock: Clock) -> None:
        self._transactions = transactions
        self._clock = clock

    async def find(self, media_id: str, text: str) -> Kept | None:
        """Read one, and note that it is of use."""
        which = and_(variants.c.media_id == media_id, variants.c.text == text)

        async def work(connection: AsyncConnection) -> tuple[Any, bool]:
            row = (await connection.execute(select(*COLUMNS, variants.c.used_at).where(which))).one_or_none()
            return row, row is not None and row.used_at < self._clock.now() - TOUCHED_EVERY

        row, old = await self._transactions.read(work)
        if old:

            async def touch(connection: AsyncConnection) -> None:
                await connection.execute(update(variants).where(which).values(used_at=self._clock.now()))

            await self._transactions.write(touch)
        return None if row is None else _kept(row)

    async def of_media(self, media_id: str) -> list[Kept]:
        """List a media's, the latest first."""

        async def work(connection: AsyncConnection) -> list[Kept]:
            rows = await connection.execute(select(*COLUMNS).where(variants.c.media_id == media_id).order_by(variants.c.made_at.desc()))
            return [_kept(row) for row in rows]

        return await self._transactions.read(work)

    async def keep(self, new: Kept, etag: str, most: int) -> tuple[Kept, bool]:
        """Record a variant whose bytes are durable at its key, and let go of those beyond `most`.

        False: it, or its bytes, were there already, and what is at the intended key is to be deleted and forgotten.
        Raises: Gone, when the media is not to be read any more; CatalogUnavailable.
        """
        intent = and_(objects.c.storage == new.storage, objects.c.key == new.key, objects.c.state == "writing")

        async def work(connection: AsyncConnection) -> tuple[Kept, bool]:
            await lock_digest(connection, new.digest)
            here = and_(media.c.id == new.media_id, media.c.state == State.LIVE.value)
            if (await connection.execute(select(media.c.id).where(here).with_for_update())).first() is None:
                raise Gone("What this was made of is gone, or withheld")
            now = self._clock.now()
            which = and_(variants.c.media_id == new.media_id, variants.c.text == new.text)
            row = (await connection.execute(select(*COLUMNS).where(which))).one_or_none()
            found = None if row is not None else await share(connection, new.storage, new.digest)
            if row is not None or found is not None:
                await connection.execute(update(objects).where(intent).values(state="deleting"))
            else:
                live = {"state": "live", "digest": new.digest, "size": new.size, "refcount": 1, "etag": etag, "touched_at": now}
                if (await connection.execute(update(objects).where(intent).values(live))).rowcount != 1:
                    raise CatalogUnavailable("The variant took too long to store and was swept away; ask again")
            if row is not None:
                return _kept(row), False
            kept = new if found is None else replace(new, key=found[0])
            values = {name: getattr(kept, name) for name in FIELDS}
            await connection.execute(insert(variants).values(**values, used_at=now))
            await self._make_room(connection, new.media_id, most)
            return kept, found is None

        return await self._transactions.write(work)

    async def _make_room(self, connection: AsyncConnection, media_id: str, most: int) -> None:
        of = variants.c.media_id == media_id
        order = (variants.c.used_at.desc(), variants.c.made_at.desc(), variants.c.text)
        over: Sequence[str] = (await connection.scalars(select(variants.c.text).where(of).order_by(*order).offset(most))).all()
        if over:
            gone = await connection.execute(
                delete(variants).where(of, variants.c.text.in_(over)).returning(variants.c.storage, variants.c.key)
            )
            for storage, key in gone.all():
                await let_go(connection, storage, key)


def _kept(row: Row[Any]) -> Kept:
    return Kept(**{name: getattr(row, name) for name in FIELDS})
