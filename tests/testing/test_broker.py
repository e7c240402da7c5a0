"""The fake broker keeps the seam's promises, and the conformance class finds the faults it is there for: each row is a broker with one fault."""

import asyncio
from collections.abc import AsyncGenerator, AsyncIterator
from contextlib import asynccontextmanager
from typing import Any

import pytest

from mediacdn.errors import Unavailable
from mediacdn.interfaces import Broker
from mediacdn.model import Ring
from mediacdn.testing import BrokerConformance, MemoryBroker, Outage
from mediacdn.testing import broker as conformance

pytestmark = pytest.mark.anyio


def outage_of(broker: MemoryBroker) -> Outage:
    @asynccontextmanager
    async def away() -> AsyncIterator[None]:
        broker.down = True
        try:
            yield
        finally:
            broker.down = False

    return away


class TestMemoryBroker(BrokerConformance):
    @pytest.fixture
    def broker(self) -> MemoryBroker:
        return MemoryBroker()

    @pytest.fixture
    async def ends(self, broker: MemoryBroker) -> tuple[Broker, Broker]:
        return broker, broker.peer()

    @pytest.fixture
    def outage(self, broker: MemoryBroker) -> Outage:
        return outage_of(broker)


class Deaf(MemoryBroker):
    async def listen(self, lane: str) -> AsyncGenerator[Ring | None, None]:
        yield None
        await asyncio.sleep(3600)


class SaysNothingAtFirst(MemoryBroker):
    async def listen(self, lane: str) -> AsyncGenerator[Ring | None, None]:
        async for ring in super().listen(lane):
            if ring is not None:
                yield ring


class OneLane(MemoryBroker):
    async def ring(self, lane: str, job: str) -> None:
        for each in [lane, *self._medium.lanes]:
            await super().ring(each, job)


class RaisesItsOwn(MemoryBroker):
    async def ring(self, lane: str, job: str) -> None:
        if self.down:
            raise ConnectionError
        await super().ring(lane, job)


class SaysNothingOfAnOutage(MemoryBroker):
    async def ring(self, lane: str, job: str) -> None:
        if not self.down:
            await super().ring(lane, job)


class ListensOn(MemoryBroker):
    """Does not notice that it hears nothing any more."""

    async def listen(self, lane: str) -> AsyncGenerator[Ring | None, None]:
        while True:
            try:
                async for ring in super().listen(lane):
                    yield ring
            except Unavailable:
                await asyncio.sleep(0.05)


class RemembersForEver(MemoryBroker):
    def __init__(self) -> None:
        super().__init__()
        self.rung: list[str] = []

    async def ring(self, lane: str, job: str) -> None:
        self.rung.append(job)
        await super().ring(lane, job)

    async def listen(self, lane: str) -> AsyncGenerator[Ring | None, None]:
        for job in list(self.rung):
            yield Ring(job, lambda: asyncio.sleep(0))
        async for ring in super().listen(lane):
            yield ring


FAULTS = [
    (Deaf, "test_what_one_rings_for_the_other_hears"),
    (SaysNothingAtFirst, "test_a_listener_says_at_once_that_it_hears"),
    (OneLane, "test_lanes_are_apart"),
    (RemembersForEver, "test_what_was_seen_to_is_not_heard_of_again"),
    (RaisesItsOwn, "test_ringing_while_it_is_away_raises_unavailable_only"),
    (SaysNothingOfAnOutage, "test_ringing_while_it_is_away_raises_unavailable_only"),
    (ListensOn, "test_a_listener_says_that_it_is_away"),
]


@pytest.mark.parametrize(("fault", "test"), FAULTS, ids=[f"{row[0].__name__}-{row[1][5:]}" for row in FAULTS])
async def test_faults_are_found(fault: type[MemoryBroker], test: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(conformance, "PATIENCE", 1.0)
    monkeypatch.setattr(conformance, "ANSWER", 0.5)
    broker = fault()
    given: tuple[Any, ...] = (outage_of(broker),) if "away" in test else ()
    caught: BaseException | None = None
    try:
        await getattr(BrokerConformance(), test)((broker, broker), *given)
    except (AssertionError, TimeoutError, ConnectionError) as error:
        caught = error
    assert caught is not None, f"{test} does not see a broker that is {fault.__name__}"
