"""Objects from one storage to another in one pass: read, counted, hashed and written at once, and nothing kept unless the bytes are the ones that were promised."""

import hashlib
import time
from collections.abc import AsyncGenerator, AsyncIterator, Awaitable, Callable
from contextlib import aclosing

import anyio
from anyio import to_thread
from msgspec import Struct

from mediacdn.errors import ObjectCorrupt
from mediacdn.interfaces import Storage
from mediacdn.model import ObjectInfo

_INLINE = 32 * 1024


class Promise(Struct, frozen=True):
    """What an object must be: `size` bytes with the lower-case hexadecimal SHA-256 `digest`; None where nobody can say yet."""

    size: int | None
    digest: str | None


class Throttle:
    """At most `rate` bytes a second over time, 0 for no limit; shared by all who take from it."""

    def __init__(self, rate: float = 0.0) -> None:
        self._rate = rate
        self._free_at = 0.0

    async def take(self, size: int) -> None:
        """Wait until so many bytes may go."""
        if self._rate <= 0:
            return
        now = time.monotonic()
        begin = max(now, self._free_at)
        self._free_at = begin + size / self._rate
        if begin > now:
            await anyio.sleep(begin - now)


class Measure:
    """Counts and hashes what passes, off the event loop where that is worth it."""

    def __init__(self) -> None:
        self.size = 0
        self._sha256 = hashlib.sha256()

    async def feed(self, chunk: bytes) -> None:
        self.size += len(chunk)
        if len(chunk) > _INLINE:
            await to_thread.run_sync(self._sha256.update, chunk)
        else:
            self._sha256.update(chunk)

    def check(self, promise: Promise) -> None:
        """Raises: ObjectCorrupt, when this is not what was promised."""
        if promise.size is not None and self.size != promise.size:
            raise ObjectCorrupt(f"The object has {self.size} bytes where {promise.size} were recorded")
        if promise.digest is not None and self.digest != promise.digest:
            raise ObjectCorrupt("The stored bytes do not have their digest")

    @property
    def digest(self) -> str:
        return self._sha256.hexdigest()


async def transfer(
    source: Storage,
    key: str,
    target: Storage,
    to: str,
    promise: Promise,
    *,
    throttle: Throttle | None = None,
    seen: Callable[[bytes], Awaitable[None]] | None = None,
) -> tuple[ObjectInfo, str]:
    """Copy the object at `key` to the key `to` of the target: give what the target says of it, and its SHA-256. Durable when it returns.

    `seen` is given every chunk before it is written; what it raises ends the copy, as damage does, and nothing is visible at the target then.
    Raises: NotFound, ObjectCorrupt, StorageFull, StorageUnavailable.
    """
    measure = Measure()
    async with source.open(key) as chunks, aclosing(_passing(chunks, measure, promise, throttle, seen)) as passing:
        info = await target.put(to, passing, size=promise.size)
    if info.size != measure.size:
        await target.delete(to)
        raise ObjectCorrupt(f"The storage kept {info.size} of {measure.size} bytes")
    return info, measure.digest


async def prove(storage: Storage, key: str, promise: Promise, *, throttle: Throttle | None = None) -> None:
    """Read an object whole. Raises: ObjectCorrupt, when it is not what was promised; NotFound, StorageUnavailable."""
    measure = Measure()
    async with storage.open(key) as chunks, aclosing(_passing(chunks, measure, promise, throttle, None)) as passing:
        async for _ in passing:
            pass


async def _passing(
    chunks: AsyncIterator[bytes],
    measure: Measure,
    promise: Promise,
    throttle: Throttle | None,
    seen: Callable[[bytes], Awaitable[None]] | None,
) -> AsyncGenerator[bytes, None]:
    async for chunk in chunks:
        if throttle is not None:
            await throttle.take(len(chunk))
        await measure.feed(chunk)
        if seen is not None:
            await seen(chunk)
        yield chunk
    measure.check(promise)  # from within the stream: the target's put then keeps nothing
