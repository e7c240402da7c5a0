"""Damaged bytes never end clean, and a put that lost bytes is no put."""

import hashlib
from collections.abc import AsyncIterable, AsyncIterator

import pytest

from mediacdn import ByteRange, NotFound, ObjectCorrupt, ObjectInfo, StorageUnavailable
from mediacdn.storage.verify import Verifying
from mediacdn.testing import MemoryStorage

pytestmark = pytest.mark.anyio

CONTENT = bytes(range(256)) * 4096


async def given(*pieces: bytes) -> AsyncIterator[bytes]:
    for piece in pieces:
        yield piece


async def drain(storage: Verifying, key: str, into: list[bytes], span: ByteRange | None = None) -> None:
    async with storage.open(key, span) as chunks:
        async for chunk in chunks:
            into.append(chunk)  # noqa: PERF401 - what came before the error counts


@pytest.mark.parametrize("size", [0, 1, 32 * 1024, 32 * 1024 + 1, 256 * 1024, len(CONTENT)])
async def test_sound_bytes_pass(size: int) -> None:
    content = CONTENT[:size]
    storage = Verifying(MemoryStorage(), lambda key: hashlib.sha256(content).hexdigest())
    await storage.put("a", given(content))
    got: list[bytes] = []
    await drain(storage, "a", got)
    assert b"".join(got) == content


@pytest.mark.parametrize("at", [0, 300_000, len(CONTENT) - 1])
async def test_a_flipped_bit_never_ends_clean(at: int) -> None:
    flipped = bytearray(CONTENT)
    flipped[at] ^= 1
    inner = MemoryStorage()
    await inner.put("a", given(bytes(flipped)))
    storage = Verifying(inner, lambda key: hashlib.sha256(CONTENT).hexdigest())
    got: list[bytes] = []
    with pytest.raises(ObjectCorrupt):
        await drain(storage, "a", got)
    assert len(b"".join(got)) == len(CONTENT) - 256 * 1024  # the last chunk was held back


@pytest.mark.parametrize("content", [b"", CONTENT[:-1], CONTENT + b"x"], ids=["empty", "short", "long"])
async def test_another_length_never_ends_clean(content: bytes) -> None:
    inner = MemoryStorage()
    await inner.put("a", given(content))
    storage = Verifying(inner, lambda key: hashlib.sha256(CONTENT).hexdigest())
    with pytest.raises(ObjectCorrupt):
        await drain(storage, "a", [])


@pytest.mark.parametrize(("digest", "span"), [(None, None), ("0" * 64, ByteRange(0, 10))], ids=["unknown digest", "range"])
async def test_what_cannot_be_checked_passes(digest: str | None, span: ByteRange | None) -> None:
    storage = Verifying(MemoryStorage(), lambda key: digest)
    await storage.put("a", given(CONTENT))
    got: list[bytes] = []
    await drain(storage, "a", got, span)
    assert b"".join(got) == (CONTENT if span is None else CONTENT[:10])


async def test_the_digest_asked_for_is_the_keys() -> None:
    asked: list[str] = []

    def digest_of(key: str) -> str | None:
        asked.append(key)
        return None

    storage = Verifying(MemoryStorage(), digest_of)
    await storage.put("a/b", given(b"x"))
    await drain(storage, "a/b", [])
    assert asked == ["a/b"]


class Forgetful(MemoryStorage):
    """Loses the last byte of every put."""

    async def put(self, key: str, chunks: AsyncIterable[bytes], *, size: int | None = None) -> ObjectInfo:
        content = b"".join([chunk async for chunk in chunks])
        return await super().put(key, given(content[:-1]))


async def test_a_put_that_lost_bytes_is_refused_and_removed() -> None:
    storage = Verifying(Forgetful(), lambda key: None)
    with pytest.raises(StorageUnavailable, match="kept 4 of 5 bytes"):
        await storage.put("a", given(b"he", b"llo"))
    with pytest.raises(NotFound):
        await storage.head("a")
