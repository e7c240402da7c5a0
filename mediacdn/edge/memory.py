"""The memory tier: slices in this process within a byte budget, for the event loop alone. What may enter is the caller's decision; what leaves first is `eviction`'s."""

from collections.abc import Callable
from typing import Literal

from mediacdn.edge.entries import Entry, Key
from mediacdn.edge.eviction import Order, Queue, TinyLfu, cost


def _unheard(_entries: int, _bytes: int) -> None:
    pass


def _order(eviction: Literal["lru", "tinylfu", "least-recently-stored"], limit: int) -> Order:
    if eviction == "tinylfu":
        return TinyLfu(limit)
    return Queue(recency=eviction == "lru")


class MemoryTier:
    """Entries by key. `limit`, `bytes` and what `on_evict` hears (entries, bytes: what made room) count bodies and a fixed overhead for each entry.

    Pinned entries leave when no other is left, and for a pinned one only; among themselves by recency.
    """

    def __init__(
        self,
        limit: int,
        eviction: Literal["lru", "tinylfu", "least-recently-stored"],
        *,
        on_evict: Callable[[int, int], None] = _unheard,
    ) -> None:
        self.limit = limit
        self._eviction = eviction
        self._frequency = eviction == "tinylfu"
        self._on_evict = on_evict
        self.clear()

    def get(self, key: Key) -> Entry | None:
        """The entry, which counts as a use of it. About half a microsecond under lru."""
        entry = self._order.use(key)
        if entry is None and self._pinned:
            return self._pinned.use(key)
        return entry

    @property
    def roomy(self) -> bool:
        """Whether uses count for nothing, because nothing leaves for long."""
        return not self._frequency and (self._order.bytes + self._pinned.bytes) * 2 < self.limit

    def peek(self, key: Key) -> Entry | None:
        """The entry, which counts as nothing."""
        return self._order.peek(key) or self._pinned.peek(key)

    def put(self, key: Key, entry: Entry) -> bool:
        """Keep it in place of what was there; False when it cannot fit or is not worth what would have to go: then nothing is kept under the key."""
        self.drop(key)
        entry.generation = key.generation
        takes = cost(entry)
        if takes > self.limit:
            return False
        if entry.pinned:
            kept = True
            entries, gone = self._order.shrink(self.limit - self._pinned.bytes - takes)
            _, more, more_gone = self._pinned.put(key, entry, self.limit - self._order.bytes)
            entries, gone = entries + more, gone + more_gone
        elif takes > self.limit - self._pinned.bytes:
            return False
        else:
            kept, entries, gone = self._order.put(key, entry, self.limit - self._pinned.bytes)
        if entries:
            self._on_evict(entries, gone)
        return kept

    def drop(self, key: Key) -> None:
        """Forget it, if it is there."""
        self._order.drop(key)
        self._pinned.drop(key)

    def clear(self) -> None:
        """Forget everything."""
        self._order = _order(self._eviction, self.limit)
        self._pinned = Queue(recency=True)

    @property
    def bytes(self) -> int:
        return self._order.bytes + self._pinned.bytes

    @property
    def entries(self) -> int:
        return len(self._order) + len(self._pinned)
