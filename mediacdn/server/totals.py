"""Metrics of several server processes as one exposition: what each counts is read, sent as plain values and summed here. Who asks whom is crew.py's and member.py's."""

from collections.abc import Iterable, Iterator, Sequence

from msgspec import Struct
from prometheus_client import CollectorRegistry, Metric
from prometheus_client.exposition import generate_latest
from prometheus_client.registry import Collector

_LASTING = frozenset({"counter", "histogram", "summary"})
_LEAST = ("_created", "_start_time_seconds", "_max_fds")
_MOST = ("_info", "_jobs_waiting", "_jobs_running", "_jobs_oldest_seconds", "_stored_objects", "_stored_bytes")
"""Infos, and what every process reads in one and the same table."""


class Reading(Struct, frozen=True, array_like=True):
    """One sample: its name, its labels in their order, and its value."""

    name: str
    labels: tuple[tuple[str, str], ...]
    value: float


class Family(Struct, frozen=True, array_like=True):
    """The samples of one metric."""

    name: str
    documentation: str
    type: str
    unit: str
    readings: tuple[Reading, ...]


def read(registry: CollectorRegistry) -> list[Family]:
    """What this process counts now, custom collectors included."""
    return [
        Family(
            each.name,
            each.documentation,
            each.type,
            each.unit,
            tuple(Reading(sample.name, tuple(sample.labels.items()), sample.value) for sample in each.samples),
        )
        for each in registry.collect()
    ]


def lasting(families: Iterable[Family]) -> list[Family]:
    """What stays true of a process that ended: what it counted, not what it held. Dropping it would make counters fall, which Prometheus takes for a restart."""
    return [each for each in families if each.type in _LASTING]


def summed(sources: Iterable[Iterable[Family]]) -> list[Family]:
    """Add the readings of equal name and labels. Gauges add up too (each process has its own), but start times and limits are the least, infos and what all of them see alike the most."""
    heads: dict[str, Family] = {}
    values: dict[str, dict[tuple[str, tuple[tuple[str, str], ...]], float]] = {}
    for source in sources:
        for family in source:
            heads.setdefault(family.name, family)
            known = values.setdefault(family.name, {})
            for reading in family.readings:
                key = (reading.name, reading.labels)
                before = known.get(key)
                known[key] = reading.value if before is None else _joined(reading.name, before, reading.value)
    return [
        Family(name, head.documentation, head.type, head.unit, tuple(Reading(*key, value) for key, value in values[name].items()))
        for name, head in heads.items()
    ]


def _joined(name: str, one: float, other: float) -> float:
    if name.endswith(_LEAST):
        return min(one, other)
    if name.endswith(_MOST):
        return max(one, other)
    return one + other


def exposed(families: Sequence[Family]) -> bytes:
    """The families in Prometheus' text format."""
    registry = CollectorRegistry(auto_describe=False)
    registry.register(_Given(families))
    return generate_latest(registry)


class _Given(Collector):
    def __init__(self, families: Sequence[Family]) -> None:
        self._families = families

    def collect(self) -> Iterator[Metric]:
        for family in self._families:
            metric = Metric(family.name, family.documentation, family.type, family.unit)
            for reading in family.readings:
                metric.add_sample(reading.name, dict(reading.labels), reading.value)
            yield metric
