"""The journey of a move: copy, verify, have the records point to the copy, leave the old bytes to those who still read them.

Each object is a step that is done or not done: who is killed begins again where the catalog says, and what a copy left half-way is swept by its age. The bytes
are the same, so every copy in the edge stays good, every link works, and the generation stands still.
"""

from collections import OrderedDict
from collections.abc import AsyncIterator, Awaitable, Callable, Mapping, Sequence
from contextlib import suppress

import structlog
from msgspec import Struct

from mediacdn.catalog.database import Catalog
from mediacdn.catalog.moves import Stored
from mediacdn.catalog.selection import Selection
from mediacdn.errors import MediaError, NotFound, ObjectCorrupt, StorageUnavailable
from mediacdn.intents import Intents
from mediacdn.interfaces import Storage
from mediacdn.model import Change
from mediacdn.storage.transfer import Promise, Throttle, prove, transfer

PROVED = 10_000

log = structlog.get_logger("mediacdn.moving")


class Moved(Struct, frozen=True):
    """What became of one object. `records` is how many point to the new place; 0 with an `error`, or when nobody wanted it any more."""

    stored: Stored
    records: int = 0
    copied: bool = False
    error: str | None = None


class Mover:
    """Moves objects between storages. `told` hears of the changes; `new_id` makes the names of new keys, since a key is never used twice."""

    def __init__(
        self,
        *,
        catalog: Catalog,
        storages: Mapping[str, Storage],
        intents: Intents,
        told: Callable[[Sequence[Change]], Awaitable[None]],
        new_id: Callable[[], str],
    ) -> None:
        self._catalog = catalog
        self._storages = storages
        self._intents = intents
        self._told = told
        self._new_id = new_id
        self._proved: OrderedDict[tuple[str, str], None] = OrderedDict()

    async def each(self, chosen: Selection, to: str, *, throttle: Throttle | None = None, dry_run: bool = False) -> AsyncIterator[Moved]:
        """Move every object of the chosen media to the storage `to`, one after the other; one that fails is told, and left where it is.

        Raises: NotFound, when there is no such storage; CatalogUnavailable; StorageFull and StorageUnavailable, when the target is full or away.
        """
        if to not in self._storages:
            raise NotFound(f"There is no storage {to!r}; there is {', '.join(self._storages)}")
        following: tuple[str, str] | None = ("", "")
        while following is not None:
            page, following = await self._catalog.moves.chosen(to, chosen, after=following)
            for stored in page:
                yield Moved(stored, stored.holders) if dry_run else await self._told_of(stored, chosen, to, throttle)

    async def move(self, stored: Stored, chosen: Selection, to: str, *, throttle: Throttle | None = None) -> Moved:
        """Move one object for those of its records that are chosen. Durable and verified when it returns.

        Raises: NotFound, ObjectCorrupt, StorageFull, StorageUnavailable, CatalogUnavailable; the old place then stands.
        """
        twin = await self._catalog.moves.twin(to, stored.digest)
        if twin is not None:
            await self._prove(twin, throttle)
            repointed = await self._catalog.moves.repoint(stored, chosen, to=to, key=None)
            if repointed.records or await self._catalog.moves.twin(to, stored.digest) is not None:
                await self._told(repointed.changes)
                return Moved(stored, repointed.records)
            # It was deleted just now: then the bytes have to be brought after all.
        return await self._copy(stored, chosen, to, throttle)

    async def _told_of(self, stored: Stored, chosen: Selection, to: str, throttle: Throttle | None) -> Moved:
        try:
            return await self.move(stored, chosen, to, throttle=throttle)
        except (NotFound, ObjectCorrupt) as error:
            # What the source lacks is no reason to stop; a target or catalog that is away is.
            why = "the bytes are missing" if isinstance(error, NotFound) else error.detail
            log.error("an object cannot be moved", storage=stored.storage, key=stored.key, to=to, error=why)
            return Moved(stored, error=why)

    async def _prove(self, twin: Stored, throttle: Throttle | None) -> None:
        """Read the copy that is to stand for another, once in this run: what is let go for it may have been the last sound one."""
        named = (twin.storage, twin.key)
        if named in self._proved:
            return
        try:
            await prove(self._storages[twin.storage], twin.key, Promise(twin.size, twin.digest), throttle=throttle)
        except (NotFound, ObjectCorrupt) as error:
            raise ObjectCorrupt(f"{twin.storage}:{twin.key}, which has the same content, is damaged or missing") from error
        self._remember(named)

    async def _copy(self, stored: Stored, chosen: Selection, to: str, throttle: Throttle | None) -> Moved:
        source = self._storages.get(stored.storage)
        if source is None:
            raise StorageUnavailable(f"The storage {stored.storage!r} is not configured")
        folder, _, name = stored.key.rpartition("/")
        _, dot, ending = name.rpartition(".")
        key = f"{folder or 'originals'}/{self._new_id()}{dot}{ending}"
        async with self._intents.before(to, key):
            info, _ = await transfer(source, stored.key, self._storages[to], key, Promise(stored.size, stored.digest), throttle=throttle)
            repointed = await self._catalog.moves.repoint(stored, chosen, to=to, key=key, etag=info.etag)
            if not repointed.copied:
                with suppress(MediaError):  # its row says that it is to go, so the sweep finds it
                    await self._intents.drop(to, key)
        if repointed.copied:
            self._remember((to, key))
        await self._told(repointed.changes)
        return Moved(stored, repointed.records, repointed.copied)

    def _remember(self, named: tuple[str, str]) -> None:
        self._proved[named] = None
        if len(self._proved) > PROVED:
            self._proved.popitem(last=False)
