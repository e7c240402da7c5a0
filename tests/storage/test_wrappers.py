"""Every wrapper around each storage keeps all the promises that the seam makes."""

from collections.abc import AsyncIterator, Callable
from pathlib import Path

import pytest
from prometheus_client import CollectorRegistry

from mediacdn import LocalPaths, Room, Storage
from mediacdn.storage.metrics import StorageMetrics
from mediacdn.storage.retry import Retrying
from mediacdn.storage.verify import Verifying
from mediacdn.testing import MemoryParts, MemoryStorage, PartsConformance, StorageConformance, kit
from mediacdn_local import LocalConfig, open_local

pytestmark = pytest.mark.anyio

Wrap = Callable[[Storage], Storage]


def retrying(inner: Storage) -> Storage:
    return Retrying(inner)


def verifying(inner: Storage) -> Storage:
    return Verifying(inner, lambda key: None)


def measured(inner: Storage) -> Storage:
    return StorageMetrics(CollectorRegistry()).around(inner, "default")


def all_of_them(inner: Storage) -> Storage:
    return measured(retrying(verifying(inner)))


WRAPS = [retrying, verifying, measured, all_of_them]


@pytest.fixture(params=WRAPS, ids=lambda wrap: wrap.__name__)
def wrap(request: pytest.FixtureRequest) -> Wrap:
    found: Wrap = request.param
    return found


class TestAroundMemory(StorageConformance):
    big_object_size = 16 * 1024 * 1024

    @pytest.fixture
    async def storage(self, wrap: Wrap) -> Storage:
        return wrap(MemoryStorage())


class TestAroundLocal(StorageConformance):
    big_object_size = 64 * 1024 * 1024

    @pytest.fixture
    async def storage(self, wrap: Wrap, tmp_path: Path) -> AsyncIterator[Storage]:
        async with open_local(LocalConfig(reserve=0, fsync=False), kit(str(tmp_path))) as local:
            yield wrap(local)


class TestPartsAroundMemory(PartsConformance):
    @pytest.fixture
    async def storage(self, wrap: Wrap) -> Storage:
        return wrap(MemoryParts())


class Bare:
    """A storage without any power."""

    def __init__(self) -> None:
        inner = MemoryStorage()
        self.head, self.open, self.put, self.delete, self.list = inner.head, inner.open, inner.put, inner.delete, inner.list


class Paths(Bare):
    def open_file(self, key: str) -> int:
        return len(key)


@pytest.mark.parametrize(("inner", "paths", "room"), [(Bare, False, False), (Paths, True, False), (MemoryStorage, False, True)])
async def test_a_wrapper_has_the_powers_of_its_inner_storage_and_no_others(wrap: Wrap, inner: type, paths: bool, room: bool) -> None:
    wrapped = wrap(inner())
    assert isinstance(wrapped, LocalPaths) is paths
    assert isinstance(wrapped, Room) is room
    if isinstance(wrapped, LocalPaths):
        assert wrapped.open_file("12345") == 5
    if isinstance(wrapped, Room):
        assert await wrapped.free() == 1 << 40
