"""What every broker driver promises, as tests: subclass BrokerConformance in a test file and override its `ends` and `outage` fixtures.

    from mediacdn.testing import BrokerConformance

    class TestMine(BrokerConformance):
        @pytest.fixture
        async def ends(self):
            async with open_mine(MineConfig(...), kit) as one, open_mine(MineConfig(...), kit) as other:
                yield one, other

        @pytest.fixture
        def outage(self, server):
            return server.stopped  # an async context manager: inside it the broker cannot be reached

A broker may lose, repeat and reorder; so what must arrive is rung for until it does. It needs anyio's pytest plugin.
"""

import asyncio
import itertools
import time
from collections import Counter
from collections.abc import AsyncGenerator, AsyncIterator
from contextlib import asynccontextmanager, suppress

import pytest

from mediacdn.errors import Unavailable
from mediacdn.interfaces import Broker
from mediacdn.model import Ring
from mediacdn.testing.bus import Outage

EVERY = 0.05
PATIENCE = 15.0
AT_MOST = 3.0
"""Seconds that one ring may take, also where nobody answers, and that a listener may take to notice an outage or to end."""
ANSWER = 6.0
"""Seconds within which a listener notices that what it listens to is away."""

_numbers = itertools.count(1)


class BrokerConformance:
    """The tests. Both fixtures must be overridden."""

    pytestmark = pytest.mark.anyio

    @pytest.fixture
    async def ends(self) -> tuple[Broker, Broker]:
        """Two ends of one broker, opened apart as by two processes; an override may be an async generator that closes them."""
        raise NotImplementedError("override the async fixture `ends`")

    @pytest.fixture
    def outage(self) -> Outage:
        """A callable without arguments that gives an async context manager: inside it what carries the rings is away, afterwards it is back."""
        raise NotImplementedError("override the fixture `outage`")

    @pytest.fixture
    def anyio_backend(self) -> str:
        return "asyncio"

    async def test_what_one_rings_for_the_other_hears(self, ends: tuple[Broker, Broker]) -> None:
        for one, other in (ends, ends[::-1]):
            async with _heard(other, "images") as heard:
                await _until_heard(one, heard, "images", _job())

    async def test_a_listener_says_at_once_that_it_hears(self, ends: tuple[Broker, Broker]) -> None:
        async with _heard(ends[1], "quiet") as heard:
            end = time.monotonic() + PATIENCE
            while not heard:
                assert time.monotonic() < end, "nothing is said of a broker that works"
                await asyncio.sleep(EVERY)
            assert heard[0] is None

    async def test_lanes_are_apart(self, ends: tuple[Broker, Broker]) -> None:
        one, other = ends
        async with _heard(other, "images") as images, _heard(other, "video") as video:
            picture, film = _job(), _job()
            await _until_heard(one, images, "images", picture)
            await _until_heard(one, video, "video", film)
            assert film not in _jobs(images)
            assert picture not in _jobs(video)

    async def test_one_of_those_who_listen_hears_it(self, ends: tuple[Broker, Broker]) -> None:
        one, other = ends
        async with _heard(one, "shared") as first, _heard(other, "shared") as second:
            await _until_heard(one, first, "shared", _job(), also=second)
            jobs = [_job() for _ in range(40)]
            for job in jobs:
                await one.ring("shared", job)
            end = time.monotonic() + PATIENCE
            while time.monotonic() < end:
                if set(jobs) <= {*_jobs(first), *_jobs(second)}:
                    break
                await asyncio.sleep(EVERY)
            twice = set(_jobs(first)) & set(_jobs(second)) & set(jobs)
            assert len(twice) < len(jobs) / 2, "it is rung for at everybody's door"

    async def test_what_was_seen_to_is_not_heard_of_again(self, ends: tuple[Broker, Broker]) -> None:
        one, other = ends
        async with _heard(other, "images") as heard:
            job = _job()
            await _until_heard(one, heard, "images", job)
            await asyncio.sleep(0.3)  # those rung for again arrive, and are answered
        async with _heard(one, "images") as again:
            await _until_heard(other, again, "images", _job())
            assert job not in _jobs(again)

    async def test_ringing_waits_for_no_listener(self, ends: tuple[Broker, Broker]) -> None:
        for _ in range(300):  # nobody listens
            began = time.monotonic()
            with suppress(Unavailable):
                await ends[0].ring("deserted", _job())
            assert time.monotonic() - began < AT_MOST

    async def test_a_listener_may_go(self, ends: tuple[Broker, Broker]) -> None:
        one, other = ends
        async with _heard(other, "images") as heard:
            await _until_heard(one, heard, "images", _job())
        began = time.monotonic()
        async with _heard(other, "images"):
            await asyncio.sleep(EVERY)
        assert time.monotonic() - began < AT_MOST, "it ends when it is told to"

    async def test_ringing_while_it_is_away_raises_unavailable_only(self, ends: tuple[Broker, Broker], outage: Outage) -> None:
        refused = 0
        async with outage():
            for _ in range(5):
                began = time.monotonic()
                try:
                    await ends[0].ring("images", _job())
                except Unavailable:
                    refused += 1
                assert time.monotonic() - began < AT_MOST
        assert refused, "whoever rings is told that nobody hears"

    async def test_a_listener_says_that_it_is_away(self, ends: tuple[Broker, Broker], outage: Outage) -> None:
        listening = _opened(ends[1], "images")
        try:
            assert await asyncio.wait_for(anext(listening), PATIENCE) is None
            async with outage():
                with pytest.raises(Unavailable):
                    await asyncio.wait_for(anext(listening), ANSWER)
        finally:
            await listening.aclose()

    async def test_after_an_outage_it_is_heard_again(self, ends: tuple[Broker, Broker], outage: Outage) -> None:
        one, other = ends
        async with _heard(other, "images") as heard:
            for _ in range(2):
                await _until_heard(one, heard, "images", _job())
                async with outage():
                    with suppress(Unavailable):
                        await one.ring("images", _job())
                    await asyncio.sleep(0.2)
            before = Counter(heard)[None]
            await _until_heard(one, heard, "images", _job())
            assert Counter(heard)[None] >= before, "and says so"


