"""Reading everything through: does each object still have its bytes, in each member of a mirror too; what a mirror can mend is mended.

It is slow on purpose, and goes by key, so that it can be taken up where it was left. It tells what it finds and deletes nothing.
"""

from collections.abc import AsyncIterator, Mapping
from datetime import datetime, timedelta
from typing import Literal

import structlog
from msgspec import Struct

from mediacdn.catalog.database import Catalog
from mediacdn.catalog.moves import Stored
from mediacdn.errors import MediaError, NotFound, ObjectCorrupt
from mediacdn.interfaces import Clock, Storage
from mediacdn.storage.mirror import Mirror
from mediacdn.storage.transfer import Promise, Throttle, prove, transfer

PAGE = 200
OURS = ("originals/", "derivatives/", "variants/")
"""Where keys of objects begin. What else lies in a storage is not ours to judge."""

log = structlog.get_logger("mediacdn.scrub")


class Finding(Struct, frozen=True):
    """What is wrong with one object: "damaged" (other bytes), "missing", "unreadable" (the storage failed) or "unknown" (no record knows it).

    `member` is the mirror's, where the object is sound in another; `mended` whether it is well again; `media` whose bytes they are.
    """

    storage: str
    key: str
    what: Literal["damaged", "missing", "unreadable", "unknown"]
    member: str | None = None
    mended: bool = False
    media: tuple[str, ...] = ()
    detail: str = ""


class Passed(Struct, frozen=True):
    """An object was looked at; `key` is where to take it up again."""

    storage: str
    key: str
    size: int
    findings: tuple[Finding, ...] = ()


class Scrub:
    """The look at all objects. `mirrors` are those of the storages that are."""

    def __init__(self, *, catalog: Catalog, storages: Mapping[str, Storage], mirrors: Mapping[str, Mirror], clock: Clock) -> None:
        self._catalog = catalog
        self._storages = storages
        self._mirrors = mirrors
        self._clock = clock

    async def each(self, storage: str, *, after: str = "", throttle: Throttle | None = None, mend: bool = True) -> AsyncIterator[Passed]:
        """Read a storage's objects by key, beyond `after`. Raises: NotFound, when there is no such storage; CatalogUnavailable."""
        if storage not in self._storages:
            raise NotFound(f"There is no storage {storage!r}; there is {', '.join(self._storages)}")
        while page := await self._catalog.moves.of_storage(storage, after=after, limit=PAGE):
            for stored in page:
                after = stored.key
                found = tuple([each async for each in self._look(stored, throttle, mend)])
                for each in found:
                    log.warning("a stored object is not as it should be", **_said(each))
                yield Passed(storage, stored.key, stored.size, found)

    async def unknown(self, storage: str, older_than: timedelta) -> AsyncIterator[Finding]:
        """Objects that no record knows, of those older than so. The catalog's row comes before the bytes, so there should be none. Raises: StorageUnavailable."""
        before = self._clock.now() - older_than
        waiting: list[str] = []
        async for info in self._storages[storage].list():
            if info.key.startswith(OURS) and _old(info.modified, before):
                waiting.append(info.key)
            if len(waiting) >= PAGE:
                async for finding in self._unknown(storage, waiting):
                    yield finding
                waiting = []
        async for finding in self._unknown(storage, waiting):
            yield finding

    async def _unknown(self, storage: str, keys: list[str]) -> AsyncIterator[Finding]:
        known = await self._catalog.moves.known(storage, keys) if keys else set()
        for key in keys:
            if key not in known:
                yield Finding(storage, key, "unknown")

    async def _look(self, stored: Stored, throttle: Throttle | None, mend: bool) -> AsyncIterator[Finding]:
        mirror = self._mirrors.get(stored.storage)
        if mirror is None:
            finding = await self._prove(self._storages[stored.storage], stored, None, throttle)
            if finding is not None and await self._still(stored):
                yield await self._named(finding, stored)
            return
        flaws = {name: await self._prove(member, stored, name, throttle) for name, member in mirror.members.items()}
        sound = [name for name, finding in flaws.items() if finding is None]
        for name, finding in flaws.items():
            if finding is None or not await self._still(stored):
                continue
            mended = mend and bool(sound) and finding.what != "unreadable" and await self._mend(mirror, sound[0], name, stored, throttle)
            yield await self._named(finding, stored, mended=mended)

    async def _prove(self, storage: Storage, stored: Stored, member: str | None, throttle: Throttle | None) -> Finding | None:
        what: Literal["damaged", "missing", "unreadable"]
        try:
            await prove(storage, stored.key, Promise(stored.size, stored.digest), throttle=throttle)
            return None
        except NotFound:
            what, detail = "missing", ""
        except ObjectCorrupt as error:
            what, detail = "damaged", error.detail
        except MediaError as error:
            what, detail = "unreadable", error.detail
        return Finding(stored.storage, stored.key, what, member, detail=detail)

    async def _mend(self, mirror: Mirror, source: str, member: str, stored: Stored, throttle: Throttle | None) -> bool:
        target = mirror.members[member]
        try:
            await transfer(mirror.members[source], stored.key, target, stored.key, Promise(stored.size, stored.digest), throttle=throttle)
            if not await self._still(stored):
                await target.delete(stored.key)  # it was deleted meanwhile, and must not come back
        except MediaError as error:
            log.warning("an object cannot be mended", storage=stored.storage, member=member, key=stored.key, error=error.detail)
            return False
        return True

    async def _still(self, stored: Stored) -> bool:
        """Whether it is still to be there: deletions and moves go on beside us."""
        twin = await self._catalog.moves.twin(stored.storage, stored.digest)
        return twin is not None and twin.key == stored.key

    async def _named(self, finding: Finding, stored: Stored, *, mended: bool = False) -> Finding:
        media = tuple(await self._catalog.moves.holders(stored))
        return Finding(finding.storage, finding.key, finding.what, finding.member, mended, media, finding.detail)


def _old(modified: datetime, before: datetime) -> bool:
    return modified < before


def _said(finding: Finding) -> dict[str, object]:
    return {name: value for name in Finding.__struct_fields__ if (value := getattr(finding, name)) not in (None, (), "")}
