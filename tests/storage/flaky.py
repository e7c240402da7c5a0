"""A storage whose calls fail as a script says."""

from collections.abc import AsyncIterable, AsyncIterator, Sequence
from contextlib import asynccontextmanager

from mediacdn import ByteRange, ObjectInfo
from mediacdn.testing import MemoryStorage


class Flaky:
    """Before each call, and each chunk or listed object, the next entry of `script` is raised; None lets it pass, and so does the script's end.

    `calls` remembers what was asked, `entered` how many reads are open.
    """

    def __init__(self, script: Sequence[Exception | None] = ()) -> None:
        self.inner = MemoryStorage()
        self.script = list(script)
        self.calls: list[str] = []
        self.entered = 0

    def _next(self, call: str) -> None:
        self.calls.append(call)
        if self.script and (error := self.script.pop(0)) is not None:
            raise error

    async def head(self, key: str) -> ObjectInfo:
        self._next("head")
        return await self.inner.head(key)

    @asynccontextmanager
    async def open(self, key: str, span: ByteRange | None = None) -> AsyncIterator[AsyncIterator[bytes]]:
        self._next("open")
        async with self.inner.open(key, span) as chunks:
            self.entered += 1
            try:
                yield self._read(chunks)
            finally:
                self.entered -= 1

    async def _read(self, chunks: AsyncIterator[bytes]) -> AsyncIterator[bytes]:
        self._next("chunk")
        async for chunk in chunks:
            yield chunk
            self._next("chunk")

    async def put(self, key: str, chunks: AsyncIterable[bytes], *, size: int | None = None) -> ObjectInfo:
        self._next("put")
        return await self.inner.put(key, chunks, size=size)

    async def delete(self, key: str) -> None:
        self._next("delete")
        await self.inner.delete(key)

    async def list(self, prefix: str = "") -> AsyncIterator[ObjectInfo]:
        self._next("list")
        async for info in self.inner.list(prefix):
            yield info
            self._next("listed")
