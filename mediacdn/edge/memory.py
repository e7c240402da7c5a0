"""The memory tier: slices in this process within a byte budget, for the event loop alone. What may enter is the caller's decision, what leaves is the eviction's."""

from collections.abc import Callable
from typing import Literal

from mediacdn.edge.entries import Entry, Key


def _unheard(_entries: int, _bytes: int) -> None:
    pass


class MemoryTier:
    """Entries by key. `limit` is bytes of bodies and a fixed overhead for each; `on_evict` hears (entries, bytes) of what made room."""

    def __init__(
        self,
        limit: int,
        eviction: Literal["lru", "tinylfu", "least-recently-stored"],
        *,
        on_evict: Callable[[int, int], None] = _unheard,
    ) -> None:
        self.limit = limit

    def get(self, key: Key) -> Entry | None:
        """The entry, which counts as a use of it."""
        return None

    def peek(self, key: Key) -> Entry | None:
        """The entry, which counts as nothing."""
        return None

    def put(self, key: Key, entry: Entry) -> bool:
        """Keep it in place of what was there; False when it cannot fit or is not worth what would have to go."""
        return False

    def drop(self, key: Key) -> None:
        """Forget it, if it is there."""

    def clear(self) -> None:
        """Forget everything."""

    @property
    def bytes(self) -> int:
        return 0

    @property
    def entries(self) -> int:
        return 0
