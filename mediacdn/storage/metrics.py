"""A storage that is counted: how long the inner one lets its callers wait, how each call ended, and how many bytes went in and out.

    mediacdn_storage_seconds{storage, operation, outcome}   histogram of the time spent waiting for the storage, seconds
    mediacdn_storage_bytes_total{storage, direction}         counter of bytes put ("in") and read ("out")

`operation` is head, open (until it is entered), read (all waits for its chunks, without the consumer's own time), put, delete, list (likewise), open_file or
free. `outcome` is "ok", an error's code (not_found, storage_unavailable, …), "cancelled", or "error" for anything else; a read or list that its consumer
leaves early is "ok".
"""

import asyncio
import time
from collections.abc import AsyncGenerator, AsyncIterable, AsyncIterator, Iterator
from contextlib import AsyncExitStack, aclosing, asynccontextmanager, contextmanager
from typing import TypeVar, cast

from prometheus_client import CollectorRegistry, Counter, Histogram

from mediacdn.errors import MediaError
from mediacdn.interfaces import LocalPaths, Room, Storage
from mediacdn.model import ByteRange, ObjectInfo
from mediacdn.storage.powers import pass_on

T = TypeVar("T")

_BUCKETS = (0.0005, 0.001, 0.0025, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1.0, 2.5, 5.0, 10.0, 30.0, 60.0, 300.0)


class StorageMetrics:
    """The instruments, once a registry; `around` wraps each storage with them."""

    def __init__(self, registry: CollectorRegistry) -> None:
        self.seconds = Histogram(
            "mediacdn_storage_seconds",
            "Time spent waiting for a storage",
            ("storage", "operation", "outcome"),
            buckets=_BUCKETS,
            registry=registry,
        )
        self.bytes = Counter(
            "mediacdn_storage_bytes", "Bytes put into and read from a storage", ("storage", "direction"), registry=registry
        )

    def around(self, inner: Storage, name: str) -> "Measured":
        """Wrap `inner`, counting it as `name`, its name in the configuration."""
        return Measured(inner, name, self)


class Measured:
    """The counted storage; bytes of files sent through LocalPaths are not seen here."""

    def __init__(self, inner: Storage, name: str, metrics: StorageMetrics) -> None:
        self._inner = inner
        self._name = name
        self._metrics = metrics
        self._in = metrics.bytes.labels(name, "in")
        self._out = metrics.bytes.labels(name, "out")
        pass_on(self, inner)
        # On the instance, like powers.pass_on, but timed.
        if isinstance(inner, LocalPaths):
            vars(self)["open_file"] = self._open_file
        if isinstance(inner, Room):
            vars(self)["free"] = self._free

    async def head(self, key: str) -> ObjectInfo:
        with self._timed("head"):
            return await self._inner.head(key)

    @asynccontextmanager
    async def open(self, key: str, span: ByteRange | None = None) -> AsyncIterator[AsyncIterator[bytes]]:
        async with AsyncExitStack() as stack:
            with self._timed("open"):
                chunks = await stack.enter_async_context(self._inner.open(key, span))
            reading = _Waits(chunks)
            try:
                async with aclosing(self._counted(reading)) as counted:
                    yield counted
            finally:
                self._observe("read", reading.outcome, reading.seconds)

    async def put(self, key: str, chunks: AsyncIterable[bytes], *, size: int | None = None) -> ObjectInfo:
        with self._timed("put"):
            info = await self._inner.put(key, chunks, size=size)
        self._in.inc(info.size)
        return info

    async def delete(self, key: str) -> None:
        with self._timed("delete"):
            await self._inner.delete(key)

    async def list(self, prefix: str = "") -> AsyncIterator[ObjectInfo]:
        listing = _Waits(self._inner.list(prefix))
        try:
            async for info in listing:
                yield info
        finally:
            self._observe("list", listing.outcome, listing.seconds)

    def _open_file(self, key: str) -> int:
        with self._timed("open_file"):
            return cast(LocalPaths, self._inner).open_file(key)

    async def _free(self) -> int:
        with self._timed("free"):
            return await cast(Room, self._inner).free()

    async def _counted(self, chunks: AsyncIterator[bytes]) -> AsyncGenerator[bytes, None]:
        async for chunk in chunks:
            self._out.inc(len(chunk))
            yield chunk

    @contextmanager
    def _timed(self, operation: str) -> Iterator[None]:
        began = time.perf_counter()
        outcome = "ok"
        try:
            yield
        except BaseException as error:
            outcome = _outcome(error)
            raise
        finally:
            self._observe(operation, outcome, time.perf_counter() - began)

    def _observe(self, operation: str, outcome: str, seconds: float) -> None:
        self._metrics.seconds.labels(self._name, operation, outcome).observe(seconds)


class _Waits(AsyncIterator[T]):
    """An iterator that sums how long its inner one makes the consumer wait, and remembers how it ended."""

    def __init__(self, inner: AsyncIterator[T]) -> None:
        self._inner = inner
        self.seconds = 0.0
        self.outcome = "ok"

    async def __anext__(self) -> T:
        began = time.perf_counter()
        try:
            return await anext(self._inner)
        except StopAsyncIteration:
            raise
        except BaseException as error:
            self.outcome = _outcome(error)
            raise
        finally:
            self.seconds += time.perf_counter() - began


def _outcome(error: BaseException) -> str:
    if isinstance(error, MediaError):
        return error.code
    return "cancelled" if isinstance(error, asyncio.CancelledError) else "error"
