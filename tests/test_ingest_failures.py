"""What is done after an upload that failed: keys are given free, by the next beat where the catalog was away, and what was begun is taken back. Nobody waits for an outage to end."""

import time
from collections.abc import AsyncIterable, AsyncIterator
from types import SimpleNamespace
from typing import Any

import anyio
import pytest

from mediacdn.config import Limits
from mediacdn.errors import CatalogUnavailable, StorageUnavailable
from mediacdn.ingest import OWED, Ingest, Intake
from mediacdn.inspection import Inspection
from mediacdn.model import Principal
from mediacdn.storage.placement import Routing

pytestmark = pytest.mark.anyio


class Keys:
    """Idempotency keys of a catalog that may be away."""

    def __init__(self) -> None:
        self.away = False
        self.silent = anyio.Event()
        self.silent.set()
        self.dropped: list[str] = []

    async def drop(self, token: str) -> None:
        if self.away:
            raise CatalogUnavailable()
        await self.silent.wait()
        self.dropped.append(token)

    async def touch(self, token: str) -> None:
        raise AssertionError("no upload is alive")


@pytest.fixture
def keys() -> Keys:
    return Keys()


@pytest.fixture
def ingest(keys: Keys) -> Any:
    nothing: Any = None
    made = Ingest(
        catalog=SimpleNamespace(idempotency=keys), storages={"default": nothing}, routing=Routing(), limits=Limits(), default_lifetime=0, access=nothing,
        counters=nothing, inspection=nothing, clock=nothing, new_id=nothing, emit=nothing,
    )  # type: ignore[arg-type]  # fmt: skip
    yield made
    made.close()


async def test_at_once(ingest: Ingest, keys: Keys) -> None:
    await ingest.release("a")
    await ingest.keep_leases()
    assert keys.dropped == ["a"]


async def test_when_the_catalog_is_back(ingest: Ingest, keys: Keys) -> None:
    keys.away = True
    for each in ("a", "b"):
        await ingest.release(each)
    with pytest.raises(CatalogUnavailable):
        await ingest.keep_leases()
    keys.away = False
    await ingest.keep_leases()
    await ingest.keep_leases()
    assert sorted(keys.dropped) == ["a", "b"]


async def test_no_more_are_remembered_than_is_sane(ingest: Ingest, keys: Keys) -> None:
    keys.away = True
    for number in range(OWED + 10):
        await ingest.release(str(number))
    keys.away = False
    await ingest.keep_leases()
    assert len(keys.dropped) == OWED


async def test_a_catalog_that_is_silent_is_not_waited_for(ingest: Ingest, keys: Keys) -> None:
    keys.silent = anyio.Event()
    began = time.monotonic()
    await ingest.release("a")
    assert time.monotonic() - began < 0.5
    keys.silent.set()
    await ingest.keep_leases()
    assert set(keys.dropped) == {"a"}


class Objects:
    """Intents of a catalog; `rows` are those that stand."""

    def __init__(self) -> None:
        self.rows: set[str] = set()

    async def intend(self, storage: str, key: str) -> None:
        self.rows.add(key)

    async def abandon(self, storage: str, key: str) -> bool:
        return key in self.rows

    async def forget(self, storage: str, key: str) -> None:
        self.rows.discard(key)


class Silent:
    """A storage that refuses what it is given and does not answer whoever would clear that away, until it is back."""

    def __init__(self) -> None:
        self.back = anyio.Event()

    async def put(self, key: str, chunks: AsyncIterable[bytes], *, size: int | None = None) -> Any:
        raise StorageUnavailable()

    async def delete(self, key: str) -> None:
        await self.back.wait()


async def test_a_storage_that_is_silent_is_not_waited_for() -> None:
    nothing: Any = None
    storage, objects = Silent(), Objects()
    made = Ingest(
        catalog=SimpleNamespace(objects=objects), storages={"default": storage}, routing=Routing(), limits=Limits(), default_lifetime=0, access=nothing,
        counters=nothing, inspection=Inspection({}), clock=nothing, new_id=lambda: "A", emit=nothing,
    )  # type: ignore[arg-type]  # fmt: skip

    async def body() -> AsyncIterator[bytes]:
        yield b"some text"

    began = time.monotonic()
    with pytest.raises(StorageUnavailable):
        await made.store(Principal("somebody"), body(), Intake, metered=True)
    assert time.monotonic() - began < 0.5
    assert objects.rows, "what may be there is known to be"
    storage.back.set()
    with anyio.fail_after(2):
        while objects.rows:  # noqa: ASYNC110 - what ends it is a task that nobody holds
            await anyio.sleep(0.01)
    made.close()
