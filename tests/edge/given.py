"""An edge over an origin that can be slow, broken and counted."""

import asyncio
import hashlib
from collections.abc import AsyncGenerator, AsyncIterable, AsyncIterator, Callable
from contextlib import aclosing, asynccontextmanager
from copy import copy
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

from prometheus_client import CollectorRegistry

from mediacdn.config.sections import Edge as EdgeConfig
from mediacdn.edge.disk import open_disk
from mediacdn.edge.entries import Entry, Key
from mediacdn.edge.memory import MemoryTier
from mediacdn.edge.metrics import EdgeMetrics
from mediacdn.edge.tier import Disk
from mediacdn.edge.tiers import Edge, Hit, Note, Origin, Reading
from mediacdn.edge.turns import Turns
from mediacdn.errors import NotFound, StorageUnavailable
from mediacdn.model import Admission, ByteRange, Card, ObjectInfo, State, Status
from mediacdn.storage.digests import Digests
from mediacdn.storage.verify import Verifying

SLICE = 65_536
EPOCH = datetime(2026, 1, 1, tzinfo=UTC)


def content(size: int, seed: int = 0) -> bytes:
    return hashlib.shake_128(b"%d" % seed).digest(size)


def card(body: bytes, key: str = "a", **changes: Any) -> Card:
    values: dict[str, Any] = {
        "id": f"01{key.upper()}", "owner": "o", "public": True, "state": State.LIVE, "status": Status.READY, "generation": 1,
        "links_valid_from": 0, "expires_at": None, "storage": "far", "key": key, "size": len(body),
        "digest": hashlib.sha256(body).hexdigest(), "media_type": "image/png", "modified": EPOCH,
    }  # fmt: skip
    return Card(**(values | changes))


def origin(of: Card) -> Origin:
    return Origin(of.storage, of.key, of.size, of.digest)


class Far:
    """A storage whose reads are recorded in `opened`, may wait at `gate` before each chunk, linger at their end, and fail as told. Not local."""

    def __init__(self, chunk: int = 16_384) -> None:
        self.objects: dict[str, bytes] = {}
        self.opened: list[tuple[str, ByteRange | None]] = []
        self.heads: list[str] = []
        self.chunk = chunk
        self.gate: asyncio.Semaphore | None = None
        self.down = False
        self.fails_after: int | None = None
        self.lingers = 0.0
        self.reading = 0
        self.most_reading = 0

    def given(self, body: bytes, key: str = "a", **changes: Any) -> Card:
        self.objects[key] = body
        return card(body, key, **changes)

    async def head(self, key: str) -> ObjectInfo:
        self.heads.append(key)
        return ObjectInfo(key, len(self._get(key)), EPOCH)

    @asynccontextmanager
    async def open(self, key: str, span: ByteRange | None = None) -> AsyncIterator[AsyncIterator[bytes]]:
        self.opened.append((key, span))
        body = self._get(key)
        self.reading += 1
        self.most_reading = max(self.most_reading, self.reading)
        try:
            async with aclosing(self._chunks(body[span.start : span.stop] if span else body)) as chunks:
                yield chunks
        finally:
            self.reading -= 1
            if self.lingers:
                await asyncio.sleep(self.lingers)

    async def put(self, key: str, chunks: AsyncIterable[bytes], *, size: int | None = None) -> ObjectInfo:
        raise AssertionError("the edge writes to no storage")

    async def delete(self, key: str) -> None:
        raise AssertionError("the edge deletes from no storage")

    async def list(self, prefix: str = "") -> AsyncIterator[ObjectInfo]:
        raise AssertionError("the edge lists no storage")
        yield

    def _get(self, key: str) -> bytes:
        if self.down:
            raise StorageUnavailable
        if key not in self.objects:
            raise NotFound
        return self.objects[key]

    async def _chunks(self, body: bytes) -> AsyncGenerator[bytes, None]:
        for number, at in enumerate(range(0, len(body), self.chunk)):
            if number == self.fails_after:
                raise StorageUnavailable
            if self.gate is not None:
                await self.gate.acquire()
            await asyncio.sleep(0)
            yield body[at : at + self.chunk]


class FarLocal(Far):
    """The same, whose objects are files of this machine."""

    def open_file(self, key: str) -> int:
        raise AssertionError("the edge opens no files")


class Fixed:
    """A policy that says one thing, after a number of look-ups; before it, nothing is kept."""

    def __init__(self, *tiers: str, ttl: float = 60, grace: float = 600, after: int = 1) -> None:
        self.admission = Admission("fixed", tiers, ttl, grace)
        self.never = Admission("never", (), ttl, grace)
        self.after = after
        self.asked: list[int] = []

    def judge(self, card: Card, variant: str, hits: int) -> Admission:
        self.asked.append(hits)
        return self.admission if hits >= self.after else self.never


