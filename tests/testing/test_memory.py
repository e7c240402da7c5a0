"""The fake in memory keeps the seam's promises, so that tests built on it mean something."""

from collections.abc import AsyncIterator

import pytest

from mediacdn import LocalPaths, StorageFull
from mediacdn.testing import MemoryParts, MemoryStorage, PartsConformance, StorageConformance

pytestmark = pytest.mark.anyio


class TestMemoryStorage(StorageConformance):
    big_object_size = 16 * 1024 * 1024

    @pytest.fixture
    async def storage(self) -> MemoryStorage:
        return MemoryStorage()


class TestMemoryParts(StorageConformance):
    big_object_size = 16 * 1024 * 1024

    @pytest.fixture
    async def storage(self) -> MemoryParts:
        return MemoryParts()


class TestPartsInMemory(PartsConformance):
    @pytest.fixture
    async def storage(self) -> MemoryParts:
        return MemoryParts()


async def _bytes(count: int) -> AsyncIterator[bytes]:
    for _ in range(count):
        yield b"x"


@pytest.mark.parametrize("size", [None, 11], ids=["found out", "declared"])
async def test_a_full_fake_refuses_and_keeps_nothing(size: int | None) -> None:
    storage = MemoryStorage(capacity=10)
    with pytest.raises(StorageFull):
        await storage.put("a", _bytes(11), size=size)
    assert [info async for info in storage.list()] == []
    await storage.put("a", _bytes(10))
    assert await storage.free() == 0


def test_it_has_no_files() -> None:
    assert not isinstance(MemoryStorage(), LocalPaths)
