"""What is done after an upload that failed: its key is given free, by the next beat where the catalog was away. Nobody waits for an outage to end."""

import time
from types import SimpleNamespace
from typing import Any

import anyio
import pytest

from mediacdn.config import Limits
from mediacdn.errors import CatalogUnavailable
from mediacdn.ingest import OWED, Ingest
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
        catalog=SimpleNamespace(idempotency=keys), storages={"default": nothing}, intents=nothing, routing=Routing(), limits=Limits(), default_lifetime=0, access=nothing,
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
