"""Which unpinned entry of the memory tier leaves first: three orders over a byte budget that their owner sets anew at each call, because pinned entries share it.

W-TinyLFU is the published algorithm (Einziger, Friedman, Manes: TinyLFU, 2017; the aggregated victims are of Einziger et al., Lightweight Robust Size Aware
Cache Management, 2021). Libraries do not fit: theine counts entries, cachetools has no such order, and moka-py, which can weigh, has a capacity that is
fixed, cannot look without counting a use, and adds 7 % to entries of 10 KB.
"""

from collections import OrderedDict
from collections.abc import Iterator
from itertools import chain
from typing import NamedTuple, Protocol

from mediacdn.edge.entries import Entry, Key

ENTRY_OVERHEAD = 512
"""Bytes that an entry costs beside its body: measured at about 500 with a key of its own, by benchmarks/micro_memory.py."""

_HALVES = bytes(count >> 1 for count in range(256))


def cost(entry: Entry) -> int:
    """Bytes an entry takes from the budget."""
    return len(entry.body) + ENTRY_OVERHEAD


class Put(NamedTuple):
    """What came of a put: whether it was kept, and how many entries and bytes had to go for it."""

    kept: bool
    entries: int
    bytes: int


class Order(Protocol):
    """Entries in the order in which they leave. `room` is the bytes that may be held in all; a put promises a key that is not there and a cost within the room."""

    @property
    def bytes(self) -> int: ...
    def __len__(self) -> int: ...
    def use(self, key: Key) -> Entry | None: ...
    def peek(self, key: Key) -> Entry | None: ...
    def put(self, key: Key, entry: Entry, room: int) -> Put: ...
    def drop(self, key: Key) -> None: ...
    def shrink(self, room: int) -> tuple[int, int]:
        """Evict until what is held fits: (entries, bytes) that went."""
        ...


class Queue:
    """First in, first out; with `recency` a use makes an entry the newest, which is LRU.

    A use counts once half of the room that the last put was given is taken: before that nothing leaves for long, and to move an entry costs more than to find it.
    """

    def __init__(self, *, recency: bool) -> None:
        self.bytes = 0
        self._half = 0
        self._recency = recency
        self._entries: OrderedDict[Key, Entry] = OrderedDict()

    def __len__(self) -> int:
        return len(self._entries)

    def use(self, key: Key) -> Entry | None:
        entry = self._entries.get(key)
        if entry is not None and self._recency and self.bytes >= self._half:
            self._entries.move_to_end(key)
        return entry

    def peek(self, key: Key) -> Entry | None:
        return self._entries.get(key)

    def put(self, key: Key, entry: Entry, room: int) -> Put:
        self._half = room // 2
        gone = self.shrink(room - cost(entry))
        self.append(key, entry)
        return Put(True, *gone)

    def append(self, key: Key, entry: Entry) -> None:
        self._entries[key] = entry
        self.bytes += cost(entry)

    def pop(self) -> tuple[Key, Entry]:
        """Take out the one that leaves first."""
        key, entry = self._entries.popitem(last=False)
        self.bytes -= cost(entry)
        return key, entry

    def __iter__(self) -> Iterator[Key]:
        return iter(self._entries)

    def drop(self, key: Key) -> None:
        entry = self._entries.pop(key, None)
        if entry is not None:
            self.bytes -= cost(entry)

    def shrink(self, room: int) -> tuple[int, int]:
        entries, before = 0, self.bytes
        while self.bytes > room and self._entries:
            self.pop()
            entries += 1
        return entries, before - self.bytes


