"""Coalescing within a process: one fill a key, a task of its own that no reader drives, and any number of readers that follow it, each at its own pace."""

import asyncio
from collections.abc import AsyncGenerator, Callable, Coroutine, Iterator
from enum import Enum

from anyio import to_thread

from mediacdn.edge.entries import Entry, Key
from mediacdn.errors import ObjectCorrupt, StorageUnavailable
from mediacdn.model import Admission

PIECE = 262_144
"""Bytes that are handed to a reader at once."""

_INLINE = 1_048_576
"""Bytes up to which joining chunks on the event loop is shorter than the way to a thread; above it the join frees the interpreter."""


class Source(Enum):
    """Where a fill's bytes come from: read here, read by another process while this one waited, or found on disk."""

    ORIGIN = 1
    NEIGHBOUR = 2
    DISK = 3


class Fill:
    """One slice on its way: `length` bytes, kept as `admission` says once they are there. `outdated` says that a copy too old to serve was found."""

    __slots__ = ("_chunks", "_waiting", "admission", "entry", "error", "have", "length", "outdated", "readers", "source", "task")

    def __init__(self, length: int, admission: Admission, outdated: bool = False) -> None:
        self.length = length
        self.admission = admission
        self.outdated = outdated
        self.source = Source.ORIGIN
        self.entry: Entry | None = None
        self.error: Exception | None = None
        self.have = 0
        self.readers = 0
        self.task: asyncio.Task[None] | None = None
        self._chunks: list[bytes] = []
        self._waiting: set[asyncio.Future[None]] = set()

    def add(self, chunk: bytes) -> None:
        """Pass the next bytes on. Raises: ObjectCorrupt when they are more than there should be; nobody sees those."""
        if self.have + len(chunk) > self.length:
            raise ObjectCorrupt("The stored object is longer than was recorded")
        if chunk:
            self._chunks.append(chunk)
            self.have += len(chunk)
            self._wake()

    async def body(self) -> bytes:
        """All bytes in one."""
        if len(self._chunks) == 1:
            return self._chunks[0]
        if self.length <= _INLINE:
            return b"".join(self._chunks)
        return await to_thread.run_sync(b"".join, self._chunks)

    def finish(self, entry: Entry, source: Source) -> None:
        """Hold the whole slice; readers go on in it, and the chunks are let go."""
        self.entry = entry
        self.source = source
        self.have = self.length
        self._chunks = []
        self._wake()

    def fail(self, error: Exception) -> None:
        """Tell every reader, unless the slice is whole."""
        if self.entry is None and self.error is None:
            self.error = error
            self._wake()

    def serves(self, now: float) -> bool:
        """Whether one who comes now may follow it."""
        return self.entry is None or self.entry.usable(now)

    async def reached(self, at: int) -> None:
        """Wait until the byte at this place of the slice is there. Raises: what the fill failed with."""
        while self.error is None and self.have <= at:
            news: asyncio.Future[None] = asyncio.get_running_loop().create_future()
            self._waiting.add(news)
            try:
                await news
            finally:
                self._waiting.discard(news)
        if self.error is not None:
            raise self.error.with_traceback(None)  # or every reader would lengthen the one traceback

    async def read(self, start: int, stop: int) -> AsyncGenerator[bytes | memoryview, None]:
        """The slice's bytes from `start` up to `stop`, as they arrive. Raises: what the fill fails with."""
        index = begin = 0
        while start < stop:
            await self.reached(start)
            if self.entry is not None:
                for piece in pieces(self.entry.body, start, stop):
                    yield piece
                return
            chunk = self._chunks[index]
            end = begin + len(chunk)
            if start < end:
                first, last = start - begin, min(stop, end) - begin
                start = begin + last
                yield chunk if last - first == len(chunk) else memoryview(chunk)[first:last]
            index, begin = index + 1, end

    def _wake(self) -> None:
        for news in self._waiting:
            if not news.done():
                news.set_result(None)


class Fills:
    """The fills of one process by key; at most `limit` of them hold bytes of an origin that no tier has yet, the others wait their turn in `room`."""

    def __init__(self, limit: int) -> None:
        self.room = asyncio.Semaphore(limit)
        self._running: dict[Key, Fill] = {}
        self._tasks: set[asyncio.Task[None]] = set()

    def __len__(self) -> int:
        return len(self._running)

    def get(self, key: Key) -> Fill | None:
        """The fill that is running for a key."""
        return self._running.get(key)

    def start(self, key: Key, fill: Fill, work: Callable[[Key, Fill], Coroutine[None, None, None]]) -> None:
        """Run `work` for a new fill; what it raises is what the readers hear."""
        task = asyncio.create_task(self._run(key, fill, work))
        self._running[key] = fill
        self._tasks.add(task)
        fill.task = task

        def done(ended: asyncio.Task[None]) -> None:
            self._tasks.discard(ended)
            self._forget(key, fill)
            if fill.have < fill.length:  # cancelled, perhaps before it ran at all
                fill.fail(StorageUnavailable("The read was given up"))

        task.add_done_callback(done)

    def leave(self, key: Key, fill: Fill) -> None:
        """A reader goes. A fill that nobody reads any more and no tier will keep is ended."""
        fill.readers -= 1
        if fill.readers == 0 and not fill.admission.tiers and fill.task is not None and not fill.task.done():
            self._forget(key, fill)  # whoever comes now begins anew
            fill.task.cancel()

    def running(self) -> Iterator[tuple[Key, Fill]]:
        yield from self._running.items()

    async def close(self) -> None:
        """Cancel every fill and wait until they have ended."""
        while self._tasks:
            for task in self._tasks:
                task.cancel()
            await asyncio.wait(set(self._tasks))

    async def _run(self, key: Key, fill: Fill, work: Callable[[Key, Fill], Coroutine[None, None, None]]) -> None:
        try:
            await work(key, fill)
        except Exception as error:
            fill.fail(error)
        finally:
            self._forget(key, fill)

    def _forget(self, key: Key, fill: Fill) -> None:
        if self._running.get(key) is fill:
            del self._running[key]


def pieces(body: bytes, start: int, stop: int) -> Iterator[bytes | memoryview]:
    """A body's bytes from `start` up to `stop`, nothing copied."""
    if stop - start == len(body) <= PIECE:
        yield body
        return
    view = memoryview(body)
    for at in range(start, stop, PIECE):
        yield view[at : min(at + PIECE, stop)]
