"""The key of a request that failed is given free, by the next look where the catalog was away. Nobody waits for an outage to end."""

import time
from collections.abc import Iterator

import anyio
import pytest

from mediacdn.errors import CatalogUnavailable, TooLarge
from mediacdn.idempotency import OWED, Keys

pytestmark = pytest.mark.anyio


class Rows:
    """Idempotency keys of a catalog that may be away."""

    def __init__(self) -> None:
        self.away = False
        self.silent = anyio.Event()
        self.silent.set()
        self.dropped: list[str] = []
        self.kept: list[str] = []

    async def drop(self, token: str) -> None:
        if self.away:
            raise CatalogUnavailable()
        await self.silent.wait()
        self.dropped.append(token)

    async def touch(self, token: str) -> None:
        self.kept.append(token)


@pytest.fixture
def keys() -> Rows:
    return Rows()


@pytest.fixture
def held(keys: Rows) -> Iterator[Keys]:
    made = Keys(keys)  # type: ignore[arg-type]
    yield made
    made.close()


async def test_it_is_kept_while_its_request_runs(held: Keys, keys: Rows) -> None:
    async with held.held("a"):
        await held.keep()
    await held.keep()
    assert (keys.kept, keys.dropped) == (["a"], [])


async def test_a_failure_gives_it_free(held: Keys, keys: Rows) -> None:
    async def fail() -> None:
        async with held.held("a"):
            raise TooLarge()

    with pytest.raises(TooLarge):
        await fail()
    await held.keep()
    assert (keys.kept, keys.dropped) == ([], ["a"])


async def test_at_once(held: Keys, keys: Rows) -> None:
    await held.release("a")
    await held.keep()
    assert keys.dropped == ["a"]


async def test_when_the_catalog_is_back(held: Keys, keys: Rows) -> None:
    keys.away = True
    for each in ("a", "b"):
        await held.release(each)
    with pytest.raises(CatalogUnavailable):
        await held.keep()
    keys.away = False
    await held.keep()
    await held.keep()
    assert sorted(keys.dropped) == ["a", "b"]


async def test_no_more_are_remembered_than_is_sane(held: Keys, keys: Rows) -> None:
    keys.away = True
    for number in range(OWED + 10):
        await held.release(str(number))
    keys.away = False
    await held.keep()
    assert len(keys.dropped) == OWED


async def test_a_catalog_that_is_silent_is_not_waited_for(held: Keys, keys: Rows) -> None:
    keys.silent = anyio.Event()
    began = time.monotonic()
    await held.release("a")
    assert time.monotonic() - began < 0.5
    keys.silent.set()
    await held.keep()
    assert set(keys.dropped) == {"a"}
