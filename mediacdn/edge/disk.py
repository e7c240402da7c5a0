"""The disk tier: slices that the server processes of a node share, in a folder of their own. Whatever happens to the folder is a miss, never an error and never
wrong bytes. All of it happens in a few threads with bounded queues; the folder is `folder`'s, the choice of an index `shelf`'s, the index `index`'s.
"""

import asyncio
import random
import threading
import time
from collections.abc import AsyncIterator, Callable
from concurrent.futures import ThreadPoolExecutor
from contextlib import asynccontextmanager, suppress
from pathlib import Path
from typing import Any, Literal

from mediacdn.edge import seal
from mediacdn.edge.entries import Entry, Key
from mediacdn.edge.folder import Folder
from mediacdn.edge.index import Held, Index, Parcel, footprint, judge
from mediacdn.edge.shelf import Away, Shelf

READERS, WRITERS = 4, 2
READS_WAITING = 256
PUTS_WAITING, BYTES_WAITING = 256, 64 * 1024 * 1024  # more than that in the queue is dropped
READ_DEADLINE = 5.0  # seconds for a disk that hangs
READ_PATIENCE, WRITE_PATIENCE = 0.03, 1.0  # seconds that a locked index is waited for
TOUCH_ONE_IN = 8


def _unheard(_entries: int, _bytes: int) -> None:
    pass


def _unheard_corrupt() -> None:
    pass


