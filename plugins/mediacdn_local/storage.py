"""The driver's face to the core: the five verbs, LocalPaths, RelativePaths, Room and Adopts, with every blocking call in a thread of its own pools."""

import asyncio
import os
from collections.abc import AsyncIterable, AsyncIterator, Iterator
from contextlib import asynccontextmanager
from itertools import islice

from mediacdn import ByteRange, Kit, ObjectInfo, give_way
from mediacdn_local.config import LocalConfig
from mediacdn_local.faults import translated
from mediacdn_local.layout import place_of
from mediacdn_local.pool import Pool
from mediacdn_local.reading import Chunks
from mediacdn_local.staging import Staging, sweep
from mediacdn_local.tree import Tree

_BATCH = 512 * 1024
"""Bytes gathered before a thread is asked to write them; a put holds two batches at most beyond its caller's chunk."""
_LISTED = 256
"""Objects a visit to the thread brings back."""


class LocalStorage:
    """Objects as files beneath one folder. `open_local` opens it; `reserve` is in bytes."""

    def __init__(self, tree: Tree, reserve: int, *, readers: int = 16, writers: int = 8) -> None:
        self._tree = tree
        self._reserve = reserve
        self._reads = Pool("local-read", readers)
        self._writes = Pool("local-write", writers, give_way)

    async def close(self) -> None:
        await self._writes.close()
        await self._reads.close()
        self._tree.close()

    async def head(self, key: str) -> ObjectInfo:
        return await self._reads.run(self._tree.head, place_of(key))

    @asynccontextmanager
    async def open(self, key: str, span: ByteRange | None = None) -> AsyncIterator[AsyncIterator[bytes]]:
        chunks = Chunks(self._reads, self._tree, place_of(key), span)
        try:
            await chunks.enter()
            yield chunks
        finally:
            await chunks.leave()

    async def put(self, key: str, chunks: AsyncIterable[bytes], *, size: int | None = None) -> ObjectInfo:
        staging = Staging(self._tree, place_of(key), self._reserve)
        flight: asyncio.Future[None] | asyncio.Future[ObjectInfo] = self._writes.start(staging.begin, size)
        try:
            await asyncio.shield(flight)
            batch: list[bytes] = []
            held = 0
            async for chunk in chunks:
                batch.append(chunk)
                held += len(chunk)
                if held >= _BATCH:
                    # One write in flight while the next batch gathers.
                    await asyncio.shield(flight)
                    flight = self._writes.start(staging.write, batch)
                    batch, held = [], 0
            await asyncio.shield(flight)
            flight = finishing = self._writes.start(staging.finish, batch)
            info = await asyncio.shield(finishing)
        except BaseException:
            await self._writes.clean(flight, staging.abandon)
            raise
        self._writes.clean_later(finishing, staging.commit)
        return info

    async def delete(self, key: str) -> None:
        await self._writes.run(self._tree.remove, place_of(key))

    async def list(self, prefix: str = "") -> AsyncIterator[ObjectInfo]:
        objects = self._tree.walk(prefix)
        flight = self._reads.start(_some, objects)
        try:
            while batch := await asyncio.shield(flight):
                for info in batch:
                    yield info
                flight = self._reads.start(_some, objects)
        finally:
            await self._reads.clean(flight, objects.close)

    def open_file(self, key: str) -> int:
        return translated(self._tree.open_file, place_of(key))

    def relative_path(self, key: str) -> str:
        place = place_of(key)
        return "/".join((*place.folders, place.name))

    async def adopt(self, key: str, path: str) -> ObjectInfo | None:
        return await self._writes.run(self._tree.adopt, place_of(key), path)

    async def free(self) -> int:
        available, _ = await self._reads.run(self._tree.available)
        return max(0, available - self._reserve)

    async def sweep(self) -> int:
        """Unlink what writers that died have left in the staging folder; answer how many files. Raises: StorageUnavailable."""
        return await self._writes.run(sweep, self._tree)


def _some(objects: Iterator[ObjectInfo]) -> tuple[ObjectInfo, ...]:
    return tuple(islice(objects, _LISTED))


@asynccontextmanager
async def open_local(config: LocalConfig, kit: Kit) -> AsyncIterator[LocalStorage]:
    """Open the storage of `config`, sweeping what dead writers left. Raises: StorageUnavailable when its folder cannot be made or opened."""
    path = os.path.join(kit.data, config.path or "objects")
    tree = await asyncio.to_thread(translated, Tree, path, sync=config.fsync)
    reserve = config.reserve
    if reserve is None:
        reserve = min(tree.available()[1] // 20, 1_000_000_000)
    storage = LocalStorage(tree, reserve)
    try:
        await storage.sweep()
        yield storage
    finally:
        await storage.close()
