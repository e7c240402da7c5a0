"""What a mirror's members lack or hold damaged, mended in the background from one that has it. The list is the process's own: what is lost with it, the scrub finds."""

import asyncio
from collections.abc import AsyncIterator, Callable, Mapping
from contextlib import asynccontextmanager, suppress

import structlog
from msgspec import Struct
from msgspec.structs import replace

from mediacdn.errors import MediaError, NotFound
from mediacdn.interfaces import Storage
from mediacdn.storage.transfer import Promise, transfer

MOST = 10_000
TRIES = 6
FIRST = 1.0
"""Seconds before the second try; each further pause is four times as long."""

log = structlog.get_logger("mediacdn.mirror")


class Repair(Struct, frozen=True):
    """A member that has to get an object; `damaged`: it has it, with other bytes. `size` is that of the whole one, where it was seen."""

    key: str
    member: str
    damaged: bool = False
    size: int | None = None
    tries: int = 0


class Repairs:
    """The list and who works it off. `digest_of` is that of Verifying; `done(member, outcome)` hears "repaired", "failed" or "dropped"."""

    def __init__(
        self, name: str, members: Mapping[str, Storage], digest_of: Callable[[str], str | None], done: Callable[[str, str], None]
    ) -> None:
        self._name = name
        self._members = members
        self._digest_of = digest_of
        self._done = done
        self._queue: asyncio.Queue[Repair] = asyncio.Queue()
        self._listed: set[tuple[str, str]] = set()
        self._damaged: set[tuple[str, str]] = set()
        self._loop: asyncio.AbstractEventLoop | None = None

    def ask(self, key: str, member: str, *, damaged: bool = False, size: int | None = None) -> None:
        """Have an object mended; from any thread."""
        if damaged:
            self._damaged.add((key, member))
        if self._loop is None or self._loop.is_closed():
            return
        self._loop.call_soon_threadsafe(self._add, Repair(key, member, damaged, size))

    def suspects(self, key: str, member: str) -> bool:
        """Whether a member's copy was found damaged, and not mended since."""
        return (key, member) in self._damaged

    def forget(self, key: str) -> None:
        """The object is being deleted."""
        for member in self._members:
            self._listed.discard((key, member))
            self._damaged.discard((key, member))

    @asynccontextmanager
    async def running(self) -> AsyncIterator[None]:
        """Work the list off until the context is left."""
        self._loop = asyncio.get_running_loop()
        task = asyncio.create_task(self._work())
        try:
            yield
        finally:
            self._loop = None
            task.cancel()
            with suppress(asyncio.CancelledError):
                await task

    async def mend(self, repair: Repair) -> bool:
        """Give a member what another one has. False when it needs nothing. Raises: NotFound, ObjectCorrupt, StorageFull, StorageUnavailable."""
        target = self._members[repair.member]
        if not repair.damaged:
            with suppress(NotFound):
                await target.head(repair.key)
                return False
        digest = self._digest_of(repair.key)
        if repair.damaged and digest is None and repair.size is None:
            return False  # nobody can say which copy is the right one
        failure: MediaError = NotFound()
        for name, source in self._members.items():
            if name == repair.member or self.suspects(repair.key, name):
                continue
            try:
                await transfer(source, repair.key, target, repair.key, Promise(repair.size, digest))
            except MediaError as error:
                failure = error
                continue
            with suppress(MediaError):
                await self._unless_deleted(source, target, repair.key)
            self._damaged.discard((repair.key, repair.member))
            return True
        raise failure

    async def _unless_deleted(self, source: Storage, target: Storage, key: str) -> None:
        """A copy of what was deleted meanwhile must not stay."""
        try:
            await source.head(key)
        except NotFound:
            await target.delete(key)

    def _add(self, repair: Repair) -> None:
        named = (repair.key, repair.member)
        if named in self._listed:
            return
        if len(self._listed) >= MOST:
            self._done(repair.member, "dropped")
            return
        self._listed.add(named)
        self._queue.put_nowait(repair)

    async def _work(self) -> None:
        while True:
            repair = await self._queue.get()
            named = (repair.key, repair.member)
            if named not in self._listed:
                continue
            try:
                mended = await self.mend(repair)
            except Exception as error:
                if repair.tries + 1 < TRIES and not isinstance(error, NotFound):
                    again = replace(repair, tries=repair.tries + 1)
                    asyncio.get_running_loop().call_later(FIRST * 4**repair.tries, self._queue.put_nowait, again)
                    continue
                log.warning("an object could not be mended", storage=self._name, member=repair.member, key=repair.key, error=str(error))
                self._done(repair.member, "failed")
            else:
                if mended:
                    log.info("an object was mended", storage=self._name, member=repair.member, key=repair.key, damaged=repair.damaged)
                    self._done(repair.member, "repaired")
            self._listed.discard(named)