def _job() -> str:
    return f"01ARZ3NDEKTSV4RRFF{next(_numbers):08}"


def _jobs(heard: list[Ring | None]) -> list[str]:
    return [each.job for each in heard if each is not None]


async def _opened(broker: Broker, lane: str) -> AsyncGenerator[Ring | None, None]:
    async for ring in broker.listen(lane):
        yield ring


@asynccontextmanager
async def _heard(broker: Broker, lane: str) -> AsyncIterator[list[Ring | None]]:
    """Listen beside the test as the core does, again after a failure, and see to everything; what is heard so far."""
    heard: list[Ring | None] = []

    async def listen() -> None:
        while True:
            with suppress(Unavailable):
                async for ring in broker.listen(lane):
                    heard.append(ring)
                    if ring is not None:
                        with suppress(Exception):  # the core survives whatever becomes of it
                            await ring.seen_to()
                raise AssertionError("listening ended by itself")
            await asyncio.sleep(0.1)

    task = asyncio.create_task(listen())
    try:
        yield heard
        if task.done():
            task.result()
    finally:
        task.cancel()
        await asyncio.wait([task], timeout=PATIENCE)
        assert task.done(), "the listener does not end when it is cancelled"


async def _until_heard(broker: Broker, heard: list[Ring | None], lane: str, job: str, *, also: list[Ring | None] | None = None) -> None:
    """Ring again and again until it has arrived; a ring may be lost, and so may be refused after an outage."""
    end = time.monotonic() + PATIENCE
    while job not in [*_jobs(heard), *_jobs(also or [])]:
        assert time.monotonic() < end, "what was rung for is not heard of"
        try:
            await broker.ring(lane, job)
        except Unavailable:
            assert time.monotonic() < end - PATIENCE / 2, "ringing does not recover"
        await asyncio.sleep(EVERY)
