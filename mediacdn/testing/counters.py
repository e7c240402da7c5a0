"""What every driver of counters promises, as tests: subclass CountersConformance in a test file and override its `ends` and `outage` fixtures.

    from mediacdn.testing import CountersConformance

    class TestMine(CountersConformance):
        @pytest.fixture
        async def ends(self):
            async with open_mine(MineConfig(...), kit) as one, open_mine(MineConfig(...), kit) as other:
                yield one, other

        @pytest.fixture
        def outage(self, server):
            return server.stopped  # an async context manager: inside it the counters cannot be reached

Counters within one process give the same object twice, and skip nothing else: what has no outage gives a context manager that does nothing. It needs anyio's
pytest plugin.
"""

import asyncio
import itertools
import time
from contextlib import suppress

import pytest

from mediacdn.errors import Unavailable
from mediacdn.interfaces import Counters
from mediacdn.testing.bus import Outage

AT_MOST = 3.0
"""Seconds that one question may take, also where nobody answers."""
SLOW = 0.001
"""A rate at which nothing comes back during a test."""

_numbers = itertools.count(1)


class CountersConformance:
    """The tests. Both fixtures must be overridden."""

    pytestmark = pytest.mark.anyio

    @pytest.fixture
    async def ends(self) -> tuple[Counters, Counters]:
        """Two ends of the same counters, opened apart as by two nodes; an override may be an async generator that closes them."""
        raise NotImplementedError("override the async fixture `ends`")

    @pytest.fixture
    def outage(self) -> Outage:
        """A callable without arguments that gives an async context manager: inside it the counters are away, afterwards they are back."""
        raise NotImplementedError("override the fixture `outage`")

    @pytest.fixture
    def anyio_backend(self) -> str:
        return "asyncio"

    @pytest.mark.parametrize(("burst", "cost"), [(1, 1), (5, 1), (10, 2.5), (1e9, 1e8)])
    async def test_a_burst_and_no_more(self, ends: tuple[Counters, Counters], burst: float, cost: float) -> None:
        key, rate = _key(), burst * SLOW
        for _ in range(int(burst / cost)):
            assert await ends[0].take(key, cost, rate, burst) == 0
        assert await ends[0].take(key, cost, rate, burst) > 0

    async def test_both_ends_count_together(self, ends: tuple[Counters, Counters]) -> None:
        key = _key()
        taken = [await ends[number % 2].take(key, 1, SLOW, 10) == 0 for number in range(14)]
        assert taken == [True] * 10 + [False] * 4

    async def test_many_at_once_take_no_more(self, ends: tuple[Counters, Counters]) -> None:
        key = _key()
        waits = await asyncio.gather(*(ends[number % 2].take(key, 1, SLOW, 50) for number in range(200)))
        assert waits.count(0) == 50

    async def test_keys_are_apart(self, ends: tuple[Counters, Counters]) -> None:
        one, other = _key(), _key() + ":é/\n 00"
        assert await ends[0].take(one, 1, SLOW, 1) == 0
        assert await ends[0].take(other, 1, SLOW, 1) == 0
        assert await ends[0].take(one, 1, SLOW, 1) > 0
        assert await ends[0].take(other, 1, SLOW, 1) > 0

    async def test_the_wait_is_the_right_one(self, ends: tuple[Counters, Counters]) -> None:
        key = _key()
        assert await ends[0].take(key, 5, 10, 5) == 0
        wait = await ends[1].take(key, 2, 10, 5)
        assert 0.0 < wait <= 0.2
        await asyncio.sleep(wait + 0.02)
        assert await ends[0].take(key, 2, 10, 5) == 0

    async def test_what_is_refused_costs_nothing(self, ends: tuple[Counters, Counters]) -> None:
        key = _key()
        assert await ends[0].take(key, 1, 20, 1) == 0
        waits = [await ends[0].take(key, 1, 20, 1) for _ in range(20)]
        assert max(waits) <= 0.05 + 0.001
        await asyncio.sleep(0.06)
        assert await ends[0].take(key, 1, 20, 1) == 0

    async def test_a_cost_above_the_burst_is_owed(self, ends: tuple[Counters, Counters]) -> None:
        key = _key()
        assert await ends[0].take(key, 1000, 10, 10) == 0
        wait = await ends[1].take(key, 1, 10, 10)
        assert 90 < wait < 101

    async def test_what_comes_back_is_the_rate_and_at_most_the_burst(self, ends: tuple[Counters, Counters]) -> None:
        key = _key()
        while await ends[0].take(key, 1, 100, 5) == 0:
            pass
        await asyncio.sleep(0.3)  # thirty came back, of which five are kept
        began, taken = time.monotonic(), 0
        while await ends[0].take(key, 1, 100, 5) == 0:
            taken += 1
        assert 4 <= taken <= 6 + (time.monotonic() - began) * 100

    async def test_an_outage_raises_unavailable_only(self, ends: tuple[Counters, Counters], outage: Outage) -> None:
        key = _key()
        assert await ends[0].take(key, 1, SLOW, 100) == 0
        async with outage():
            for _ in range(3):
                began = time.monotonic()
                with suppress(Unavailable):
                    assert await ends[0].take(key, 1, SLOW, 100) == 0
                assert time.monotonic() - began < AT_MOST
        for attempt in range(50):
            try:
                assert await ends[0].take(_key(), 1, SLOW, 1) == 0
                return
            except Unavailable:
                assert attempt < 49, "they do not come back"
                await asyncio.sleep(0.1)


def _key() -> str:
    return f"conformance:{time.time_ns()}:{next(_numbers)}"
