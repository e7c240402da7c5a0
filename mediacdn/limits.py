"""Rate limits within one process: the generic cell rate algorithm on the monotonic clock, one number a key (ITU-T I.371, annex A).

And the wrapper around counters that are shared between processes, which counts in this one while they are away.
"""

import asyncio
import time
from collections import OrderedDict
from collections.abc import Callable

import structlog

from mediacdn.errors import MediaError
from mediacdn.interfaces import Counters

ANSWER_WITHIN = 0.5
"""Seconds that a request waits for shared counters."""
NOT_ASKED_FOR = 1.0
"""Seconds after a failure in which they are not asked again."""

log = structlog.get_logger("mediacdn.limits")


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


class SharedCounters:
    """A `Counters` that asks `shared`, and counts by `own` as long as it does not answer; at most one request in NOT_ASKED_FOR seconds waits for what is away."""

    def __init__(self, shared: Counters, own: Counters | None = None, monotonic: Callable[[], float] = time.monotonic) -> None:
        self._shared = shared
        self._own = own or MemoryCounters(monotonic=monotonic)
        self._monotonic = monotonic
        self._again = 0.0
        self._silent = False

    async def take(self, key: str, cost: float, rate: float, burst: float) -> float:
        """As `shared` promises, or as `own` does. Raises: nothing."""
        if self._monotonic() < self._again:
            return await self._own.take(key, cost, rate, burst)
        if self._silent:
            self._again = self._monotonic() + NOT_ASKED_FOR  # one asks; the others do not wait for it
        try:
            async with asyncio.timeout(ANSWER_WITHIN):
                wait = await self._shared.take(key, cost, rate, burst)
        except Exception as error:
            if not self._silent:
                expected = isinstance(error, MediaError | TimeoutError)
                log.warning("rates are counted by this process alone", error=str(error), exc_info=None if expected else error)
            self._silent = True
            self._again = self._monotonic() + NOT_ASKED_FOR
            return await self._own.take(key, cost, rate, burst)
        if self._silent:
            log.info("rates are counted together again")
        self._silent, self._again = False, 0.0
        return wait

    async def check(self) -> None:
        """Whether the shared ones answer. Raises: Unavailable."""
        check = getattr(self._shared, "check", None)
        if check is not None:
            await check()
