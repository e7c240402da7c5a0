"""Rate limits within one process: the generic cell rate algorithm on the monotonic clock, one number a key (ITU-T I.371, annex A)."""

import time
from collections import OrderedDict
from collections.abc import Callable


class MemoryCounters:
    """A `Counters` for one process. Keeps at most `size` keys; the least recently used one is forgotten first, which only ever allows more."""

    def __init__(self, size: int = 100_000, monotonic: Callable[[], float] = time.monotonic) -> None:
        self._due: OrderedDict[str, float] = OrderedDict()
        self._size = size
        self._monotonic = monotonic

    async def take(self, key: str, cost: float, rate: float, burst: float) -> float:
        """0 and `cost` is taken, or the seconds to wait before it could be. A cost above `burst` is let through when nothing is owed, and owed afterwards."""
        now = self._monotonic()
        due = max(self._due.get(key, now), now)
        wait = due + min(cost, burst) / rate - (now + burst / rate)
        if wait > 1e-9:
            return wait
        self._due[key] = due + cost / rate
        self._due.move_to_end(key)
        if len(self._due) > self._size:
            self._due.popitem(last=False)
        return 0.0
