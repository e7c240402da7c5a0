"""The bell of a lane: what the table says and what a broker rings for, each job once, in time whatever becomes of the broker; with a fake one and a real one that is killed."""

import asyncio
import itertools
import time
from collections.abc import AsyncIterator
from contextlib import AsyncExitStack, asynccontextmanager
from datetime import UTC, datetime
from pathlib import Path
from shutil import copytree
from typing import Any

import pytest
from taskiq import AckableMessage
from taskiq.formatters.json_formatter import JSONFormatter
from taskiq.serializers import JSONSerializer
from ulid import ULID

from mediacdn.catalog.database import Catalog, open_catalog
from mediacdn.config import Database, Jobs
from mediacdn.interfaces import Broker
from mediacdn.jobs.bell import AHEAD, Bell
from mediacdn.jobs.lanes import work_lanes
from mediacdn.jobs.rings import WAITING, Rings
from mediacdn.jobs.runner import Runner, Running
from mediacdn.model import Job, JobState, NewJob
from mediacdn.testing import MemoryBroker, kit
from mediacdn_redis import BrokerConfig, open_broker
from tests.services.valkey import ValkeyServer

pytestmark = pytest.mark.anyio
_numbers = itertools.count(1)


class Now:
    def now(self) -> datetime:
        return datetime.now(UTC)


@pytest.fixture
async def catalog(sqlite_template: Path, tmp_path: Path) -> AsyncIterator[Catalog]:
    data = tmp_path / "data"
    copytree(sqlite_template, data)
    async with open_catalog(Database(timeout=30), data, Now()) as opened:
        yield opened


async def asked(catalog: Catalog, **fields: Any) -> Job:
    number = str(ULID())
    job, _, _ = await catalog.jobs.ask(NewJob(**{"id": number, "kind": "k", "lane": "images", "fingerprint": number, **fields}))
    return job


class Listener:
    """A worker's place at a bell; `hears` gives the next job and acknowledges the one before."""

    def __init__(self, bell: Bell) -> None:
        bell.serializer = JSONSerializer()
        self._formatter = JSONFormatter()
        self._formatter.broker = bell
        self._messages = bell.listen()
        self.last: AckableMessage | None = None

    async def hears(self, seconds: float) -> str | None:
        waiting = asyncio.ensure_future(anext(self._messages))
        done, _ = await asyncio.wait({waiting}, timeout=seconds)
        if not done:
            self._waiting = waiting
            return None
        message = waiting.result()
        assert isinstance(message, AckableMessage)
        self.last = message
        return str(self._formatter.loads(message.data).args[0])

    async def acknowledges(self) -> None:
        assert self.last is not None
        answer = self.last.ack()
        if answer is not None:
            await answer


@asynccontextmanager
async def listening(bell: Bell) -> AsyncIterator[Listener]:
    listener = Listener(bell)
    try:
        yield listener
    finally:
        waiting = getattr(listener, "_waiting", None)
        if waiting is not None:
            waiting.cancel()
            await asyncio.wait({waiting})
        await listener._messages.aclose()


async def test_a_ring_is_heard_at_once_though_the_table_is_looked_at_seldom(catalog: Catalog) -> None:
    broker = MemoryBroker()
    async with listening(Bell(catalog.leases, "images", 0.05, broker, 60)) as listener:
        waiting = asyncio.create_task(listener.hears(10))
        await asyncio.sleep(0.3)
        job = await asked(catalog)
        await broker.ring("images", job.id)
        began = time.monotonic()
        assert await waiting == job.id
        assert time.monotonic() - began < 0.5


@pytest.mark.parametrize("fault", ["losing", "down"])
async def test_what_is_not_rung_for_is_found_by_a_look(catalog: Catalog, fault: str) -> None:
    broker = MemoryBroker()
    async with listening(Bell(catalog.leases, "images", 0.05, broker, 1.0)) as listener:
        waiting = asyncio.create_task(listener.hears(10))
        await asyncio.sleep(0.2)
        setattr(broker, fault, True)
        job = await asked(catalog)
        assert await waiting == job.id


async def test_while_the_broker_is_away_the_table_is_looked_at_often(catalog: Catalog) -> None:
    broker = MemoryBroker()
    async with listening(Bell(catalog.leases, "images", 0.05, broker, 60)) as listener:
        waiting = asyncio.create_task(listener.hears(20))
        await asyncio.sleep(0.2)
        broker.down = True
        await asyncio.sleep(0.2)
        job = await asked(catalog)
        began = time.monotonic()
        assert await waiting == job.id
        assert time.monotonic() - began < 1
        broker.down = False
        await listener.acknowledges()
        await catalog.leases.lease(job.id, 60)
        waiting = asyncio.create_task(listener.hears(20))
        await asyncio.sleep(1.5)  # it is heard again by now
        other = await asked(catalog)
        await broker.ring("images", other.id)
        assert await waiting == other.id


async def test_on_coming_back_the_table_is_looked_at(catalog: Catalog) -> None:
    """What was rung for meanwhile was lost."""
    broker = MemoryBroker()
    broker.down = True
    async with listening(Bell(catalog.leases, "images", 30, broker, 30)) as listener:
        waiting = asyncio.create_task(listener.hears(20))
        await asyncio.sleep(0.1)
        job = await asked(catalog)
        broker.down = False
        began = time.monotonic()
        assert await waiting == job.id
        assert time.monotonic() - began < 2


