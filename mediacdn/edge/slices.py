"""Objects in slices: which slices hold a span, and where one slice comes from: memory, a fill on its way, the disk, another process's fill, or the origin."""

import asyncio
from collections.abc import Callable, Iterator, Mapping
from typing import NamedTuple

from msgspec import Struct

from mediacdn.edge.coalesce import Fill, Fills, Source
from mediacdn.edge.entries import Entry, Key
from mediacdn.edge.lent import Lent
from mediacdn.edge.metrics import EdgeMetrics
from mediacdn.edge.origin import PATIENCE, Origin
from mediacdn.edge.renewals import Name, Renewals
from mediacdn.edge.tier import Disk, Memory
from mediacdn.edge.turns import Turn, Turns, pauses
from mediacdn.errors import MediaError, NotFound, ObjectCorrupt, StorageUnavailable
from mediacdn.interfaces import LocalPaths, Storage
from mediacdn.model import Admission, ByteRange

_MISSING = 10_000
"""Objects whose storage did not have them that are remembered at most."""


class Cut(NamedTuple):
    """What a span needs of one slice: the slice's number, and bytes `start` up to `stop` within it."""

    number: int
    start: int
    stop: int


def cuts(span: ByteRange, size: int) -> Iterator[Cut]:
    """The cuts of a span, in order, with slices of `size` bytes."""
    at = span.start
    while at < span.stop:
        number, start = divmod(at, size)
        stop = min(size, start + span.stop - at)
        yield Cut(number, start, stop)
        at += stop - start


def extent(number: int, size: int, total: int) -> ByteRange:
    """The bytes of an object of `total` bytes that a slice covers; the last slice is shorter."""
    return ByteRange(number * size, min(total, (number + 1) * size))


class Wanted(Struct, frozen=True):
    """An object that is asked for: its name in the tiers, where a miss is read, and what the policy says of its copies."""

    name: Name
    origin: Origin
    admission: Admission

    def key(self, number: int) -> Key:
        return Key(*self.name, number)


