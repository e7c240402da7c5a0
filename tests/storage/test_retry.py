"""What is tried again, how often and after how long; and what never is."""

from collections.abc import AsyncIterator, Awaitable, Callable

import pytest

from mediacdn import ByteRange, NotFound, ObjectCorrupt, Storage, StorageFull, StorageUnavailable
from mediacdn.storage.retry import Retrying
from tests.storage.flaky import Flaky

pytestmark = pytest.mark.anyio

DOWN = StorageUnavailable("down")
CORRUPT = ObjectCorrupt("damaged")
CONTENT = bytes(range(256)) * 4096  # 1 MiB: four chunks of the fake


async def given(*pieces: bytes) -> AsyncIterator[bytes]:
    for piece in pieces:
        yield piece


async def head(storage: Storage) -> object:
    return (await storage.head("a")).size


async def read(storage: Storage) -> object:
    async with storage.open("a") as chunks:
        return b"".join([chunk async for chunk in chunks])


async def listed(storage: Storage) -> object:
    return [info.key async for info in storage.list()]


async def delete(storage: Storage) -> object:
    await storage.delete("a")
    return None


async def put(storage: Storage) -> object:
    return (await storage.put("b", given(b"x"))).size


class Sleeps:
    def __init__(self) -> None:
        self.waited: list[float] = []

    async def __call__(self, seconds: float) -> None:
        self.waited.append(seconds)


async def flaky(*script: Exception | None) -> tuple[Flaky, Retrying, Sleeps]:
    inner, sleeps = Flaky(), Sleeps()
    await inner.inner.put("a", given(CONTENT))
    inner.script = list(script)
    return inner, Retrying(inner, sleep=sleeps, share=lambda: 1.0), sleeps


@pytest.mark.parametrize(
    ("call", "script", "answer", "calls"),
    [
        (head, [DOWN], len(CONTENT), 2),
        (head, [DOWN, DOWN], len(CONTENT), 3),
        (delete, [DOWN, DOWN], None, 3),
        (listed, [DOWN, DOWN], ["a"], 4),
        (read, [DOWN, DOWN], CONTENT, 8),
        (read, [None, DOWN], CONTENT, 8),
        (read, [DOWN, None, DOWN], CONTENT, 9),
    ],
    ids=["head", "head twice", "delete", "list", "open on entering", "open at the first chunk", "open at both"],
)
async def test_what_is_safe_is_tried_again(
    call: Callable[[Storage], Awaitable[object]], script: list[Exception | None], answer: object, calls: int
) -> None:
    inner, storage, _ = await flaky(*script)
    assert await call(storage) == answer
    assert len(inner.calls) == calls
    assert inner.entered == 0


@pytest.mark.parametrize(
    ("call", "script", "calls"),
    [
        (head, [DOWN] * 5, 3),
        (delete, [DOWN] * 5, 3),
        (listed, [DOWN] * 5, 3),
        (read, [DOWN] * 5, 3),
        (read, [None, DOWN] * 5, 6),
        (put, [DOWN], 1),
        (listed, [None, DOWN], 2),
        (read, [None, None, DOWN], 3),
    ],
    ids=["head", "delete", "list", "open", "first chunk", "put never", "list after its first object", "read after its first chunk"],
)
async def test_tries_are_bounded(call: Callable[[Storage], Awaitable[object]], script: list[Exception | None], calls: int) -> None:
    inner, storage, sleeps = await flaky(*script)
    with pytest.raises(StorageUnavailable):
        await call(storage)
    assert len(inner.calls) == calls
    assert len(sleeps.waited) <= 2
    assert inner.entered == 0


@pytest.mark.parametrize(
    "error", [NotFound(), CORRUPT, StorageFull(), ValueError("a fault of ours")], ids=lambda error: type(error).__name__
)
@pytest.mark.parametrize("call", [head, delete, listed, read])
async def test_other_errors_are_not_tried_again(call: Callable[[Storage], Awaitable[object]], error: Exception) -> None:
    inner, storage, sleeps = await flaky(error)
    with pytest.raises(type(error)):
        await call(storage)
    assert len(inner.calls) == 1
    assert sleeps.waited == []


async def test_a_consumer_that_fails_is_not_tried_again() -> None:
    inner, storage, _ = await flaky()
    with pytest.raises(StorageUnavailable):
        async with storage.open("a", ByteRange(0, 1)):
            raise DOWN
    assert inner.calls.count("open") == 1
    assert inner.entered == 0


async def test_damage_shows_while_reading_not_on_entering() -> None:
    _, storage, _ = await flaky(None, CORRUPT)
    async with storage.open("a") as chunks:
        with pytest.raises(ObjectCorrupt):
            await anext(chunks)


@pytest.mark.parametrize(
    ("tries", "share", "waits"), [(3, 1.0, [0.1, 0.2]), (3, 0.25, [0.025, 0.05]), (7, 1.0, [0.1, 0.2, 0.4, 0.8, 1.0, 1.0]), (1, 1.0, [])]
)
async def test_waits_grow_to_a_bound_with_full_jitter(tries: int, share: float, waits: list[float]) -> None:
    sleeps = Sleeps()
    storage = Retrying(Flaky([DOWN] * 10), tries=tries, first=0.1, longest=1.0, sleep=sleeps, share=lambda: share)
    with pytest.raises(StorageUnavailable):
        await storage.head("a")
    assert sleeps.waited == pytest.approx(waits)
