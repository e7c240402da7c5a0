"""The counters of one process keep the seam's promises, the wrapper around shared ones falls back to them, and the conformance class finds faults."""

import asyncio
import math
import time
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager, nullcontext
from typing import Any

import pytest

from mediacdn.errors import Unavailable
from mediacdn.interfaces import Counters
from mediacdn.limits import ANSWER_WITHIN, NOT_ASKED_FOR, MemoryCounters, SharedCounters
from mediacdn.testing import CountersConformance, Outage

pytestmark = pytest.mark.anyio


class TestMemoryCounters(CountersConformance):
    @pytest.fixture
    async def ends(self) -> tuple[Counters, Counters]:
        counters = MemoryCounters()
        return counters, counters

    @pytest.fixture
    def outage(self) -> Outage:
        return nullcontext


class Far:
    """Counters that can be away: "refuses", "hangs" or "breaks"."""

    def __init__(self) -> None:
        self.away = ""
        self.asked = 0
        self._counters = MemoryCounters()

    async def take(self, key: str, cost: float, rate: float, burst: float) -> float:
        self.asked += 1
        if self.away == "refuses":
            raise Unavailable
        if self.away == "hangs":
            await asyncio.sleep(60)
        if self.away == "breaks":
            raise ZeroDivisionError
        return await self._counters.take(key, cost, rate, burst)

    @asynccontextmanager
    async def refusing(self) -> AsyncIterator[None]:
        self.away = "refuses"
        try:
            yield
        finally:
            self.away = ""


class TestShared(CountersConformance):
    @pytest.fixture
    def far(self) -> Far:
        return Far()

    @pytest.fixture
    async def ends(self, far: Far) -> tuple[Counters, Counters]:
        return SharedCounters(far), SharedCounters(far)

    @pytest.fixture
    def outage(self, far: Far) -> Outage:
        return far.refusing


@pytest.mark.parametrize("how", ["refuses", "hangs", "breaks"])
async def test_an_outage_is_counted_through_by_the_process_alone(how: str) -> None:
    now = [0.0]
    far = Far()
    shared = SharedCounters(far, monotonic=lambda: now[0])
    assert await shared.take("k", 1, 0.001, 2) == 0
    far.away = how
    began = time.monotonic()
    taken = [await shared.take("k", 1, 0.001, 2) == 0 for _ in range(100)]
    assert time.monotonic() - began < ANSWER_WITHIN + 0.5, "one waits, the others do not"
    assert taken == [True] * 2 + [False] * 98, "still limited"
    assert far.asked == 2
    now[0] += NOT_ASKED_FOR + 0.1
    await shared.take("k", 1, 0.001, 2)
    assert far.asked == 3
    far.away = ""
    now[0] += NOT_ASKED_FOR + 0.1
    assert [await shared.take("k", 1, 0.001, 2) == 0 for _ in range(3)] == [True, False, False], "what was counted together before counts"
    assert far.asked == 6


async def test_while_one_asks_the_others_do_not_wait_for_it() -> None:
    now = [0.0]
    far = Far()
    shared = SharedCounters(far, monotonic=lambda: now[0])
    far.away = "refuses"
    await shared.take("k", 1, 1, 1)
    far.away, now[0] = "hangs", NOT_ASKED_FOR + 1
    one = asyncio.create_task(shared.take("k", 1, 1, 1))
    await asyncio.sleep(0)
    began = time.monotonic()
    await asyncio.gather(*(shared.take(str(each), 1, 1, 1) for each in range(50)))
    assert time.monotonic() - began < ANSWER_WITHIN / 2
    assert await one >= 0


class Forgetful(MemoryCounters):
    async def take(self, key: str, cost: float, rate: float, burst: float) -> float:
        return 0.0


class Alone(MemoryCounters):
    """Counts for itself."""


class TakesAnyway(MemoryCounters):
    async def take(self, key: str, cost: float, rate: float, burst: float) -> float:
        wait = await super().take(key, cost, rate, burst)
        if wait:
            self._due[key] += cost / rate
        return wait


class Milliseconds(MemoryCounters):
    async def take(self, key: str, cost: float, rate: float, burst: float) -> float:
        return 1000 * await super().take(key, cost, rate, burst)


class OneKey(MemoryCounters):
    async def take(self, key: str, cost: float, rate: float, burst: float) -> float:
        return await super().take(key.partition(":")[0], cost, rate, burst)


class Whole(MemoryCounters):
    async def take(self, key: str, cost: float, rate: float, burst: float) -> float:
        return await super().take(key, math.floor(cost), rate, burst)


class Racing(MemoryCounters):
    async def take(self, key: str, cost: float, rate: float, burst: float) -> float:
        now = time.monotonic()
        due = max(self._due.get(key, now), now)
        await asyncio.sleep(0.01)
        if (wait := due + cost / rate - now - burst / rate) > 1e-9:
            return wait
        self._due[key] = due + cost / rate
        return 0.0


FAULTS: list[tuple[type[MemoryCounters], str, tuple[Any, ...]]] = [
    (Forgetful, "test_a_burst_and_no_more", (5, 1)),
    (Whole, "test_a_burst_and_no_more", (10, 2.5)),
    (Alone, "test_both_ends_count_together", ()),
    (Racing, "test_many_at_once_take_no_more", ()),
    (OneKey, "test_keys_are_apart", ()),
    (Milliseconds, "test_the_wait_is_the_right_one", ()),
    (TakesAnyway, "test_what_is_refused_costs_nothing", ()),
    (Forgetful, "test_a_cost_above_the_burst_is_owed", ()),
]


@pytest.mark.parametrize(("fault", "test", "arguments"), FAULTS, ids=[f"{row[0].__name__}-{row[1][5:]}" for row in FAULTS])
async def test_faults_are_found(fault: type[MemoryCounters], test: str, arguments: tuple[Any, ...]) -> None:
    ends = (fault(), fault()) if fault is Alone else (counters := fault(), counters)
    with pytest.raises(AssertionError):
        await getattr(CountersConformance(), test)(ends, *arguments)
