"""What is about to be written is known before it can be there, kept alive while it arrives, and taken back when it comes to nothing; nobody waits for an outage to end."""

import time
from collections.abc import AsyncIterator, Callable
from contextlib import AbstractAsyncContextManager
from typing import Any

import anyio
import anyio.lowlevel
import pytest

from mediacdn import intents
from mediacdn.catalog.uploads import Ending
from mediacdn.errors import CatalogUnavailable, StorageUnavailable, TakenOver, TypeNotAllowed
from mediacdn.intents import Intents

pytestmark = pytest.mark.anyio


class Rows:
    """Intents of a catalog; `standing` are those that are there, `beats` how often it was told so."""

    def __init__(self) -> None:
        self.standing: set[str] = set()
        self.refuses = False
        self.away = False
        self.beats = 0

    async def intend(self, storage: str, key: str, ending: Ending | None = None) -> None:
        await anyio.lowlevel.checkpoint()
        if self.refuses:
            raise CatalogUnavailable()
        self.standing.add(key)

    async def touch(self, keys: list[tuple[str, str]]) -> None:
        self.beats += len(keys)
        if self.away:
            raise CatalogUnavailable()

    async def abandon(self, storage: str, key: str) -> bool:
        return key in self.standing

    async def forget(self, storage: str, key: str) -> None:
        self.standing.discard(key)


class Bytes:
    """A storage that answers whoever clears something away only when it is back."""

    def __init__(self) -> None:
        self.back = anyio.Event()
        self.back.set()
        self.deleted: list[str] = []

    async def delete(self, key: str) -> None:
        await self.back.wait()
        self.deleted.append(key)


@pytest.fixture
def rows() -> Rows:
    return Rows()


@pytest.fixture
def there() -> Bytes:
    return Bytes()


@pytest.fixture
async def writing(rows: Rows, there: Bytes) -> AsyncIterator[Intents]:
    made: Any = Intents(rows, {"default": there})  # type: ignore[arg-type, dict-item]
    yield made
    made.close()


ENDING = Ending("U", 1, claims=False)
WAYS: dict[str, Callable[[Intents], AbstractAsyncContextManager[Any]]] = {
    "beside": lambda writing: writing.beside("default", "A"),
    "before": lambda writing: writing.before("default", "A"),
    "again": lambda writing: writing.again("default", "A", ENDING),
}


@pytest.mark.parametrize(
    ("way", "error", "stays"),
    [
        ("beside", StorageUnavailable, False),
        ("beside", TypeNotAllowed, False),
        ("before", StorageUnavailable, False),
        ("before", RuntimeError, False),
        ("again", TypeNotAllowed, False),
        ("again", StorageUnavailable, True),
        ("again", TakenOver, True),
    ],
)
async def test_a_failure(writing: Intents, rows: Rows, there: Bytes, way: str, error: type[Exception], stays: bool) -> None:
    async def fail() -> None:
        async with WAYS[way](writing):
            await anyio.lowlevel.checkpoint()
            raise error()

    with pytest.raises(error):
        await fail()
    assert rows.standing == ({"A"} if stays else set())
    assert there.deleted == ([] if stays else ["A"])


@pytest.mark.parametrize("way", WAYS)
async def test_what_ends_well_stays(writing: Intents, rows: Rows, there: Bytes, way: str) -> None:
    async with WAYS[way](writing) as stands:
        if stands is not None:
            await stands()
    assert rows.standing == {"A"}
    assert not there.deleted


async def test_bytes_wait_for_an_intent_that_is_refused(writing: Intents, rows: Rows, there: Bytes) -> None:
    rows.refuses = True
    with pytest.raises(CatalogUnavailable):
        async with writing.beside("default", "A") as stands:
            await stands()
    assert not there.deleted, "nobody may have written there"


async def test_a_sign_of_life_also_after_the_catalog_was_away(writing: Intents, rows: Rows, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(intents, "BEAT", 0.01)
    rows.away = True
    async with writing.before("default", "A"):
        with anyio.fail_after(2):
            while rows.beats < 3:  # noqa: ASYNC110
                await anyio.sleep(0.01)
    beats = rows.beats
    await anyio.sleep(0.05)
    assert rows.beats <= beats + 1, "what is written is nobody's concern any more"


async def test_a_storage_that_is_silent_is_not_waited_for(writing: Intents, rows: Rows, there: Bytes) -> None:
    there.back = anyio.Event()
    began = time.monotonic()

    async def fail() -> None:
        async with writing.beside("default", "A") as stands:
            await stands()
            raise StorageUnavailable()

    with pytest.raises(StorageUnavailable):
        await fail()
    assert time.monotonic() - began < 0.5
    assert rows.standing, "what may be there is known to be"
    there.back.set()
    with anyio.fail_after(2):
        while rows.standing:  # noqa: ASYNC110 - what ends it is a task that nobody holds
            await anyio.sleep(0.01)
