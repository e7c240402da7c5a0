"""A copy is the bytes that were promised, or it is not there; and it takes its time."""

import hashlib
import time
from collections.abc import AsyncIterator

import pytest

from mediacdn import MediaError, NotFound, ObjectCorrupt, Storage
from mediacdn.errors import TypeNotAllowed
from mediacdn.storage.transfer import Promise, Throttle, prove, transfer
from mediacdn.testing import MemoryStorage
from tests.storage.flaky import Flaky

pytestmark = pytest.mark.anyio

CONTENT = bytes(range(256)) * 4096
DIGEST = hashlib.sha256(CONTENT).hexdigest()


async def given(*pieces: bytes) -> AsyncIterator[bytes]:
    for piece in pieces:
        yield piece


async def holds(storage: Storage, key: str) -> bool:
    try:
        await storage.head(key)
    except NotFound:
        return False
    return True


@pytest.mark.parametrize(
    ("promise", "kept"),
    [
        (Promise(len(CONTENT), DIGEST), True),
        (Promise(None, DIGEST), True),
        (Promise(None, None), True),
        (Promise(len(CONTENT) + 1, None), False),
        (Promise(len(CONTENT) - 1, DIGEST), False),
        (Promise(len(CONTENT), "0" * 64), False),
    ],
)
async def test_what_was_promised_or_nothing(promise: Promise, kept: bool) -> None:
    source, target = MemoryStorage(), MemoryStorage()
    await source.put("a", given(CONTENT))
    try:
        info, digest = await transfer(source, "a", target, "b", promise)
        assert (info.size, digest) == (len(CONTENT), DIGEST)
        await prove(target, "b", promise)
    except ObjectCorrupt:
        assert not kept
        with pytest.raises(ObjectCorrupt):
            await prove(source, "a", promise)
    assert await holds(target, "b") is kept


@pytest.mark.parametrize("error", [NotFound(), ObjectCorrupt()])
@pytest.mark.parametrize("at", [0, 1, 2])
async def test_a_source_that_fails_leaves_nothing(error: MediaError, at: int) -> None:
    source, target = Flaky(), MemoryStorage()
    await source.inner.put("a", given(CONTENT))
    source.script = [*[None] * at, error]
    with pytest.raises(type(error)):
        await transfer(source, "a", target, "b", Promise(len(CONTENT), DIGEST))
    assert not await holds(target, "b")
    assert source.entered == 0


async def test_who_looks_on_sees_every_byte_and_may_refuse() -> None:
    source, target = MemoryStorage(), MemoryStorage()
    await source.put("a", given(CONTENT))
    seen = hashlib.sha256()

    async def look(chunk: bytes) -> None:
        seen.update(chunk)

    await transfer(source, "a", target, "b", Promise(None, None), seen=look)
    assert seen.hexdigest() == DIGEST

    async def refuse(chunk: bytes) -> None:
        raise TypeNotAllowed

    with pytest.raises(TypeNotAllowed):
        await transfer(source, "a", target, "c", Promise(None, None), seen=refuse)
    assert not await holds(target, "c")


async def test_a_throttle_keeps_to_its_rate_over_all_who_take() -> None:
    source = MemoryStorage()
    await source.put("a", given(CONTENT))
    throttle = Throttle(8 * len(CONTENT))
    began = time.monotonic()
    for _ in range(3):
        await prove(source, "a", Promise(len(CONTENT), DIGEST), throttle=throttle)
    assert 0.3 <= time.monotonic() - began < 2
    began = time.monotonic()
    for _ in range(3):
        await prove(source, "a", Promise(len(CONTENT), DIGEST), throttle=Throttle(0))
    assert time.monotonic() - began < 0.3
