"""Idempotency keys of failed uploads are given free, also when the catalog was away just then: the next beat does it."""

from types import SimpleNamespace
from typing import Any

import pytest

from mediacdn.config import Limits
from mediacdn.errors import CatalogUnavailable
from mediacdn.ingest import OWED, Ingest

pytestmark = pytest.mark.anyio


class Keys:
    """Idempotency keys of a catalog that may be away."""

    def __init__(self) -> None:
        self.away = False
        self.dropped: list[str] = []

    async def drop(self, token: str) -> None:
        if self.away:
            raise CatalogUnavailable()
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
        catalog=SimpleNamespace(idempotency=keys), storages={"default": nothing}, routing=(), limits=Limits(), default_lifetime=0, access=nothing,
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
