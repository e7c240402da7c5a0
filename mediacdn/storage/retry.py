"""A storage that tries again: only what failed as StorageUnavailable, only what is safe to repeat, few times, with full jitter.

A put is never repeated, nor is a part, since their streams are spent; nor is anything after a reader was given its first bytes, or a list its first object.
A driver that still has the bytes in its hands repeats such a call itself, by the same `again`.
"""

import random
from collections.abc import AsyncGenerator, AsyncIterable, AsyncIterator, Awaitable, Callable, Sequence
from contextlib import AsyncExitStack, aclosing, asynccontextmanager
from time import monotonic
from typing import Any, TypeVar

import anyio

from mediacdn.errors import ObjectCorrupt, StorageUnavailable
from mediacdn.interfaces import MultipartUpload, Storage
from mediacdn.model import ByteRange, ObjectInfo, Part, PartsBegun
from mediacdn.storage.powers import pass_on

T = TypeVar("T")
PATIENCE = 2.0
"""Seconds after which a try that failed was waited for long enough: whoever waits had better hear of it."""


async def again(
    call: Callable[[], Awaitable[T]],
    *,
    tries: int = 3,
    first: float = 0.1,
    longest: float = 2.0,
    patience: float = PATIENCE,
    sleep: Callable[[float], Awaitable[None]] = anyio.sleep,
    share: Callable[[], float] = random.random,
) -> T:
    """Call, and call again when that fails as StorageUnavailable; `tries` count the first one too.

    Before try n + 1 it waits a random part of min(`longest`, `first` * 2^(n - 1)) seconds: full jitter keeps many callers from coming back together.
    A try that took longer than `patience` seconds to fail is the last.
    """
    for attempt in range(1, tries):
        began = monotonic()
        try:
            return await call()
        except StorageUnavailable:
            if monotonic() - began > patience:
                raise
            await sleep(min(longest, first * 2 ** (attempt - 1)) * share())
    return await call()


class Retrying:
    """Repeats head, delete, the start of list, open until its first chunk is there, and of a MultipartUpload all but put_part. Arguments as of `again`."""

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
        self._how: dict[str, Any] = {"tries": tries, "first": first, "longest": longest, "sleep": sleep, "share": share}
        pass_on(self, inner)
        if isinstance(inner, MultipartUpload):
            vars(self).update(vars(_Parts(inner, self._again)))

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
        objects, first = await self._again(lambda: _listed(self._inner.list(prefix)))
        if first is not None:
            yield first
            async for info in objects:
                yield info

    async def _again(self, call: Callable[[], Awaitable[T]]) -> T:
        return await again(call, **self._how)


class _Parts:
    """The repeated methods of a MultipartUpload, by name. A lost answer to begin_parts leaves an upload that nobody knows, for the sweep of such."""

    def __init__(self, inner: MultipartUpload, again: Callable[[Callable[[], Awaitable[Any]]], Awaitable[Any]]) -> None:
        async def begin_parts(key: str) -> str:
            return str(await again(lambda: inner.begin_parts(key)))

        async def list_parts(key: str, upload: str) -> Sequence[Part]:
            found: Sequence[Part] = await again(lambda: inner.list_parts(key, upload))
            return found

        async def complete_parts(key: str, upload: str, parts: Sequence[Part]) -> ObjectInfo:
            info: ObjectInfo = await again(lambda: inner.complete_parts(key, upload, parts))
            return info

        async def abort_parts(key: str, upload: str) -> None:
            await again(lambda: inner.abort_parts(key, upload))

        async def list_uploads(prefix: str = "") -> AsyncIterator[PartsBegun]:
            uploads, first = await again(lambda: _listed(inner.list_uploads(prefix)))
            if first is not None:
                yield first
                async for each in uploads:
                    yield each

        self.begin_parts = begin_parts
        self.list_parts = list_parts
        self.complete_parts = complete_parts
        self.abort_parts = abort_parts
        self.list_uploads = list_uploads


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


async def _listed(things: AsyncIterator[T]) -> tuple[AsyncIterator[T], T | None]:
    return things, await anext(things, None)
