"""A storage that tries again: only what failed as StorageUnavailable, only what is safe to repeat, few times, with full jitter.

A put is never repeated, since its stream is spent; nor is anything after a reader was given its first bytes, or a list its first object.
"""

import random
from collections.abc import AsyncGenerator, AsyncIterable, AsyncIterator, Awaitable, Callable
from contextlib import AsyncExitStack, aclosing, asynccontextmanager
from typing import TypeVar

import anyio

from mediacdn.errors import ObjectCorrupt, StorageUnavailable
from mediacdn.interfaces import Storage
from mediacdn.model import ByteRange, ObjectInfo
from mediacdn.storage.powers import pass_on

T = TypeVar("T")


class Retrying:
    """Repeats head, delete, the start of list, and open until its first chunk is there; `tries` count the first one too.

    Before try n + 1 it waits a random part of min(`longest`, `first` * 2^(n - 1)) seconds: full jitter keeps many callers from coming back together.
    """

    def __init__(
        self,
        inner: Storage,
        *,
        tries: int = 3,
        first: float = 0.1,
        longest: float = 2.0,
        sleep: Callable[[float], Awaitable[None]] = anyio.sleep,
        share: Callable[[], float] = random.random,
    ) -> None:
        self._inner = inner
        self._tries = tries
        self._first = first
        self._longest = longest
        self._sleep = sleep
        self._share = share
        pass_on(self, inner)

    async def head(self, key: str) -> ObjectInfo:
        return await self._again(lambda: self._inner.head(key))

    @asynccontextmanager
    async def open(self, key: str, span: ByteRange | None = None) -> AsyncIterator[AsyncIterator[bytes]]:
        async with AsyncExitStack() as stack:
            chunks = await self._again(lambda: _begun(stack, self._inner, key, span))
            yield await stack.enter_async_context(aclosing(chunks))

    async def put(self, key: str, chunks: AsyncIterable[bytes], *, size: int | None = None) -> ObjectInfo:
        return await self._inner.put(key, chunks, size=size)

    async def delete(self, key: str) -> None:
        await self._again(lambda: self._inner.delete(key))

    async def list(self, prefix: str = "") -> AsyncIterator[ObjectInfo]:
        objects, first = await self._again(lambda: _listed(self._inner, prefix))
        if first is not None:
            yield first
            async for info in objects:
                yield info

    async def _again(self, call: Callable[[], Awaitable[T]]) -> T:
        for attempt in range(1, self._tries):
            try:
                return await call()
            except StorageUnavailable:
                await self._sleep(min(self._longest, self._first * 2 ** (attempt - 1)) * self._share())
        return await call()


async def _begun(stack: AsyncExitStack, inner: Storage, key: str, span: ByteRange | None) -> AsyncGenerator[bytes, None]:
    """Open and fetch the first chunk; a failed try leaves its context before the next begins, a successful one is left to `stack`."""
    async with AsyncExitStack() as attempt:
        chunks = await attempt.enter_async_context(inner.open(key, span))
        first: bytes | ObjectCorrupt | None
        try:
            first = await anext(chunks, None)
        except ObjectCorrupt as error:
            first = error  # the seam's word: damage shows while reading, not on entering
        stack.push_async_exit(attempt.pop_all())
    return _continued(first, chunks)


async def _continued(first: bytes | ObjectCorrupt | None, chunks: AsyncIterator[bytes]) -> AsyncGenerator[bytes, None]:
    if isinstance(first, ObjectCorrupt):
        raise first
    if first is not None:
        yield first
        async for chunk in chunks:
            yield chunk


async def _listed(inner: Storage, prefix: str) -> tuple[AsyncIterator[ObjectInfo], ObjectInfo | None]:
    objects = inner.list(prefix)
    return objects, await anext(objects, None)
