"""What every bus driver promises, as tests: subclass BusConformance in a test file and override its `ends` and `outage` fixtures.

    from mediacdn.testing import BusConformance

    class TestMine(BusConformance):
        @pytest.fixture
        async def ends(self):
            async with open_mine(MineConfig(...), kit) as one, open_mine(MineConfig(...), kit) as other:
                yield one, other

        @pytest.fixture
        def outage(self, server):
            return server.stopped  # an async context manager: inside it the bus cannot be reached

A bus may lose, repeat and reorder; so nothing here counts, and what must arrive is published until it does. It needs anyio's pytest plugin.
"""

import asyncio
import itertools
import time
from collections.abc import AsyncGenerator, AsyncIterator, Callable, Sequence
from contextlib import AbstractAsyncContextManager, aclosing, asynccontextmanager, suppress
from typing import Any

import anyio
import pytest

from mediacdn.errors import Unavailable
from mediacdn.interfaces import Bus
from mediacdn.model import Change

Outage = Callable[[], AbstractAsyncContextManager[Any]]

EVERY = 0.05
PATIENCE = 15.0
AT_MOST = 3.0
"""Seconds that one publication may take, also where nobody answers: a change waits for nothing longer."""

_numbers = itertools.count(1)


class BusConformance:
    """The tests. Both fixtures must be overridden."""

    pytestmark = pytest.mark.anyio

    @pytest.fixture
    async def ends(self) -> tuple[Bus, Bus]:
        """Two ends of one bus, opened apart as by two nodes; an override may be an async generator that closes them."""
        raise NotImplementedError("override the async fixture `ends`")

    @pytest.fixture
    def outage(self) -> Outage:
        """A callable without arguments that gives an async context manager: inside it what carries the messages is away, afterwards it is back."""
        raise NotImplementedError("override the fixture `outage`")

    @pytest.fixture
    def anyio_backend(self) -> str:
        return "asyncio"

    async def test_what_one_publishes_the_other_hears(self, ends: tuple[Bus, Bus]) -> None:
        for one, other in (ends, ends[::-1]):
            async with _heard(other) as heard:
                await _until_heard(one, heard, _changes(1))

    async def test_every_listener_hears(self, ends: tuple[Bus, Bus]) -> None:
        one, other = ends
        async with _heard(other) as first, _heard(other) as second:
            changes = _changes(3)
            await _until_heard(one, first, changes)
            await _until_heard(one, second, changes)

    @pytest.mark.parametrize(
        "changes",
        [
            [Change(2**62, "01ARZ3NDEKTSV4RRFFQ69G5FAV")],
            [Change(2**62 + 1, None)],
            [Change(2**62 + 2 + number, f"01ARZ3NDEKTSV4RRFFQ69{number:05}") for number in range(1000)],
            [Change(2**61, "a"), Change(2**61 + 1, None), Change(2**61 + 2, "b")],
        ],
        ids=["a large number", "every media", "a thousand", "mixed"],
    )
    async def test_arrives_as_it_was(self, ends: tuple[Bus, Bus], changes: list[Change]) -> None:
        one, other = ends
        async with _heard(other) as heard:
            await _until_heard(one, heard, changes)
            assert {each for each in heard if each.seq >= 2**61} <= set(changes), "nothing that nobody published"

    async def test_publishing_nothing_is_well(self, ends: tuple[Bus, Bus]) -> None:
        await ends[0].publish([])

    async def test_publishing_waits_for_no_listener(self, ends: tuple[Bus, Bus]) -> None:
        one, other = ends
        async with aclosing(_opened(other)) as slow:
            first = asyncio.ensure_future(anext(slow))
            while not first.done():
                await one.publish(_changes(1))
                await asyncio.sleep(EVERY)
            await first
            for _ in range(100):  # nobody reads these
                with anyio.fail_after(AT_MOST):
                    await one.publish(_changes(100))

    async def test_who_comes_late_hears_what_comes_then(self, ends: tuple[Bus, Bus]) -> None:
        one, other = ends
        await one.publish(_changes(5))
        async with _heard(other) as heard:
            await _until_heard(one, heard, _changes(1))

    async def test_a_listener_may_go(self, ends: tuple[Bus, Bus]) -> None:
        one, other = ends
        async with _heard(other) as heard:
            await _until_heard(one, heard, _changes(1))
        began = time.monotonic()
        async with _heard(other):
            await asyncio.sleep(EVERY)
        assert time.monotonic() - began < AT_MOST, "it ends when it is told to"
        await one.publish(_changes(1))

    async def test_publishing_while_it_is_away_raises_unavailable_only(self, ends: tuple[Bus, Bus], outage: Outage) -> None:
        refused = 0
        async with outage():
            for _ in range(5):
                began = time.monotonic()
                try:
                    await ends[0].publish(_changes(1))
                except Unavailable:
                    refused += 1
                assert time.monotonic() - began < AT_MOST
        assert refused, "whoever publishes is told that it did not go out"

    async def test_a_listener_comes_back_by_itself(self, ends: tuple[Bus, Bus], outage: Outage) -> None:
        one, other = ends
        async with _heard(other) as heard:
            await _until_heard(one, heard, _changes(1))
            for _ in range(2):
                async with outage():
                    with suppress(Unavailable):
                        await one.publish(_changes(1))
                    await asyncio.sleep(0.2)
                await _until_heard(one, heard, _changes(1))

    async def test_a_listener_that_comes_while_it_is_away_hears_afterwards(self, ends: tuple[Bus, Bus], outage: Outage) -> None:
        one, other = ends
        async with outage():
            listening = _heard(other)
            heard = await listening.__aenter__()
            await asyncio.sleep(0.2)
        try:
            await _until_heard(one, heard, _changes(1))
        finally:
            await listening.__aexit__(None, None, None)


def _changes(count: int) -> list[Change]:
    return [Change(next(_numbers), f"01ARZ3NDEKTSV4RRFFQ69G{number:04}") for number in range(count)]


async def _opened(bus: Bus) -> AsyncGenerator[Sequence[Change], None]:
    async for changes in bus.listen():
        yield changes


@asynccontextmanager
async def _heard(bus: Bus) -> AsyncIterator[list[Change]]:
    """Listen beside the test; what is heard so far."""
    heard: list[Change] = []

    async def listen() -> None:
        async for changes in bus.listen():
            heard.extend(changes)
        raise AssertionError("listening ended by itself")

    task = asyncio.create_task(listen())
    try:
        yield heard
        if task.done():
            task.result()
    finally:
        task.cancel()
        await asyncio.wait([task], timeout=PATIENCE)
        assert task.done(), "the listener does not end when it is cancelled"


async def _until_heard(bus: Bus, heard: list[Change], changes: Sequence[Change]) -> None:
    """Publish these again and again until they have arrived; a publication may be lost, and so may be refused after an outage."""
    end = time.monotonic() + PATIENCE
    while not set(changes) <= set(heard):
        assert time.monotonic() < end, "what was published is not heard"
        try:
            await bus.publish(changes)
        except Unavailable:
            assert time.monotonic() < end - PATIENCE / 2, "publishing does not recover"
        await asyncio.sleep(EVERY)
