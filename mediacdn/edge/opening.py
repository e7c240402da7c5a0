"""Open the edge of one process as the configuration has it: tiers, turns between processes, and the Edge over them."""

import time
from collections.abc import AsyncIterator, Callable, Mapping
from contextlib import AsyncExitStack, asynccontextmanager
from pathlib import Path

from mediacdn.config import Edge as EdgeConfig
from mediacdn.edge.disk import open_disk
from mediacdn.edge.memory import MemoryTier
from mediacdn.edge.metrics import EdgeMetrics
from mediacdn.edge.stamps import EPOCH, Stamps
from mediacdn.edge.tiers import Edge
from mediacdn.edge.turns import Turns
from mediacdn.interfaces import CachePolicy, LocalPaths, Storage


@asynccontextmanager
async def open_edge(
    config: EdgeConfig,
    folder: Path,
    *,
    storages: Mapping[str, Storage],
    policy: CachePolicy,
    stamps: Stamps,
    digests: Callable[[str, str], None],
    metrics: EdgeMetrics,
) -> AsyncIterator[Edge]:
    """Give the edge, and close it in the end. `folder` is the node's edge directory. There is a disk tier only where some storage's objects may go to it."""
    async with AsyncExitStack() as stack:
        memory = disk = turns = None
        if config.memory:
            memory = MemoryTier(config.memory, config.memory_eviction, on_evict=metrics.evicted("memory"))
        if config.disk and (config.disk_local or not all(isinstance(each, LocalPaths) for each in storages.values())):
            disk = await stack.enter_async_context(
                open_disk(
                    folder / "disk",
                    config.disk,
                    config.disk_eviction,
                    lambda: stamps.nonce,
                    on_evict=metrics.evicted("disk"),
                    on_corrupt=metrics.corrupt,
                )
            )
            turns = Turns(folder)
        edge = Edge(
            memory=memory,
            disk=disk,
            storages=storages,
            policy=policy,
            config=config,
            digests=digests,
            turns=turns,
            epoch=lambda: stamps.words[EPOCH],
            clock=time.time,
            metrics=metrics,
        )
        try:
            yield edge
        finally:
            await edge.close()