class DiskTier:
    """Entries by key, for one event loop; other processes may use the same folder. No method raises for what became of the folder.

    `bytes` and `entries` are of all processes, about a second old; bytes are blocks of the disk and a fixed share of the index for each entry.
    """

    def __init__(
        self,
        shelf: Shelf[Index],
        patience: threading.local,
        limit: int,
        *,
        recency: bool,
        on_evict: Callable[[int, int], None],
        on_corrupt: Callable[[], None],
    ) -> None:
        self.limit = limit
        self._shelf = shelf
        self._recency = recency
        self._on_evict = on_evict
        self._on_corrupt = on_corrupt
        self._readers = ThreadPoolExecutor(READERS, "edge-read", lambda: setattr(patience, "seconds", READ_PATIENCE))
        self._writers = ThreadPoolExecutor(WRITERS, "edge-write", lambda: setattr(patience, "seconds", WRITE_PATIENCE))
        self._reading = self._writing = self._waiting = 0
        self._recovering = self._sweeping = False
        self._closed = False
        self._totals, self._totals_at = (0, 0), 0.0

    async def get(self, key: Key) -> Entry | None:
        """The entry as it was put, or None. Where the index is locked or gone, None comes within about 50 ms, and at once for a while thereafter."""
        if self._closed or self._reading >= READS_WAITING or self._shelf.paused(writer=False):
            return None
        self._reading += 1
        reading = asyncio.get_running_loop().run_in_executor(self._readers, self._read, key)
        reading.add_done_callback(self._read_done)
        try:
            async with asyncio.timeout(READ_DEADLINE):
                entry, damaged, lost = await asyncio.shield(reading)
        except TimeoutError:
            self._shelf.pause(READ_DEADLINE, writer=False)
            return None
        if lost:
            self._recover()
        elif damaged is not None:
            self._later(self._discard, key, damaged).add_done_callback(self._discarded)
        elif entry is not None and self._recency and random.randrange(TOUCH_ONE_IN) == 0:  # noqa: S311
            self._later(self._touch, key)
        return entry

    async def put(self, key: Key, entry: Entry) -> bool:
        """Keep it in place of what was there. False when it was not kept: too large, only pinned ones could go for it, too many are waiting, or the disk will not."""
        size = len(entry.body)
        if (
            self._closed
            or footprint(size) > self.limit
            or self._writing >= PUTS_WAITING
            or (self._waiting and self._waiting + size > BYTES_WAITING)
        ):
            return False
        if self._shelf.paused(writer=True):
            return False
        self._waiting += size
        writing = self._start(self._keep, key, entry)
        writing.add_done_callback(lambda _: self._put_done(size))
        outcome: tuple[bool, int, int] = await asyncio.shield(writing)
        kept, entries, gone = outcome
        if entries:
            self._on_evict(entries, gone)
        return kept

    async def count(self, key: Key) -> int:
        """How many slices of the key's object are there, its own number aside."""
        return await self._write(self._counted, str(key).rpartition("/")[0] + "/") or 0

    async def drop(self, key: Key) -> None:
        """Forget it, if it is there and the index lets us: what must not be served again needs another generation."""
        await self._write(self._drop, key)

    async def clear(self) -> None:
        """Forget everything, in all processes."""
        await self._write(self._clear)

    async def renew(self, key: Key, stored: float) -> None:
        """Note that the origin confirmed the entry at this time."""
        if await self._write(self._restamp, key, stored) is False:
            self._on_corrupt()

    @property
    def bytes(self) -> int:
        return self._totals[1]

    @property
    def entries(self) -> int:
        return self._totals[0]

    async def open(self) -> None:
        """Enter the folder; what stands in the way is tried again later."""
        await self._write(self._enter)

    async def close(self) -> None:
        """Finish what was begun, however long that takes."""
        self._closed = True
        for pool in (self._readers, self._writers):
            await asyncio.to_thread(pool.shutdown)
        await asyncio.to_thread(self._shelf.close)

    # The loop's side of the threads.

    def _start(self, work: Callable[..., Any], *args: Any) -> asyncio.Future[Any]:
        self._writing += 1
        future = asyncio.get_running_loop().run_in_executor(self._writers, work, *args)
        future.add_done_callback(self._write_done)
        return future

    async def _write(self, work: Callable[..., Any], *args: Any) -> Any:
        return None if self._closed else await asyncio.shield(self._start(work, *args))

    def _later(self, work: Callable[..., Any], *args: Any) -> asyncio.Future[Any]:
        """What nobody waits for, and which is left out when there is much to do."""
        if self._closed or self._writing >= PUTS_WAITING:
            none: asyncio.Future[Any] = asyncio.get_running_loop().create_future()
            none.set_result(None)
            return none
        return self._start(work, *args)

    def _discarded(self, discarded: asyncio.Future[Any]) -> None:
        if discarded.result():
            self._on_corrupt()

    def _recover(self) -> None:
        if not self._recovering and not self._shelf.paused(writer=True):
            self._recovering = True
            self._later(self._enter).add_done_callback(self._recovered)

    def _recovered(self, _: object) -> None:
        self._recovering = False

    def _read_done(self, _: object) -> None:
        self._reading -= 1

    def _write_done(self, _: object) -> None:
        self._writing -= 1
        if self._shelf.unswept and not self._shelf.paused(writer=True) and not self._sweeping:
            self._sweeping = True
            self._later(self._shelf.sweep).add_done_callback(self._swept)

    def _swept(self, _: object) -> None:
        self._sweeping = False

    def _put_done(self, size: int) -> None:
        self._waiting -= size

    # What the threads do. None of it raises.

    def _read(self, key: Key) -> tuple[Entry | None, Held | None, bool]:
        """The entry; what there is in its place when it is damaged; and whether the index is lost."""
        try:
            with self._shelf.using(writer=False) as index:
                held: Held | None = index.get(str(key))
                if time.monotonic() > self._totals_at + 1:
                    self._count(index)
        except Away:
            return None, None, self._shelf.lost()
        if held is None:
            return None, None, False
        entry = None if held.header is None or held.body is None else seal.unseal(key, held.header, held.body)
        return entry, None if entry else held, False

    def _keep(self, key: Key, entry: Entry) -> tuple[bool, int, int]:
        entries = gone = 0
        parcel = Parcel(seal.seal(key, entry), entry.body)
        try:
            with self._shelf.using(writer=True) as index:
                fits, entries, gone = index.make_room(self.limit - footprint(len(entry.body)), pinned=entry.pinned)
                if fits:
                    index.keep(str(key), parcel, entry.pinned)
                self._count(index)
        except Away:
            return False, entries, gone
        return fits, entries, gone

    def _discard(self, key: Key, held: Held) -> bool:
        with suppress(Away), self._shelf.using(writer=True) as index:
            return index.discard(str(key), held.filename)
        return False

    def _counted(self, prefix: str) -> int:
        with suppress(Away), self._shelf.using(writer=False) as index:
            return index.beneath(prefix)
        return 0

    def _drop(self, key: Key) -> None:
        with suppress(Away), self._shelf.using(writer=True) as index:
            index.delete(str(key))
            self._count(index)

    def _restamp(self, key: Key, stored: float) -> bool | None:
        with suppress(Away), self._shelf.using(writer=True) as index:
            return index.restamp(key, stored)
        return None

    def _touch(self, key: Key) -> None:
        with suppress(Away), self._shelf.using(writer=True) as index:
            index.make_newest(str(key))

    def _clear(self) -> None:
        with suppress(Away):
            self._shelf.renew()
            with self._shelf.using(writer=True) as index:
                self._count(index)

    def _enter(self) -> None:
        with suppress(Away), self._shelf.using(writer=True) as index:
            self._count(index)

    def _count(self, index: Index) -> None:
        self._totals, self._totals_at = index.totals(), time.monotonic()


@asynccontextmanager
async def open_disk(
    folder: Path,
    limit: int,
    eviction: Literal["lru", "least-recently-stored"],
    nonce: Callable[[], str],
    *,
    on_evict: Callable[[int, int], None] = _unheard,
    on_corrupt: Callable[[], None] = _unheard_corrupt,
) -> AsyncIterator[DiskTier]:
    """The tier in `folder`, made with mode 0700 if need be; emptied first when it was kept under another nonce. `limit` is bytes of all processes together.

    The callbacks run in the event loop: (entries, bytes) that made room, and each entry found damaged. Raises: nothing; an unusable folder is an empty tier,
    and one whose trouble ends is used again.
    """
    patience = threading.local()
    shelf = Shelf(Folder(folder, nonce), lambda path: Index(path, patience), judge)
    tier = DiskTier(shelf, patience, limit, recency=eviction == "lru", on_evict=on_evict, on_corrupt=on_corrupt)
    try:
        await tier.open()
        yield tier
    finally:
        await tier.close()
