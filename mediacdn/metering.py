"""A stream counted, hashed and cut into batches on its way, without its hash ever holding the event loop up."""

import asyncio
import hashlib
from collections.abc import AsyncIterable, AsyncIterator
from concurrent.futures import ThreadPoolExecutor

BATCH = 1024 * 1024
INLINE_HASH = 64 * 1024  # below this a thread costs more than the hash


class Meter:
    """Counts and hashes a stream; the hash of one batch runs in a thread while the next arrives."""

    def __init__(self, threads: ThreadPoolExecutor) -> None:
        self.size = 0
        self._sha256 = hashlib.sha256()
        self._threads = threads
        self._running: asyncio.Future[None] | None = None

    async def digest(self) -> str:
        await self.settled()
        return self._sha256.hexdigest()

    async def feed(self, batch: bytes) -> None:
        self.size += len(batch)
        await self.settled()
        if len(batch) <= INLINE_HASH:
            self._sha256.update(batch)
        else:
            self._running = asyncio.get_running_loop().run_in_executor(self._threads, self._sha256.update, batch)

    async def settled(self) -> None:
        """Wait until all that was fed is hashed."""
        if self._running is not None:
            await self._running
            self._running = None


async def batches(chunks: AsyncIterable[bytes]) -> AsyncIterator[bytes]:
    """Join what arrives to batches of about 1 MiB: one hand-over to a thread each, instead of one for every 64 KiB."""
    waiting: list[bytes] = []
    size = 0
    async for chunk in chunks:
        if not chunk:
            continue
        waiting.append(chunk)
        size += len(chunk)
        if size >= BATCH:
            yield b"".join(waiting)
            waiting, size = [], 0
    if waiting:
        yield b"".join(waiting)


async def first(stream: AsyncIterator[bytes], least: int) -> bytes:
    """Take at least so many bytes from a stream, less only where it ends."""
    head = b""
    while len(head) < least:
        batch = await anext(stream, None)
        if batch is None:
            break
        head += batch
    return head


async def rejoined(head: bytes, stream: AsyncIterator[bytes]) -> AsyncIterator[bytes]:
    """The stream with what `first` took from it."""
    if head:
        yield head
    async for batch in stream:
        yield batch
