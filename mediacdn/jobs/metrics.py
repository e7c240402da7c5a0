"""What waits and runs, by lane, for /metrics. Every server process reads the same table, so their sum is the greatest reading: see server/totals.py."""

from collections.abc import Iterator, Mapping

from prometheus_client import CollectorRegistry
from prometheus_client.core import GaugeMetricFamily, Metric

from mediacdn.catalog.jobs import JobRows, Lane

EVERY = 15.0
"""Seconds between two readings of the table."""


class LaneMetrics:
    """The last reading. A lane that was met once is told of as empty later, so that its curve falls to 0 rather than ends."""

    def __init__(self, registry: CollectorRegistry, rows: JobRows, lanes: Mapping[str, int]) -> None:
        self._rows = rows
        self._lanes = {name: Lane(0, 0, 0.0) for name in lanes}
        registry.register(self)

    async def read(self) -> None:
        """Read the table. Raises: CatalogUnavailable."""
        found = await self._rows.lanes()
        self._lanes = {**dict.fromkeys(self._lanes, Lane(0, 0, 0.0)), **found}

    def collect(self) -> Iterator[Metric]:
        """Tell the registry."""
        lanes = dict(self._lanes)
        waiting = GaugeMetricFamily("mediacdn_jobs_waiting", "Jobs that wait to be run", labels=["lane"])
        running = GaugeMetricFamily("mediacdn_jobs_running", "Jobs that run", labels=["lane"])
        oldest = GaugeMetricFamily("mediacdn_jobs_oldest_seconds", "How long the job that is due longest has waited", labels=["lane"])
        for name, lane in lanes.items():
            waiting.add_metric([name], lane.waiting)
            running.add_metric([name], lane.running)
            oldest.add_metric([name], lane.oldest)
        yield from (waiting, running, oldest)
