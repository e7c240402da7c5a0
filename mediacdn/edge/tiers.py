"""The edge: the one object that readers ask for bytes. It finds them in memory, on disk, on their way, or at their origin, in this order."""

from collections.abc import Callable, Mapping

from msgspec import Struct

from mediacdn.config.sections import Edge as EdgeConfig
from mediacdn.edge.disk import DiskTier
from mediacdn.edge.memory import MemoryTier
from mediacdn.edge.metrics import EdgeMetrics
from mediacdn.edge.reading import Hit, Note, Origin, Reading
from mediacdn.edge.turns import Turns
from mediacdn.interfaces import CachePolicy, Storage
from mediacdn.model import ByteRange, Card

__all__ = ["Edge", "EdgeStats", "Hit", "Note", "Origin", "Reading", "TierStats"]


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
        memory: MemoryTier | None,
        disk: DiskTier | None,
        storages: Mapping[str, Storage],
        policy: CachePolicy,
        config: EdgeConfig,
        digests: Callable[[str, str], None],
        turns: Turns | None,
        epoch: Callable[[], int],
        clock: Callable[[], float],
        metrics: EdgeMetrics,
    ) -> None:
        raise NotImplementedError

    def peek(self, card: Card, variant: str, spans: tuple[ByteRange, ...], now: float) -> Hit | None:
        """Answer from memory, at once and without I/O, or None. A stale copy within its grace is served, and its renewal begun."""
        raise NotImplementedError

    def bypasses(self, card: Card, variant: str, origin: Origin) -> str | None:
        """Why the edge takes no part, and the storage is to be read directly: "local", or the name of the rule that never keeps it; else None."""
        raise NotImplementedError

    async def open(self, card: Card, variant: str, origin: Origin, spans: tuple[ByteRange, ...]) -> Reading:
        """Return when the first bytes of the first span are at hand. Raises: ObjectCorrupt, also for bytes that are missing; StorageUnavailable."""
        raise NotImplementedError

    def warm(self, card: Card, variant: str, origin: Origin) -> None:
        """Bring the first slice into the tiers, in the background."""
        raise NotImplementedError

    def forget(self, media_id: str) -> None:
        """Forget what is remembered of a media besides its copies, which its new generation has killed."""
        raise NotImplementedError

    def clear(self) -> None:
        """Empty both tiers, the disk's in the background."""
        raise NotImplementedError

    def stats(self) -> EdgeStats:
        """The figures of this process."""
        raise NotImplementedError

    async def close(self) -> None:
        """Cancel what runs in the background, and give the turns back."""
