"""The edge's figures: plain integers that the hot path adds to, turned into Prometheus families only when they are scraped."""

from collections.abc import Callable

from prometheus_client import CollectorRegistry


class EdgeMetrics:
    """The counters of one process, registered once a registry."""

    def __init__(self, registry: CollectorRegistry) -> None:
        self.registry = registry

    def evicted(self, tier: str) -> Callable[[int, int], None]:
        """What a tier is to call with (entries, bytes) when it makes room; `tier` is "memory" or "disk"."""
        raise NotImplementedError

    def corrupt(self) -> None:
        """Count a copy that was found damaged; what the disk tier is to call."""