class Shelf:
    """A disk tier in memory, whose writes may wait at `gate`."""

    def __init__(self) -> None:
        self.held: dict[Key, Entry] = {}
        self.gate: asyncio.Event | None = None
        self.looks = 0

    async def get(self, key: Key) -> Entry | None:
        self.looks += 1
        await asyncio.sleep(0)
        held = self.held.get(key)
        return None if held is None else copy(held)

    async def put(self, key: Key, entry: Entry) -> bool:
        if self.gate is not None:
            await self.gate.wait()
        self.held[key] = copy(entry)
        return True

    async def renew(self, key: Key, stored: float) -> None:
        self.held[key].stored = stored

    async def drop(self, key: Key) -> None:
        self.held.pop(key, None)

    async def clear(self) -> None:
        await asyncio.sleep(0)
        self.held.clear()

    @property
    def bytes(self) -> int:
        return sum(len(entry.body) for entry in self.held.values())

    @property
    def entries(self) -> int:
        return len(self.held)


class Bench:
    """An edge, everything it stands on, and short words for asking it."""

    def __init__(self, edge: Edge, far: Far, memory: MemoryTier | None, disk: Disk | None, metrics: EdgeMetrics, policy: Fixed) -> None:
        self.edge, self.far, self.memory, self.disk, self.metrics, self.policy = edge, far, memory, disk, metrics, policy
        self.now = 1_000_000.0
        self.epoch = 0

    async def read(self, of: Card, *spans: tuple[int, int], variant: str = "") -> tuple[list[bytes], Note]:
        """What the spans hold, by the way that a door takes: a peek, then an open."""
        ranges = tuple(ByteRange(*span) for span in spans or ((0, of.size),))
        hit = self.peek(of, *spans, variant=variant)
        if hit is not None:
            return [bytes(piece) for piece in hit.pieces], hit.note
        reading = await self.edge.open(of, variant, origin(of), ranges)
        try:
            return [await self.drain(reading, number) for number in range(len(ranges))], reading.note
        finally:
            await reading.aclose()

    async def drain(self, reading: Reading, number: int = 0) -> bytes:
        return b"".join([bytes(piece) async for piece in reading.span(number)])

    def peek(self, of: Card, *spans: tuple[int, int], variant: str = "") -> Hit | None:
        return self.edge.peek(of, variant, tuple(ByteRange(*span) for span in spans or ((0, of.size),)), self.now)

    async def quiet(self) -> None:
        """Wait until nothing runs in the background."""
        async with asyncio.timeout(10):
            while left := asyncio.all_tasks() - self.tasks - {asyncio.current_task()}:
                await asyncio.wait(left)
        await asyncio.sleep(0)

    tasks: set[Any] = set()


@asynccontextmanager
async def bench(
    folder: Path | None = None,
    *,
    far: Far | None = None,
    policy: Fixed | None = None,
    memory: int = 1 << 26,
    shelf: Shelf | None = None,
    turns: bool = False,
    **config: Any,
) -> AsyncIterator[Bench]:
    """A bench with a disk tier, `shelf` or a real one in `folder`, where one is given. At its end nothing may be left of it: no task, no open read."""
    before = asyncio.all_tasks()
    far = far or Far()
    policy = policy or Fixed("memory", "disk")
    digests = Digests()
    metrics = EdgeMetrics(CollectorRegistry())
    tier = MemoryTier(memory, "lru", on_evict=metrics.evicted("memory")) if memory else None
    values: dict[str, Any] = {"slice_size": SLICE, "negative_ttl": 1.0, **config}

    @asynccontextmanager
    async def disk() -> AsyncIterator[Disk | None]:
        if folder is None or shelf is not None:
            yield shelf
            return
        on = (metrics.evicted("disk"), metrics.corrupt)
        async with open_disk(
            folder / "slices", 1 << 30, "least-recently-stored", lambda: "nonce", on_evict=on[0], on_corrupt=on[1]
        ) as opened:
            yield opened

    async with disk() as shared:
        made: Bench
        edge = Edge(
            memory=tier,
            disk=shared,
            storages={"far": Verifying(far, digests.get)},
            policy=policy,
            config=EdgeConfig(**values),
            digests=digests.remember,
            turns=Turns(folder) if turns and folder is not None else None,
            epoch=lambda: made.epoch,
            clock=lambda: made.now,
            metrics=metrics,
        )
        made = Bench(edge, far, tier, shared, metrics, policy)
        made.tasks = asyncio.all_tasks()
        try:
            yield made
        finally:
            await edge.close()
        left = asyncio.all_tasks() - made.tasks - {asyncio.current_task()}
        assert not left, f"tasks were left behind: {left}"
    assert asyncio.all_tasks() <= before | {asyncio.current_task()}
    assert far.reading == 0


async def until(holds: Callable[[], object]) -> None:
    """Wait for what no event tells of."""
    async with asyncio.timeout(30):
        while not holds():  # noqa: ASYNC110
            await asyncio.sleep(0.001)


def slices_read(far: Far) -> list[int]:
    """The numbers of the slices that were read of the origin, in order."""
    return [0 if span is None else span.start // SLICE for _, span in far.opened]


__all__ = [
    "EPOCH",
    "SLICE",
    "Bench",
    "Far",
    "FarLocal",
    "Fixed",
    "Shelf",
    "Turns",
    "bench",
    "card",
    "content",
    "origin",
    "slices_read",
    "until",
]