class Sketch:
    """How often keys were seen lately, roughly and never too low within a period: a count-min sketch of four rows whose counts are halved from time to time."""

    def __init__(self, width: int) -> None:
        self._mask = width - 1
        self._rows = tuple(bytearray(width) for _ in range(4))
        self._period = 10 * width
        self._seen = 0

    def note(self, key: Key) -> None:
        mask, seed = self._mask, hash(key)
        a, b, c, d = self._rows
        i, j, k, n = seed & mask, seed >> 15 & mask, seed >> 30 & mask, seed >> 45 & mask
        least = min(a[i], b[j], c[k], d[n])
        if least < 15:  # the conservative update: only the counts that are the least, for the others are somebody else's too
            up = least + 1
            if a[i] == least:
                a[i] = up
            if b[j] == least:
                b[j] = up
            if c[k] == least:
                c[k] = up
            if d[n] == least:
                d[n] = up
        self._seen += 1
        if self._seen >= self._period:
            self._seen //= 2
            self._rows = tuple(row.translate(_HALVES) for row in self._rows)

    def count(self, key: Key) -> int:
        mask, seed = self._mask, hash(key)
        a, b, c, d = self._rows
        return min(a[seed & mask], b[seed >> 15 & mask], c[seed >> 30 & mask], d[seed >> 45 & mask])


class TinyLfu:
    """W-TinyLFU: newcomers pass through a small window; beyond it they stay only if they were seen more often than all that would have to go for them together."""

    def __init__(self, limit: int) -> None:
        # A counter for each 8 KB of the budget; rows of 128 Ki are halved in well under a millisecond, and the loop waits for it.
        self._sketch = Sketch(max(1024, min(1 << (limit // 8192).bit_length(), 1 << 17)))
        self._room = limit
        self._window = Queue(recency=True)
        self._probation = Queue(recency=True)
        self._protected = Queue(recency=True)

    @property
    def bytes(self) -> int:
        return self._window.bytes + self._probation.bytes + self._protected.bytes

    def __len__(self) -> int:
        return len(self._window) + len(self._probation) + len(self._protected)

    def use(self, key: Key) -> Entry | None:
        entry = self._protected.use(key) or self._window.use(key)
        if entry is None:
            entry = self._probation.peek(key)
            if entry is None:
                return None
            self._probation.drop(key)
            self._protected.append(key, entry)
            while self._protected.bytes > (self._room - self._window.bytes) * 4 // 5:
                self._probation.append(*self._protected.pop())
        self._sketch.note(key)
        return entry

    def peek(self, key: Key) -> Entry | None:
        return self._protected.peek(key) or self._window.peek(key) or self._probation.peek(key)

    def put(self, key: Key, entry: Entry, room: int) -> Put:
        self._room = room
        self._sketch.note(key)
        takes, window = cost(entry), room // 100
        if takes > window:  # it would push all other newcomers out: it stands the comparison at once instead
            return self._contest(key, entry, room)
        entries = gone = 0
        while self._window.bytes + takes > window:
            oldest, candidate = self._window.pop()
            stays = self._contest(oldest, candidate, room - takes)
            entries += stays.entries + (not stays.kept)
            gone += stays.bytes + (0 if stays.kept else cost(candidate))
        rest = self.shrink(room - takes)
        self._window.append(key, entry)
        return Put(True, entries + rest[0], gone + rest[1])

    def drop(self, key: Key) -> None:
        self._window.drop(key)
        self._probation.drop(key)
        self._protected.drop(key)

    def shrink(self, room: int) -> tuple[int, int]:
        entries = gone = 0
        for queue in (self._probation, self._protected, self._window):
            went = queue.shrink(room - (self.bytes - queue.bytes))
            entries, gone = entries + went[0], gone + went[1]
        return entries, gone

    def _contest(self, key: Key, entry: Entry, room: int) -> Put:
        """Bring a newcomer into probation if there is space, or if it is worth more than what must go for it."""
        needs = self.bytes + cost(entry) - room
        worth = self._sketch.count(key)
        victims: list[Key] = []
        freed = 0
        for victim in chain(self._probation, self._protected):
            if freed >= needs:
                break
            worth -= self._sketch.count(victim)
            if worth <= 0:
                return Put(False, 0, 0)
            held = self.peek(victim)
            freed += cost(held) if held else 0
            victims.append(victim)
        if freed < needs:
            return Put(False, 0, 0)
        for victim in victims:
            self.drop(victim)
        self._probation.append(key, entry)
        return Put(True, len(victims), freed)
