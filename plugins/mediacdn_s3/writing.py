"""A put: one request for what fits into one part, else parts side by side; whatever goes wrong, the service forgets what it was given."""

import asyncio
import hashlib
from collections.abc import AsyncIterable, Awaitable, Callable, Coroutine
from contextlib import aclosing, suppress
from math import inf
from typing import Any

from anyio import CancelScope, move_on_after

from mediacdn import Clock, MediaError, NotFound, ObjectInfo, StorageUnavailable, TooLarge, again
from mediacdn_s3.body import Body, cut
from mediacdn_s3.calls import Calls, Sent, whole_seconds
from mediacdn_s3.config import LARGEST_PART, MIB, S3Config

MOST_PARTS = 10_000
CLEANING = 10.0
"""Seconds that cleaning up may take when a put has failed; what stays is for the sweep of abandoned uploads."""
TRIES = 4
"""How often a part is sent: its bytes are at hand, and one of hundreds failing must not fail them all."""


class Writing:
    """Puts of one storage. A put holds at most `parts_in_flight` parts and the one that gathers; all puts together send half of the connections' number."""

    def __init__(self, calls: Calls, config: S3Config, clock: Clock) -> None:
        self._calls = calls
        self._clock = clock
        self._part_size = config.part_size
        self._in_flight = config.parts_in_flight
        self._tries = TRIES if config.overwrite else 1  # a condition refuses the second of two equal requests, though the first was granted
        self._room = asyncio.Semaphore(max(1, config.connections // 2))

    async def put(self, key: str, chunks: AsyncIterable[bytes], size: int | None) -> ObjectInfo:
        self._calls.names.of(key)  # a key that cannot be is refused before the stream is touched
        parts: _Parts | None = None
        try:
            async with aclosing(cut(chunks, self._length(size))) as bodies:
                async for body, last in bodies:
                    if last and parts is None:
                        return await self._whole(key, body)
                    if parts is None:
                        upload = await again(lambda: self._calls.begin(key, summed=True))
                        parts = _Parts(self._calls, key, upload, self._room, self._in_flight)
                    await parts.send(body)
            assert parts is not None
            return await self._completed(parts)
        except BaseException:
            if parts is not None:
                await parts.give_up()
            raise

    def _length(self, size: int | None) -> int:
        """How long the parts are; `size` may be wrong, which costs memory or, over 10,000 parts, the put."""
        least = -(-(size or 0) // MOST_PARTS)
        return self._part_size if least <= self._part_size else min(LARGEST_PART, -(-least // MIB) * MIB)

    async def _whole(self, key: str, body: Body) -> ObjectInfo:
        async with self._room:
            etag: str = await again(
                lambda: _settled(self._calls.put(key, body), lambda: body.spent, lambda: self._calls.delete(key)), tries=self._tries
            )
        return ObjectInfo(key, len(body), whole_seconds(self._clock.now()), etag)

    async def _completed(self, parts: "_Parts") -> ObjectInfo:
        sent, size = await parts.all_sent()
        completing = completed(self._calls, parts.key, parts.upload, sent, size, ours=self._clock)
        info: ObjectInfo = await _settled(completing, lambda: True, lambda: self._calls.delete(parts.key))
        if info.size != size:
            await self._calls.delete(parts.key)
            raise StorageUnavailable(f"The storage kept {info.size} of {size} bytes")
        return info


class _Parts:
    """The parts of one put that are on their way or there."""

    def __init__(self, calls: Calls, key: str, upload: str, room: asyncio.Semaphore, in_flight: int) -> None:
        self.key = key
        self.upload = upload
        self._calls = calls
        self._room = room
        self._in_flight = in_flight
        self._sending: set[asyncio.Task[Sent]] = set()
        self._sent: list[Sent] = []
        self._count = 0
        self._size = 0

    async def send(self, body: Body) -> None:
        """Send the next part beside others; wait while as many as may be are on their way. Raises: what one of them raised."""
        self._count += 1
        self._size += len(body)
        if self._count > MOST_PARTS:
            raise TooLarge("The object would have more parts than S3 allows; declare its size, or make storage.NAME.part_size larger")
        self._collect({task for task in self._sending if task.done()})
        while len(self._sending) >= self._in_flight:
            self._collect((await asyncio.wait(self._sending, return_when=asyncio.FIRST_COMPLETED))[0])
        self._sending.add(asyncio.create_task(self._part(self._count, body)))

    async def all_sent(self) -> tuple[list[Sent], int]:
        """Give the parts in their order, and the bytes in all."""
        while self._sending:
            self._collect((await asyncio.wait(self._sending, return_when=asyncio.FIRST_COMPLETED))[0])
        return sorted(self._sent, key=lambda part: part.number), self._size

    async def give_up(self) -> None:
        """End what is on its way and have the service forget the rest, whatever cancels the caller meanwhile."""
        for task in self._sending:
            task.cancel()
        with CancelScope(shield=True), move_on_after(CLEANING):
            if self._sending:
                await asyncio.wait(self._sending)
            for task in self._sending:
                if not task.cancelled():
                    task.exception()  # looked at, or it would be told as never retrieved
            with suppress(MediaError):
                await again(lambda: self._calls.abort(self.key, self.upload))

    async def _part(self, number: int, body: Body) -> Sent:
        async with self._room:  # however long it took to fail, it is sent again: on a slow line that is long
            return await again(lambda: self._calls.part(self.key, self.upload, number, body, summed=True), tries=TRIES, patience=inf)

    def _collect(self, done: set[asyncio.Task[Sent]]) -> None:
        self._sending -= done
        failed = [error for task in done if (error := task.exception()) is not None]
        if failed:
            raise failed[0]
        self._sent += [task.result() for task in done]


async def completed(calls: Calls, key: str, upload: str, sent: list[Sent], size: int | None, *, ours: Clock | None = None) -> ObjectInfo:
    """Complete an upload of parts. One that is unknown by now was completed when the object at the key is what its parts make: an answer was lost.

    `ours` is the clock of a put, which may have a condition. It does not ask after the object when the service names it by these very parts: there are services
    that read all of it to answer that.
    Raises: NotFound for an unknown upload, Conflict, StorageUnavailable.
    """
    try:
        etag = await again(lambda: calls.complete(key, upload, sent, ours=ours is not None))
    except NotFound:
        info = await calls.head(key)
        if info.etag != joined([each.etag for each in sent]) and (size is None or info.size != size or not _of_parts(info.etag, len(sent))):
            raise
        return info
    if ours is not None and size is not None and etag and etag == joined([each.etag for each in sent]):
        return ObjectInfo(key, size, whole_seconds(ours.now()), etag)
    return await again(lambda: calls.head(key))


def joined(etags: list[str]) -> str:
    """The ETag that Amazon gives an object of parts: the MD5 of their MD5s, and how many; "" where theirs are no MD5s."""
    try:
        digests = b"".join(bytes.fromhex(each) for each in etags)
    except ValueError:
        return ""
    return f"{hashlib.md5(digests, usedforsecurity=False).hexdigest()}-{len(etags)}"


def _of_parts(etag: str, count: int) -> bool:
    return etag.rpartition("-")[2] == str(count) or "-" not in etag


async def _settled(call: Coroutine[Any, Any, Any], begun: Callable[[], bool], undo: Callable[[], Awaitable[None]]) -> Any:
    """Await what makes an object visible. When the caller is cancelled, it is ended as long as the service cannot have it all; else its outcome is waited for,
    and what it made is taken back."""
    task = asyncio.ensure_future(call)
    try:
        return await asyncio.shield(task)
    except asyncio.CancelledError:
        if not begun():
            task.cancel()
        with CancelScope(shield=True), move_on_after(CLEANING) as limit:
            await asyncio.wait([task])
            if not task.cancelled() and task.exception() is None:
                with suppress(MediaError):
                    await again(undo)
        if limit.cancelled_caught:
            task.cancel()
        raise
