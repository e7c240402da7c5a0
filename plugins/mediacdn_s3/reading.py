"""A read: one request, and for a large one further parts side by side, all of the version that the first answer named."""

import asyncio
import re
from collections import deque
from collections.abc import AsyncIterator
from typing import Any

from anyio import CancelScope

from mediacdn import ByteRange, Conflict, MediaError, ObjectCorrupt, StorageUnavailable
from mediacdn_s3.calls import Calls, unquoted
from mediacdn_s3.config import S3Config
from mediacdn_s3.faults import Faults, OutOfRange

CHUNK = 256 * 1024
SKIPPED = 16 << 20
"""Bytes that are read and dropped where a service ignores ranges; before a later start it is given up."""
_CONTENT_RANGE = re.compile(r"bytes (\d+)-(\d+)/(\d+|\*)")


class ReadAhead:
    """What all reads of a storage share: how many bytes may wait in memory for readers that have not come to them yet."""

    def __init__(self, config: S3Config) -> None:
        self.part = config.part_size
        self.beside = config.parallel_reads - 1
        self._left = config.read_ahead

    def take(self, size: int) -> bool:
        if size > self._left:
            return False
        self._left -= size
        return True

    def give_back(self, size: int) -> None:
        self._left += size


class Reading(AsyncIterator[bytes]):
    """The chunks of one read. `enter` asks for the first part and knows then whether there is anything; `leave` ends whatever is on its way."""

    def __init__(self, calls: Calls, faults: Faults, ahead: ReadAhead, key: str, span: ByteRange | None) -> None:
        self._calls = calls
        self._faults = faults
        self._ahead = ahead
        self._key = key
        self._span = span
        self._etag: str | None = None
        self._open: _Stream | None = None
        self._rest = ByteRange(0, 0)
        self._parts: deque[tuple[asyncio.Task[list[bytes]], int]] = deque()
        self._ready: deque[bytes] = deque()
        self._held = 0
        self._begun = False
        self._short = False

    async def enter(self) -> None:
        """Raises: NotFound, StorageUnavailable."""
        span = self._span
        if span is not None and not span.length:
            await self._calls.head(self._key)
            return
        start, stop = (0, None) if span is None else (span.start, span.stop)
        first = self._ahead.part if self._ahead.beside and (stop is None or stop - start > 2 * self._ahead.part) else None
        try:
            if first is None:
                self._open = await self._stream(start, stop)
            else:
                self._open = await self._stream(start, start + first)
                # Of an object that is no longer than the first part, this was all.
                self._rest = ByteRange(self._open.stop, self._open.total if stop is None else stop)
                if self._rest.length and self._etag is None:  # further requests could not be held to this version
                    self._open.close()
                    self._open, self._rest = await self._stream(start, stop), ByteRange(0, 0)
        except OutOfRange:
            if span is None:
                self._open = await self._stream(0, None)  # an empty object has no range
            else:
                self._short = True  # damage shows while reading

    async def __anext__(self) -> bytes:
        if self._short:
            raise ObjectCorrupt("The stored object is shorter than it was")
        while True:
            if self._begun and self._rest.length:
                self._look_ahead()  # only once the first chunk is out: it is what somebody waits for
            if self._ready:
                return self._ready.popleft()
            self._drop()
            if self._open is not None:
                chunk = await self._open.read()
                if chunk:
                    self._begun = True
                    return chunk
                self._open = None
            elif self._parts:
                task, size = self._parts[0]
                ready = await task
                self._parts.popleft()
                self._ready.extend(ready)
                self._held = size
            elif self._rest.length:  # nothing may wait in memory: one after the other
                part = self._next_part()
                self._open = await self._stream(part.start, part.stop)
            else:
                raise StopAsyncIteration

    async def leave(self) -> None:
        if self._open is not None:
            self._open.close()
        self._ready.clear()
        self._drop()
        tasks = [task for task, _ in self._parts]
        for task in tasks:
            task.cancel()
        if tasks:
            with CancelScope(shield=True):
                await asyncio.wait(tasks)
        for task, size in self._parts:
            self._ahead.give_back(size)
            if not task.cancelled():
                task.exception()
        self._parts.clear()

    def _look_ahead(self) -> None:
        while len(self._parts) < self._ahead.beside and self._rest.length:
            size = min(self._ahead.part, self._rest.length)
            if not self._ahead.take(size):
                return
            self._parts.append((asyncio.create_task(self._whole(self._next_part())), size))

    def _next_part(self) -> ByteRange:
        part = ByteRange(self._rest.start, min(self._rest.start + self._ahead.part, self._rest.stop))
        self._rest = ByteRange(part.stop, self._rest.stop)
        return part

    def _drop(self) -> None:
        """The part whose chunks were all given waits no more."""
        if self._held and not self._ready:
            self._ahead.give_back(self._held)
            self._held = 0

    async def _whole(self, part: ByteRange) -> list[bytes]:
        stream = await self._stream(part.start, part.stop)
        chunks = []
        try:
            while chunk := await stream.read():
                chunks.append(chunk)
        finally:
            stream.close()
        return chunks

    async def _stream(self, start: int, stop: int | None) -> "_Stream":
        try:
            answer = await self._calls.get(self._key, None if stop is None else ByteRange(start, stop), self._etag)
        except Conflict as error:
            raise StorageUnavailable("The object was replaced while it was read") from error
        stream = _Stream(answer, self._faults)
        try:
            etag = unquoted(answer.get("ETag"))
            if self._etag is not None and etag != self._etag:
                raise StorageUnavailable("The object was replaced while it was read")
            stream.expect(start, stop, whole=self._span is None)
        except MediaError:
            stream.close()
            raise
        self._etag = etag or None
        return stream


