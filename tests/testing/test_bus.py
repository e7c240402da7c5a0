"""The fake bus keeps the seam's promises, and the conformance class finds the faults it is there for: each row is a bus with one fault."""

import asyncio
from collections.abc import AsyncIterator, Sequence
from contextlib import asynccontextmanager
from typing import Any

import pytest

from mediacdn.interfaces import Bus
from mediacdn.model import Change
from mediacdn.testing import BusConformance, MemoryBus, Outage
from mediacdn.testing import bus as conformance

pytestmark = pytest.mark.anyio


def outage_of(bus: MemoryBus) -> Outage:
    @asynccontextmanager
    async def away() -> AsyncIterator[None]:
        bus.down = True
        try:
            yield
        finally:
            bus.down = False

    return away


class TestMemoryBus(BusConformance):
    @pytest.fixture
    def bus(self) -> MemoryBus:
        return MemoryBus()

    @pytest.fixture
    async def ends(self, bus: MemoryBus) -> tuple[Bus, Bus]:
        return bus, bus.peer()

    @pytest.fixture
    def outage(self, bus: MemoryBus) -> Outage:
        return outage_of(bus)


class TestMemoryBusThatRepeats(TestMemoryBus):
    """Twice and backwards is within the promise."""

    @pytest.fixture
    def bus(self) -> MemoryBus:
        bus = MemoryBus()
        bus.repeating = True
        return bus


class Deaf(MemoryBus):
    async def listen(self) -> AsyncIterator[Sequence[Change]]:
        await asyncio.sleep(3600)
        yield []


class RaisesItsOwn(MemoryBus):
    async def publish(self, changes: Sequence[Change]) -> None:
        if self.down:
            raise ConnectionError
        await super().publish(changes)


class SaysNothingOfAnOutage(MemoryBus):
    async def publish(self, changes: Sequence[Change]) -> None:
        if not self.down:
            await super().publish(changes)


class GivesUp(MemoryBus):
    """Does not connect again."""

    gone = False

    async def publish(self, changes: Sequence[Change]) -> None:
        self.gone = self.gone or self.down
        await super().publish(changes)

    async def listen(self) -> AsyncIterator[Sequence[Change]]:
        async for changes in super().listen():
            if not self.gone:
                yield changes


class WaitsForListeners(MemoryBus):
    def __init__(self) -> None:
        super().__init__()
        self.unread: asyncio.Queue[Any] = asyncio.Queue(20)

    async def publish(self, changes: Sequence[Change]) -> None:
        await super().publish(changes)
        await self.unread.put(changes)

    async def listen(self) -> AsyncIterator[Sequence[Change]]:
        async for changes in super().listen():
            while not self.unread.empty():
                self.unread.get_nowait()
            yield changes


class SmallNumbers(MemoryBus):
    async def publish(self, changes: Sequence[Change]) -> None:
        await super().publish([Change(each.seq & (2**53 - 1), each.media_id) for each in changes])


class NoneIsAWord(MemoryBus):
    async def publish(self, changes: Sequence[Change]) -> None:
        await super().publish([Change(each.seq, str(each.media_id)) for each in changes])


class OnlyTheFirst(MemoryBus):
    async def publish(self, changes: Sequence[Change]) -> None:
        await super().publish(changes[:1])


class OneListener(MemoryBus):
    """Shared out among the listeners, as a queue does it."""

    async def publish(self, changes: Sequence[Change]) -> None:
        await asyncio.sleep(0)
        for listener in sorted(self._medium.listeners, key=id)[:1]:
            listener.put_nowait(changes)


FAULTS = [
    (Deaf, "test_what_one_publishes_the_other_hears", ()),
    (OneListener, "test_every_listener_hears", ()),
    (SmallNumbers, "test_arrives_as_it_was", ([Change(2**62, "a")],)),
    (NoneIsAWord, "test_arrives_as_it_was", ([Change(2**62, None)],)),
    (OnlyTheFirst, "test_arrives_as_it_was", ([Change(2**62, "a"), Change(2**62 + 1, "b")],)),
    (WaitsForListeners, "test_publishing_waits_for_no_listener", ()),
    (RaisesItsOwn, "test_publishing_while_it_is_away_raises_unavailable_only", ()),
    (SaysNothingOfAnOutage, "test_publishing_while_it_is_away_raises_unavailable_only", ()),
    (GivesUp, "test_a_listener_comes_back_by_itself", ()),
]


@pytest.mark.parametrize(("fault", "test", "arguments"), FAULTS, ids=[f"{row[0].__name__}-{row[1][5:]}" for row in FAULTS])
async def test_faults_are_found(fault: type[MemoryBus], test: str, arguments: tuple[Any, ...], monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(conformance, "PATIENCE", 1.0)
    monkeypatch.setattr(conformance, "AT_MOST", 0.5)
    bus = fault()
    given = (outage_of(bus),) if "away" in test or "back" in test else arguments
    caught: BaseException | None = None
    try:
        await getattr(BusConformance(), test)((bus, bus), *given)
    except (AssertionError, TimeoutError, ConnectionError) as error:
        caught = error
    assert caught is not None, f"{test} does not see a bus that is {fault.__name__}"
