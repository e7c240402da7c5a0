"""A storage that stops answering when it is told to."""

from collections.abc import AsyncIterable, AsyncIterator
from contextlib import asynccontextmanager

import anyio

from mediacdn import ByteRange, ObjectInfo
from mediacdn.testing import MemoryStorage


class Hanging:
    """While `hangs` is set every call waits for ever; `calls` counts what was asked of it. `after` chunks of each read pass before it hangs."""

    def __init__(self) -> None:
        self.inner = MemoryStorage()
        self.hangs = False
        self.after: int | None = None
        self.calls = 0

    async def _wait(self) -> None:
        self.calls += 1
        if self.hangs:
            await anyio.sleep_forever()

    async def head(self, key: str) -> ObjectInfo:
        await self._wait()
        return await self.inner.head(key)

    @asynccontextmanager
    async def open(self, key: str, span: ByteRange | None = None) -> AsyncIterator[AsyncIterator[bytes]]:
        await self._wait()
        async with self.inner.open(key, span) as chunks:
            yield chunks

    async def put(self, key: str, chunks: AsyncIterable[bytes], *, size: int | None = None) -> ObjectInfo:
        async def taken() -> AsyncIterator[bytes]:
            left = self.after
            async for chunk in chunks:
                if left is not None:
                    left -= 1
                    if left < 0:
                        await anyio.sleep_forever()
                yield chunk

        await self._wait()
        return await self.inner.put(key, taken(), size=size)

    async def delete(self, key: str) -> None:
        await self._wait()
        await self.inner.delete(key)

    async def list(self, prefix: str = "") -> AsyncIterator[ObjectInfo]:
        await self._wait()
        async for info in self.inner.list(prefix):
            yield info