class _Stream:
    """The body of one answer: exactly the bytes from `start` to `stop`, or an error."""

    def __init__(self, answer: Any, faults: Faults) -> None:
        self._body = answer["Body"]
        self._faults = faults
        self._length = answer.get("ContentLength")
        self._range = _CONTENT_RANGE.fullmatch(answer.get("ContentRange") or "")
        self._status = answer["ResponseMetadata"]["HTTPStatusCode"]
        self._skip = 0
        self._left = 0
        self.stop = 0
        self.total = 0

    def expect(self, start: int, stop: int | None, *, whole: bool) -> None:
        """Hold what is announced against what was asked; with `whole` the object may end before `stop`. Raises: StorageUnavailable."""
        if self._length is None:
            raise StorageUnavailable("The storage does not say how long its answer is")
        if self._range is not None:  # with 206, and with 200 too: some services say the range and not the status
            first, last = int(self._range[1]), int(self._range[2])
            self.stop = last + 1
            self.total = self.stop if self._range[3] == "*" else int(self._range[3])
            wrong = first != start or self._length != self.stop - first
        else:
            self.stop = self.total = self._length
            self._skip = start
            wrong = self._status == 206 or start > SKIPPED
        if stop is not None and self._range is None and self.stop > stop:
            self.stop = stop  # the range was ignored: what lies after it is dropped with the connection
        short = stop is not None and self.stop != stop and not (whole and self.stop == self.total)
        if wrong or short:
            raise StorageUnavailable("The storage answers with another range than it was asked for")
        self._left = self.stop - start

    async def read(self) -> bytes:
        """The next chunk, empty at the end. Raises: StorageUnavailable, when it ends early."""
        with self._faults.of("GetObject"):
            while self._left:
                chunk: bytes = await self._body.read(CHUNK)
                if not chunk:
                    raise StorageUnavailable("The storage sent less than it announced")
                if self._skip:
                    dropped = min(self._skip, len(chunk))
                    self._skip -= dropped
                    chunk = chunk[dropped:]
                chunk = chunk[: self._left]
                self._left -= len(chunk)
                if chunk:
                    if not self._left:
                        await self._finish()
                    return chunk
        return b""

    async def _finish(self) -> None:
        """Read to the end where that was it, so that the connection can be used again; else give it up."""
        if not self._body._raw_stream.content.at_eof():
            self.close()

    def close(self) -> None:
        self._body.close()