async def test_a_job_that_both_name_is_named_once(catalog: Catalog) -> None:
    broker = MemoryBroker()
    broker.repeating = True
    job = await asked(catalog)
    async with listening(Bell(catalog.leases, "images", 0.05, broker, 0.1)) as listener:
        assert await listener.hears(5) == job.id
        await broker.ring("images", job.id)
        assert await listener.hears(0.5) is None


async def test_what_waits_in_the_table_goes_by_its_priority_whatever_is_rung_for(catalog: Catalog) -> None:
    broker = MemoryBroker()
    jobs = [await asked(catalog, priority=number) for number in range(2 * AHEAD)]
    for job in jobs:
        await broker.ring("images", job.id)
    heard: list[str | None] = []
    async with listening(Bell(catalog.leases, "images", 0.05, broker, 0.1)) as listener:
        for _ in jobs:
            heard.append(await listener.hears(5))
            assert heard[-1] is not None
            await catalog.leases.lease(heard[-1], 60)
            await listener.acknowledges()
    assert heard == [job.id for job in reversed(jobs)]


async def test_a_broker_that_breaks_all_promises_costs_no_job(catalog: Catalog) -> None:
    class Broken(MemoryBroker):
        async def listen(self, lane: str) -> Any:
            yield None
            raise ZeroDivisionError

    async with listening(Bell(catalog.leases, "images", 0.05, Broken(), 60)) as listener:
        for _ in range(3):
            job = await asked(catalog)
            assert await listener.hears(5) == job.id
            await catalog.leases.lease(job.id, 60)
            await listener.acknowledges()


def job(number: int) -> NewJob:
    return NewJob(id=f"{number}", kind="k", lane="images")


@pytest.mark.parametrize("how", ["refuses", "hangs", "breaks"])
async def test_ringing_keeps_nobody_waiting(how: str) -> None:
    class Away(MemoryBroker):
        async def ring(self, lane: str, job: str) -> None:
            if self.down and how == "hangs":
                await asyncio.sleep(3600)
            if self.down and how == "breaks":
                raise ZeroDivisionError
            await super().ring(lane, job)

    broker = Away()
    rings = Rings(broker)
    ringing = asyncio.create_task(rings.follow())
    broker.down = True
    began = time.monotonic()
    for number in range(3 * WAITING):
        rings([job(number)])
    assert time.monotonic() - began < 0.5
    await asyncio.sleep(0.1)
    broker.down = False
    heard = broker.listen("images")
    assert await anext(heard) is None
    end = time.monotonic() + 10
    one = asyncio.ensure_future(anext(heard))
    while not one.done() and time.monotonic() < end:
        rings([job(7)])
        await asyncio.wait({one}, timeout=0.2)
    assert one.result() is not None, "it rings again when the broker is back"
    await heard.aclose()
    ringing.cancel()
    await asyncio.wait({ringing})


async def test_without_a_broker_nothing_is_rung_for() -> None:
    rings = Rings(None)
    rings([job(1)])
    await rings.follow()


# A real one

JOBS = 180


async def test_killing_the_broker_loses_no_job_and_does_none_twice(valkey_server: ValkeyServer, catalog: Catalog, tmp_path: Path) -> None:
    """Jobs are planned and run while the server is killed again and again; two workers do them."""
    settings = Jobs(lease=2, backoff_base=0.05, poll_every=0.1, poll_beside=1.0)
    config = BrokerConfig(url=valkey_server.url, prefix=f"bell{next(_numbers)}", timeout=0.5)
    done: list[str] = []
    ending = asyncio.Event()

    async def work(running: Running) -> None:
        await asyncio.sleep(0.002)
        done.append(running.job.id)

    async def told(changes: Any) -> None:
        return

    async def worker(broker: Broker) -> None:
        runner = Runner(catalog.leases, {"k": work}, told, settings)
        await work_lanes({"images": 4}, lambda lane: Bell(catalog.leases, lane, 0.1, broker, 1.0), runner, ending, 5)

    async with AsyncExitStack() as stack:
        brokers = [await stack.enter_async_context(open_broker(config, kit(str(tmp_path)))) for _ in range(3)]
        rings = Rings(brokers[0])
        async with asyncio.TaskGroup() as group:
            ringing = group.create_task(rings.follow())
            workers = [group.create_task(worker(each)) for each in brokers[1:]]
            planned: list[str] = []
            for _ in range(3):
                for _ in range(JOBS // 6):
                    planned.append((made := await asked(catalog)).id)
                    rings([made])
                async with valkey_server.killed():
                    for _ in range(JOBS // 6):
                        planned.append((made := await asked(catalog)).id)
                        rings([made])
            began = time.monotonic()
            while time.monotonic() < began + 30:
                if len(done) >= len(planned):
                    break
                await asyncio.sleep(0.05)
            assert time.monotonic() - began < 5, "what was not rung for is found within 5 s"
            ending.set()
            await asyncio.wait(workers)
            ringing.cancel()
    assert sorted(done) == sorted(planned), "none is lost, none is done twice"
    for each in planned:
        found = await catalog.jobs.get(each)
        assert found is not None
        assert (found.state, found.attempts) == (JobState.COMPLETED, 1)
