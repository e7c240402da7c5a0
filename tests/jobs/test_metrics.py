"""Gauges of the jobs' table: read now and then, right over several processes, and 0 for a lane that has emptied."""

from typing import Any

import pytest
from prometheus_client import CollectorRegistry

from mediacdn.catalog.jobs import Lane
from mediacdn.errors import CatalogUnavailable
from mediacdn.jobs.metrics import LaneMetrics
from mediacdn.server.totals import exposed, read, summed

pytestmark = pytest.mark.anyio


class Table:
    """Lanes as a test sets them."""

    def __init__(self, **lanes: Lane) -> None:
        self.found: Any = lanes

    async def lanes(self) -> dict[str, Lane]:
        if isinstance(self.found, Exception):
            raise self.found
        return dict(self.found)


def told(*registries: CollectorRegistry) -> dict[str, float]:
    lines = exposed(summed([read(each) for each in registries])).decode().splitlines()
    return {name: float(value) for name, value in (line.rsplit(" ", 1) for line in lines if not line.startswith("#"))}


async def test_lanes_are_told_of_and_fall_to_zero() -> None:
    registry = CollectorRegistry()
    table: Any = Table(images=Lane(3, 2, 7.5), odd=Lane(1, 0, 0.0))
    metrics = LaneMetrics(registry, table, {"images": 2, "video": 1})
    assert told(registry)['mediacdn_jobs_waiting{lane="images"}'] == 0
    await metrics.read()
    seen = told(registry)
    assert seen['mediacdn_jobs_waiting{lane="images"}'] == 3
    assert seen['mediacdn_jobs_running{lane="images"}'] == 2
    assert seen['mediacdn_jobs_oldest_seconds{lane="images"}'] == 7.5
    assert seen['mediacdn_jobs_waiting{lane="video"}'] == 0
    assert seen['mediacdn_jobs_waiting{lane="odd"}'] == 1
    table.found = {}
    await metrics.read()
    assert set(told(registry).values()) == {0.0}
    assert 'mediacdn_jobs_waiting{lane="odd"}' in told(registry)


async def test_an_outage_leaves_the_last_reading() -> None:
    registry = CollectorRegistry()
    table: Any = Table(images=Lane(3, 2, 7.5))
    metrics = LaneMetrics(registry, table, {})
    await metrics.read()
    table.found = CatalogUnavailable()
    with pytest.raises(CatalogUnavailable):
        await metrics.read()
    assert told(registry)['mediacdn_jobs_waiting{lane="images"}'] == 3


async def test_processes_that_read_the_same_table_do_not_add_up() -> None:
    registries = [CollectorRegistry(), CollectorRegistry()]
    for each in registries:
        table: Any = Table(images=Lane(3, 2, 7.5))
        await LaneMetrics(each, table, {}).read()
    assert told(*registries) == told(registries[0])
