"""Each call of a storage is counted once, under its operation and outcome, with the bytes that moved."""

from collections.abc import AsyncIterator

import anyio
import pytest
from prometheus_client import CollectorRegistry

from mediacdn import NotFound, ObjectCorrupt, StorageUnavailable
from mediacdn.storage.metrics import Measured, StorageMetrics
from tests.storage.flaky import Flaky

pytestmark = pytest.mark.anyio


class Counted:
    """A measured flaky storage holding `a`, 1 MiB, and a way to read its registry."""

    def __init__(self) -> None:
        self.registry = CollectorRegistry()
        self.inner = Flaky()
        self.storage: Measured = StorageMetrics(self.registry).around(self.inner, "main")

    def count(self, operation: str, outcome: str) -> float:
        labels = {"storage": "main", "operation": operation, "outcome": outcome}
        return self.registry.get_sample_value("mediacdn_storage_seconds_count", labels) or 0

    def seconds(self, operation: str) -> float:
        return (
            self.registry.get_sample_value("mediacdn_storage_seconds_sum", {"storage": "main", "operation": operation, "outcome": "ok"})
            or 0
        )

    def bytes(self, direction: str) -> float:
        return self.registry.get_sample_value("mediacdn_storage_bytes_total", {"storage": "main", "direction": direction}) or 0

    def all(self) -> float:
        return sum(
            sample.value
            for metric in self.registry.collect()
            for sample in metric.samples
            if sample.name == "mediacdn_storage_seconds_count"
        )


async def given(*pieces: bytes) -> AsyncIterator[bytes]:
    for piece in pieces:
        yield piece


@pytest.fixture
async def counted() -> Counted:
    counted = Counted()
    await counted.inner.inner.put("a", given(bytes(1024 * 1024)))
    return counted


async def read(counted: Counted, *, chunks_taken: int = 1000) -> None:
    async with counted.storage.open("a") as chunks:
        async for _ in chunks:
            chunks_taken -= 1
            if not chunks_taken:
                break


async def test_what_goes_well(counted: Counted) -> None:
    await counted.storage.head("a")
    await read(counted)
    await counted.storage.put("b", given(b"abc", b"de"))
    await counted.storage.delete("b")
    assert [info.key async for info in counted.storage.list()] == ["a"]
    for operation in ("head", "open", "read", "put", "delete", "list"):
        assert counted.count(operation, "ok") == 1
    assert counted.all() == 6
    assert (counted.bytes("in"), counted.bytes("out")) == (5, 1024 * 1024)


async def test_a_reader_that_leaves_early_is_counted_with_what_it_took(counted: Counted) -> None:
    await read(counted, chunks_taken=1)
    assert counted.count("read", "ok") == 1
    assert counted.bytes("out") == 256 * 1024


async def test_the_consumers_own_time_is_not_the_storages(counted: Counted) -> None:
    async with counted.storage.open("a") as chunks:
        async for _ in chunks:
            await anyio.sleep(0.05)
    assert counted.seconds("read") < 0.1


@pytest.mark.parametrize(
    ("error", "outcome"), [(NotFound(), "not_found"), (StorageUnavailable(), "storage_unavailable"), (OSError(), "error")]
)
async def test_failures_are_counted_by_their_code(counted: Counted, error: Exception, outcome: str) -> None:
    counted.inner.script = [error] * 5
    for call in (counted.storage.head("a"), read(counted), counted.storage.put("b", given(b"x")), counted.storage.delete("a")):
        with pytest.raises(type(error)):
            await call
    with pytest.raises(type(error)):
        await anext(counted.storage.list())
    for operation in ("head", "open", "put", "delete", "list"):
        assert counted.count(operation, outcome) == 1
    assert counted.all() == 5
    assert counted.bytes("in") == 0


async def test_a_read_that_fails_half_way(counted: Counted) -> None:
    counted.inner.script = [None, None, ObjectCorrupt()]
    with pytest.raises(ObjectCorrupt):
        await read(counted)
    assert counted.count("open", "ok") == 1
    assert counted.count("read", "object_corrupt") == 1


async def test_a_cancelled_put(counted: Counted) -> None:
    async def hanging() -> AsyncIterator[bytes]:
        yield b"x"
        await anyio.sleep_forever()

    with anyio.move_on_after(0.05):
        await counted.storage.put("b", hanging())
    assert counted.count("put", "cancelled") == 1
    assert counted.bytes("in") == 0


async def test_two_storages_share_one_registry() -> None:
    metrics = StorageMetrics(CollectorRegistry())
    for name in ("one", "two"):
        with pytest.raises(NotFound):
            await metrics.around(Flaky(), name).head("a")
