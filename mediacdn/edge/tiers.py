"""The edge: the one object that readers ask for bytes. It decides what may be kept, answers from memory at once, and leaves all else to its slices."""

import asyncio
from collections import OrderedDict
from collections.abc import Callable, Mapping
from typing import cast

from msgspec import Struct
from msgspec.structs import replace

from mediacdn.config.sections import Edge as EdgeConfig
from mediacdn.edge.coalesce import Fill
from mediacdn.edge.entries import Entry, Key, Known
from mediacdn.edge.metrics import EdgeMetrics
from mediacdn.edge.origin import LOCAL, Origin
from mediacdn.edge.reading import Hit, Note, Reading, note_of_entry, open_reading
from mediacdn.edge.slices import Slices, Wanted, cuts
from mediacdn.edge.tier import Disk, Memory
from mediacdn.edge.turns import Turns
from mediacdn.interfaces import CachePolicy, LocalPaths, Storage
from mediacdn.model import Admission, ByteRange, Card

__all__ = ["Edge", "EdgeStats", "Hit", "Note", "Origin", "Reading", "TierStats"]

LONGEST_PEEK = 1_048_576
MOST_SLICES = 8
"""What `peek` answers at most: bytes, and slices that they lie in."""

_EPOCH = 40
"""The generation's bits in a key's; the epoch stands above them."""

_COUNTED = 100_000
"""Objects whose look-ups are counted."""

_LOOKED_FOR = 10_000
_EVER = 1 << 30
"""A count of look-ups that any rule about counts is content with."""


class TierStats(Struct, frozen=True):
    """One tier: what it holds, and what was looked for in it since this process began. Sizes are bytes."""

    entries: int
    bytes: int
    limit: int
    eviction: str
    hits: int
    misses: int
    evictions: int


class EdgeStats(Struct, frozen=True):
    """The edge of one process; a tier that is off is None."""

    memory: TierStats | None
    disk: TierStats | None
    fills: int
    in_flight: int
    coalesced: int
    renewals: int
    stale: int
    corrupt: int


