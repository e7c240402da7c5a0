"""The disk tier: slices that the server processes of a node share, in a folder of their own. Whatever happens to the folder is a miss, never an error and never wrong bytes."""

from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Literal

from mediacdn.edge.entries import Entry, Key


def _unheard_evict(_entries: int, _bytes: int) -> None:
    pass


def _unheard_corrupt() -> None:
    pass


class DiskTier:
    """Entries by key, for one event loop; other processes may use the same folder."""

    async def get(self, key: Key) -> Entry | None:
        """The entry as it was put, or None."""
        return None

    async def put(self, key: Key, entry: Entry) -> bool:
        """Keep it in place of what was there; False when it was not kept."""
        return False

    async def drop(self, key: Key) -> None:
        """Forget it, if it is there."""

    async def clear(self) -> None:
        """Forget everything."""

    async def renew(self, key: Key, stored: float) -> None:
        """Note that the origin confirmed the entry at this time."""

    @property
    def bytes(self) -> int:
        return 0

    @property
    def entries(self) -> int:
        return 0


@asynccontextmanager
async def open_disk(
    folder: Path,
    limit: int,
    eviction: Literal["lru", "least-recently-stored"],
    nonce: str,
    *,
    on_evict: Callable[[int, int], None] = _unheard_evict,
    on_corrupt: Callable[[], None] = _unheard_corrupt,
) -> AsyncIterator[DiskTier]:
    """The tier in `folder`, made with mode 0700 if need be; emptied first when it was kept under another nonce. Raises: nothing; an unusable folder is an empty tier."""
    yield DiskTier()
