"""What the storages hold, for /metrics and operators. Every server process reads the same table, so their sum is the greatest reading: see server/totals.py."""

from collections.abc import Iterator, Mapping

from prometheus_client import CollectorRegistry
from prometheus_client.core import GaugeMetricFamily, Metric

from mediacdn.catalog.moves import MoveRows, Usage

EVERY = 300.0
"""Seconds between two readings: each counts all rows."""
STATES = ("live", "writing", "leaving", "deleting")


class StoredMetrics:
    """The last reading; a storage or state without objects is told of as empty."""

    def __init__(self, registry: CollectorRegistry, rows: MoveRows, storages: Mapping[str, object]) -> None:
        self._rows = rows
        self._found: dict[str, dict[str, Usage]] = {name: {} for name in storages}
        registry.register(self)

    async def read(self) -> None:
        """Count. Raises: CatalogUnavailable."""
        self._found = {**{name: {} for name in self._found}, **await self._rows.usage()}

    def collect(self) -> Iterator[Metric]:
        """Tell the registry."""
        count = GaugeMetricFamily("mediacdn_stored_objects", "Objects that the catalog knows", labels=["storage", "state"])
        size = GaugeMetricFamily("mediacdn_stored_bytes", "Bytes of objects that the catalog knows", labels=["storage", "state"])
        for name, states in dict(self._found).items():
            for state in STATES:
                usage = states.get(state, Usage(0, 0))
                count.add_metric([name, state], usage.objects)
                size.add_metric([name, state], usage.bytes)
        yield from (count, size)