class Edge:
    """Bytes of media for one event loop. `digests` is told a key and its SHA-256 before it is read whole; `epoch` counts the purges of all."""

    def __init__(
        self,
        *,
        memory: Memory | None,
        disk: Disk | None,
        storages: Mapping[str, Storage],
        policy: CachePolicy,
        config: EdgeConfig,
        digests: Callable[[str, str], None],
        turns: Turns | None,
        epoch: Callable[[], int],
        clock: Callable[[], float],
        metrics: EdgeMetrics,
    ) -> None:
        self._memory = memory
        self._disk = disk
        self._local = frozenset(name for name, each in storages.items() if isinstance(each, LocalPaths))
        self._policy = policy
        self._config = config
        self._turns = turns
        self._epoch = epoch
        self._clock = clock
        self._metrics = metrics
        self._size = config.slice_size
        self._looks: OrderedDict[tuple[str, str], int] = OrderedDict()
        self._clearing: set[asyncio.Task[None]] = set()
        self._slices = Slices(
            memory=memory,
            disk=disk,
            storages=storages,
            digests=digests,
            turns=turns,
            clock=clock,
            metrics=metrics,
            size=config.slice_size,
            fills=config.fills,
            lent=config.lent,
            negative_ttl=config.negative_ttl,
        )
        if memory is not None:
            metrics.watch("memory", memory)
        if disk is not None:
            metrics.watch("disk", disk)

    def peek(self, card: Card, variant: str, spans: tuple[ByteRange, ...], now: float) -> Hit | None:
        """Answer from memory, at once and without I/O, or None. A stale copy within its grace is served, and its renewal begun.

        Without spans, the note is of the first slice and there are no pieces. None also for more than 8 slices or 1 MiB.
        """
        memory = self._memory
        if memory is None:
            return None
        if len(spans) == 1:
            span = spans[0]
            start, stop = span.start, span.stop
            number, first = divmod(start, self._size)
            last = first + stop - start
            if last <= self._size and stop - start <= LONGEST_PEEK:
                # A plain tuple equals the Key, and is made in a fifth of the time.
                entry = memory.get(cast("Key", (card.id, variant, self._epoch() << _EPOCH | card.generation, number)))
                if entry is None:
                    return None
                left = entry.stored + entry.ttl - now
                body = entry.body
                if left > 0 and last <= len(body) and (variant or entry.total == card.size):
                    self._metrics.memory_hits += 1
                    piece = body if last - first == len(body) else memoryview(body)[first:last]
                    return Hit((piece,), Note(True, None, None, False, entry.stored, left, None))
        return self._peek_all(memory, card, variant, spans, now)

    def whole(self, card: Card, variant: str, now: float, known: Known | None = None) -> Entry | None:
        """The object, when it is one slice that memory has and that is fresh: what `peek` would answer from, in one step. `known` is what was answered before."""
        memory = self._memory
        if memory is None:
            return None
        generation = self._epoch() << _EPOCH | card.generation
        entry = known() if known is not None and memory.roomy else None
        if entry is None or entry.generation != generation:
            # A plain tuple equals the Key, and is made in a fifth of the time.
            entry = memory.get(cast("Key", (card.id, variant, generation, 0)))
            if entry is None:
                return None
        if len(entry.body) != card.size or entry.stored + entry.ttl <= now or entry.total != card.size:
            return None
        self._metrics.memory_hits += 1
        return entry

    def leaves(self, origin: Origin) -> bool:
        """Whether no tier ever has copies of it: its storage is this machine's, and as near."""
        local = origin.storage in self._local and not self._config.disk_local
        return local and (self._memory is None or origin.size > self._config.memory_local)

    def bypasses(self, card: Card, variant: str, origin: Origin) -> str | None:
        """Why the edge takes no part, and the storage is to be read directly: LOCAL, or the name of the rule that never keeps it; else None."""
        if self.leaves(origin):
            return LOCAL
        looks = self._looks.get((card.id, variant), 0) + 1
        if self._admit(card, variant, origin, looks).tiers:
            return None
        # What a later look-up would have kept is looked for and coalesced already: it may be on disk, and its herd comes at once.
        never = self._admit(card, variant, origin, _EVER)
        return None if never.tiers else never.rule

    async def open(self, card: Card, variant: str, origin: Origin, spans: tuple[ByteRange, ...]) -> Reading:
        """Return when the first bytes of the first span are at hand. Raises: ObjectCorrupt, also for bytes that are missing; StorageUnavailable."""
        return await open_reading(self._slices, self._wanted(card, variant, origin), spans, self._clock())

    def warm(self, card: Card, variant: str, origin: Origin) -> None:
        """Bring the first slice into the tiers, in the background."""
        wanted = self._wanted(card, variant, origin)
        if origin.size and wanted.admission.tiers:
            self._slices.find(wanted, 0)

    def forget(self, media_id: str) -> None:
        """Forget what is remembered of a media besides its copies, which its new generation has killed; fills of it are kept no more."""
        self._slices.forget(media_id)
        for key, fill in self._slices.fills.running():
            if key.media == media_id:
                _keep_no_more(fill)

    def clear(self) -> None:
        """Empty both tiers, the disk's in the background. Fills that began under an older epoch are kept no more."""
        self._slices.forget()
        self._looks.clear()
        epoch = self._epoch()
        for key, fill in self._slices.fills.running():
            if key.generation >> _EPOCH != epoch:
                _keep_no_more(fill)
        if self._memory is not None:
            self._memory.clear()
        if self._disk is not None:
            clearing = asyncio.create_task(self._disk.clear())
            self._clearing.add(clearing)
            clearing.add_done_callback(self._clearing.discard)

    def stats(self) -> EdgeStats:
        """The figures of this process."""
        config, metrics = self._config, self._metrics
        memory = disk = None
        if self._memory is not None:
            memory = TierStats(
                self._memory.entries, self._memory.bytes, config.memory, config.memory_eviction,
                metrics.memory_hits, metrics.memory_misses, metrics.evictions["memory"],
            )  # fmt: skip
        if self._disk is not None:
            disk = TierStats(
                self._disk.entries, self._disk.bytes, config.disk, config.disk_eviction,
                metrics.disk_hits, metrics.disk_misses, metrics.evictions["disk"],
            )  # fmt: skip
        return EdgeStats(
            memory,
            disk,
            metrics.fills.total(),
            len(self._slices.fills),
            metrics.coalesced,
            metrics.renewals,
            metrics.stale,
            metrics.damaged,
        )

    async def holds(self, card: Card, variant: str) -> dict[str, int]:
        """How many slices of a media's variant each tier holds now; in memory, of the first 10,000."""
        generation = self._epoch() << _EPOCH | card.generation
        held: dict[str, int] = {}
        if self._memory is not None:
            slices = min(-(-card.size // self._size), _LOOKED_FOR)
            held["memory"] = sum(self._memory.peek(Key(card.id, variant, generation, number)) is not None for number in range(slices))
        if self._disk is not None:
            held["disk"] = await self._disk.count(Key(card.id, variant, generation, 0))
        return held

    async def close(self) -> None:
        """Cancel what runs in the background, and give the turns back."""
        await self._slices.close()
        for clearing in self._clearing:
            clearing.cancel()
        if self._clearing:
            await asyncio.wait(set(self._clearing))
        if self._turns is not None:
            self._turns.close()

    def _peek_all(self, memory: Memory, card: Card, variant: str, spans: tuple[ByteRange, ...], now: float) -> Hit | None:
        """Any number of spans, in any slices, perhaps stale."""
        if sum(span.stop - span.start for span in spans) > LONGEST_PEEK:
            return None
        generation = self._epoch() << _EPOCH | card.generation
        held: dict[Key, Entry] = {}
        found: list[bytes | memoryview] = []
        for span in spans or (ByteRange(0, min(1, card.size)),):
            parts: list[bytes | memoryview] = []
            for number, start, stop in cuts(span, self._size):
                key = Key(card.id, variant, generation, number)
                entry = held.get(key) or memory.get(key)
                if entry is None or not entry.usable(now) or stop > len(entry.body) or not (variant or entry.total == card.size):
                    return None
                if variant and entry.stale(now):
                    return None  # only `open` is told where a variant could be asked for
                held[key] = entry
                parts.append(memoryview(entry.body)[start:stop])
            if len(held) > MOST_SLICES:
                return None
            found.append(parts[0] if len(parts) == 1 else b"".join(parts))
        if not held:
            return None
        self._metrics.memory_hits += len(held)
        for key, entry in held.items():
            if entry.stale(now):
                self._metrics.stale += 1
                self._slices.renewals.ask(key, entry, Origin(card.storage, card.key, card.size, card.digest))
        oldest = min(held.values(), key=lambda entry: entry.stored + entry.ttl)
        return Hit(tuple(found) if spans else (), note_of_entry(oldest, now))

    def _wanted(self, card: Card, variant: str, origin: Origin) -> Wanted:
        """Name what is asked for, count the look-up, and ask the policy."""
        looked = (card.id, variant)
        looks = self._looks.pop(looked, 0) + 1
        self._looks[looked] = looks
        if len(self._looks) > _COUNTED:
            self._looks.popitem(last=False)
        name = (card.id, variant, self._epoch() << _EPOCH | card.generation)
        return Wanted(name, origin, self._admit(card, variant, origin, looks))

    def _admit(self, card: Card, variant: str, origin: Origin, looks: int) -> Admission:
        """The policy's word, without the tiers that there are not, or that the configuration keeps such objects from."""
        admission = self._policy.judge(card, variant, looks)
        local = origin.storage in self._local
        tiers = tuple(
            tier
            for tier in admission.tiers
            if (tier == "memory" and self._memory is not None and not (local and origin.size > self._config.memory_local))
            or (tier == "disk" and self._disk is not None and not (local and not self._config.disk_local))
        )
        return admission if tiers == admission.tiers else replace(admission, tiers=tiers)


def _keep_no_more(fill: Fill) -> None:
    fill.admission = replace(fill.admission, tiers=())