class Slices:
    """Finds slices, and fills what is not there. Slices are of `size` bytes, and readers hold `lent` bytes of them; a missing object is remembered for `negative_ttl` seconds."""

    def __init__(
        self,
        *,
        memory: Memory | None,
        disk: Disk | None,
        storages: Mapping[str, Storage],
        digests: Callable[[str, str], None],
        turns: Turns | None,
        clock: Callable[[], float],
        metrics: EdgeMetrics,
        size: int,
        fills: int,
        lent: int,
        negative_ttl: float,
    ) -> None:
        self.size = size
        self.fills = Fills(fills)
        self.lent = Lent(lent)
        self.renewals = Renewals(storages, memory, disk, clock, metrics, self._remember_missing, fills)
        self._memory = memory
        self._disk = disk
        self._storages = storages
        self._local = frozenset(name for name, each in storages.items() if isinstance(each, LocalPaths))
        self._digests = digests
        self._turns = turns
        self._clock = clock
        self._metrics = metrics
        self._negative_ttl = negative_ttl
        self._missing: dict[Name, float] = {}

    def find(self, wanted: Wanted, number: int) -> tuple[Entry | Fill, bool]:
        """The slice from memory, or the fill that brings it, begun now if need be; and whether it had been begun before. Never raises: a fill tells."""
        key = wanted.key(number)
        entry, outdated = self._in_memory(key, wanted, number)
        if entry is not None:
            return entry, False
        fill = self.fills.get(key)
        if fill is not None and fill.serves(self._clock()):
            if not fill.admission.tiers:
                fill.admission = wanted.admission  # this later look-up may be the one that has it kept
            self._metrics.coalesced += 1
            return fill, True
        span = extent(number, self.size, wanted.origin.size)
        fill = Fill(span.length, wanted.admission, outdated)
        if self._is_missing(wanted.name):
            fill.fail(_missing())
        else:
            self.fills.start(key, fill, lambda key, fill: self._bring(wanted, key, span, fill))
        return fill, False

    def forget(self, media: str | None = None) -> None:
        """Forget which objects were missing or could not be renewed: of one media, or of all."""
        self.renewals.forget(media)
        for name in [name for name in self._missing if media is None or name[0] == media]:
            del self._missing[name]

    async def close(self) -> None:
        """Cancel what is on its way."""
        await self.fills.close()
        await self.renewals.close()

    def _in_memory(self, key: Key, wanted: Wanted, number: int) -> tuple[Entry | None, bool]:
        if self._memory is None:
            return None, False
        entry = self._memory.get(key)
        if entry is not None and self._sound(entry, wanted, number):
            if entry.usable(self._clock()):
                self._metrics.memory_hits += 1
                self._served(key, entry, wanted.origin)
                return entry, False
            self._memory.drop(key)
        self._metrics.memory_misses += 1
        return None, entry is not None

    async def _bring(self, wanted: Wanted, key: Key, span: ByteRange, fill: Fill) -> None:
        turn: Turn | None = None
        try:
            if self._disk is not None and not self._only_here(wanted):
                turn, source, entry = await self._from_disk(wanted, key, fill)
                if entry is not None:
                    if self._memory is not None and "memory" in fill.admission.tiers:
                        self._memory.put(key, entry)
                    fill.finish(entry, source)
                    return
            self._metrics.misses += 1
            async with self.fills.room:
                await self._from_origin(wanted, key, span, fill)
        finally:
            if turn is not None:
                turn.release()

    async def _from_disk(self, wanted: Wanted, key: Key, fill: Fill) -> tuple[Turn | None, Source, Entry | None]:
        """The slice from the shared disk, or the turn to fill it, or neither when another process has had the turn for too long.

        The turn is taken before the look at the disk, so that nobody can have filled it in between.
        """
        turns = self._turns if "disk" in fill.admission.tiers and wanted.origin.storage not in self._local else None
        turn: Turn | None = None
        source = Source.DISK
        waits = pauses()
        try:
            while True:
                turn = turns.take(str(key)) if turns is not None else None
                entry = await self._on_disk(wanted, key, fill)
                if entry is not None or turn is not None or turns is None:
                    break
                pause = next(waits, None)
                if pause is None:
                    break
                if source is Source.DISK:
                    source = Source.NEIGHBOUR
                    self._metrics.coalesced += 1
                await asyncio.sleep(pause)
        except BaseException:
            if turn is not None:
                turn.release()
            raise
        if entry is not None and source is Source.DISK:
            self._metrics.disk_hits += 1
        else:
            self._metrics.disk_misses += 1
        return turn, source, entry

    async def _on_disk(self, wanted: Wanted, key: Key, fill: Fill) -> Entry | None:
        assert self._disk is not None
        entry = await self._disk.get(key)
        if entry is None or not self._sound(entry, wanted, key.number):
            return None
        if not entry.usable(self._clock()):
            fill.outdated = True
            return None
        self._served(key, entry, wanted.origin)
        return entry

    async def _from_origin(self, wanted: Wanted, key: Key, span: ByteRange, fill: Fill) -> None:
        """Read the slice, pass it on as it arrives, and keep it. The room is held until the disk has it too, or a slow disk would let bodies pile up."""
        result = "cancelled"
        try:
            await self._read(wanted, span, fill)
            body = await fill.body() if fill.admission.tiers else b""
            result = "ok"
        except Exception as error:
            result = error.code if isinstance(error, MediaError) else "error"
            if isinstance(error, ObjectCorrupt):
                self._metrics.damaged += 1
            raise
        finally:
            self._metrics.fills[result] += 1
            self._metrics.fill_bytes += fill.have
        admission = fill.admission
        if not admission.tiers or not body:
            return
        entry = Entry(body, wanted.origin.size, self._clock(), admission.ttl, admission.grace, admission.pinned)
        if self._memory is not None and "memory" in admission.tiers:
            self._memory.put(key, entry)
        fill.finish(entry, Source.ORIGIN)
        if self._disk is not None and "disk" in admission.tiers:
            await self._disk.put(key, entry)

    async def _read(self, wanted: Wanted, span: ByteRange, fill: Fill) -> None:
        origin = wanted.origin
        storage = self._storages.get(origin.storage)
        if storage is None:
            raise StorageUnavailable("The storage of this object is not configured")
        whole = span.length == origin.size
        if whole:
            self._digests(origin.key, origin.digest)
        try:
            async with asyncio.timeout(PATIENCE) as limit, storage.open(origin.key, None if whole else span) as chunks:
                async for chunk in chunks:
                    fill.add(chunk)
                    limit.reschedule(asyncio.get_running_loop().time() + PATIENCE)
        except TimeoutError as error:
            raise StorageUnavailable("The storage does not answer") from error
        except NotFound:
            self._remember_missing(wanted.name)
            raise _missing() from None
        if fill.have < fill.length:
            raise ObjectCorrupt("The stored object is shorter than was recorded")

    def _only_here(self, wanted: Wanted) -> bool:
        return wanted.origin.storage in self._local and "disk" not in wanted.admission.tiers

    def _sound(self, entry: Entry, wanted: Wanted, number: int) -> bool:
        """Whether an entry is a copy of this very slice: another size of object or slice is another's."""
        total = wanted.origin.size
        return entry.total == total and len(entry.body) == extent(number, self.size, total).length

    def _served(self, key: Key, entry: Entry, origin: Origin) -> None:
        if entry.stale(self._clock()):
            self._metrics.stale += 1
            self.renewals.ask(key, entry, origin)

    def _is_missing(self, name: Name) -> bool:
        until = self._missing.get(name)
        if until is None:
            return False
        if self._clock() < until:
            return True
        del self._missing[name]
        return False

    def _remember_missing(self, name: Name) -> None:
        if len(self._missing) >= _MISSING:
            self._missing.clear()
        self._missing[name] = self._clock() + self._negative_ttl


def _missing() -> ObjectCorrupt:
    return ObjectCorrupt("The stored bytes are missing")
