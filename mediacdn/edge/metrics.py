"""The edge's figures: plain integers that the hot path adds to, turned into Prometheus families only when they are scraped.

mediacdn_edge_hits_total{tier}            slices found in a tier ("memory", "disk")
mediacdn_edge_misses_total                slices that no tier had
mediacdn_edge_fills_total{result}         reads of origins: "ok", an error's code, "cancelled", or "error" for anything else
mediacdn_edge_fill_bytes_total            bytes that those reads brought
mediacdn_edge_coalesced_total             look-ups that followed another's fill, here or in another process
mediacdn_edge_evictions_total{tier}       copies that made room, and mediacdn_edge_evicted_bytes_total{tier} their bytes
mediacdn_edge_stored_bytes{tier}          bytes held, and mediacdn_edge_entries{tier} copies
mediacdn_edge_stale_total                 slices served stale, within their grace
mediacdn_edge_corrupt_total               damaged copies and damaged objects that were found
"""

from collections import Counter
from collections.abc import Callable, Iterator

from prometheus_client import CollectorRegistry
from prometheus_client.core import CounterMetricFamily, GaugeMetricFamily
from prometheus_client.registry import Collector

from mediacdn.edge.tier import Sized


class EdgeMetrics(Collector):
    """The figures of one process, registered once a registry. Everything is for the event loop alone but `evicted` and `corrupt`, which a tier's threads may call."""

    def __init__(self, registry: CollectorRegistry) -> None:
        self.memory_hits = 0
        self.memory_misses = 0
        self.disk_hits = 0
        self.disk_misses = 0
        self.misses = 0
        self.fill_bytes = 0
        self.coalesced = 0
        self.renewals = 0
        self.stale = 0
        self.damaged = 0
        self.fills: Counter[str] = Counter()
        self.evictions: Counter[str] = Counter()
        self.evicted_bytes: Counter[str] = Counter()
        self._tiers: dict[str, Sized] = {}
        registry.register(self)

    def evicted(self, tier: str) -> Callable[[int, int], None]:
        """What a tier is to call with (entries, bytes) when it makes room; `tier` is "memory" or "disk"."""

        def count(entries: int, size: int) -> None:
            self.evictions[tier] += entries
            self.evicted_bytes[tier] += size

        return count

    def corrupt(self) -> None:
        """Count a copy that was found damaged; what the disk tier is to call."""
        self.damaged += 1

    def watch(self, tier: str, sized: Sized) -> None:
        """Show what a tier holds."""
        self._tiers[tier] = sized

    def collect(self) -> Iterator[CounterMetricFamily | GaugeMetricFamily]:
        tiers = tuple(self._tiers)
        found = {"memory": self.memory_hits, "disk": self.disk_hits}
        yield _by("tier", "hits", "Slices found in a tier", {tier: found[tier] for tier in tiers})
        yield _count("misses", "Slices that no tier had", self.misses)
        yield _by("result", "fills", "Reads of origins", self.fills)
        yield _count("fill_bytes", "Bytes read from origins", self.fill_bytes)
        yield _count("coalesced", "Look-ups that followed another's fill", self.coalesced)
        yield _by("tier", "evictions", "Copies that made room", {tier: self.evictions[tier] for tier in tiers})
        yield _by("tier", "evicted_bytes", "Bytes of copies that made room", {tier: self.evicted_bytes[tier] for tier in tiers})
        yield _count("stale", "Slices served stale", self.stale)
        yield _count("corrupt", "Damaged copies and objects that were found", self.damaged)
        stored = GaugeMetricFamily("mediacdn_edge_stored_bytes", "Bytes held", labels=["tier"])
        entries = GaugeMetricFamily("mediacdn_edge_entries", "Copies held", labels=["tier"])
        for tier, sized in self._tiers.items():
            stored.add_metric([tier], sized.bytes)
            entries.add_metric([tier], sized.entries)
        yield stored
        yield entries

    def describe(self) -> Iterator[CounterMetricFamily | GaugeMetricFamily]:
        return self.collect()


def _count(name: str, text: str, value: int) -> CounterMetricFamily:
    return CounterMetricFamily(f"mediacdn_edge_{name}", text, value=value)


def _by(label: str, name: str, text: str, values: dict[str, int]) -> CounterMetricFamily:
    family = CounterMetricFamily(f"mediacdn_edge_{name}", text, labels=[label])
    for key, value in values.items():
        family.add_metric([key], value)
    return family
