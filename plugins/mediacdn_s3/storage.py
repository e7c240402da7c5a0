"""The driver's face to the core: the five verbs, and the powers MultipartUpload and Presigner."""

from collections.abc import AsyncIterable, AsyncIterator, Sequence
from contextlib import asynccontextmanager
from datetime import timedelta
from math import inf
from typing import Any

from mediacdn import ByteRange, Conflict, InvalidParameter, Kit, NotFound, ObjectInfo, Part, PartsBegun, TooLarge, again
from mediacdn_s3.body import Body
from mediacdn_s3.calls import Calls, Sent
from mediacdn_s3.config import LEAST_PART, MIB, S3Config
from mediacdn_s3.faults import Faults
from mediacdn_s3.presigning import Presigning
from mediacdn_s3.reading import ReadAhead, Reading
from mediacdn_s3.writing import MOST_PARTS, TRIES, Writing, completed

HELD_PART = 64 * MIB
"""The largest part that is taken from a stream: it is held in memory until the service has it, so that it can be sent again."""


class S3Storage:
    """Objects in a bucket. `open_s3` opens it; `page` is how many entries a listing asks for at a time."""

    def __init__(self, client: Any, signer: Any, config: S3Config, kit: Kit, *, page: int = 1000) -> None:
        faults = Faults(kit.logger)
        self._faults = faults
        self._calls = Calls(client, config, faults, page)
        self._writing = Writing(self._calls, config, kit.clock)
        self._ahead = ReadAhead(config)
        self._presigning = Presigning(signer, config.bucket, self._calls.names, faults)
        self._largest = max(HELD_PART, config.part_size)

    async def head(self, key: str) -> ObjectInfo:
        return await self._calls.head(key)

    @asynccontextmanager
    async def open(self, key: str, span: ByteRange | None = None) -> AsyncIterator[AsyncIterator[bytes]]:
        reading = Reading(self._calls, self._faults, self._ahead, key, span)
        try:
            await reading.enter()
            yield reading
        finally:
            await reading.leave()

    async def put(self, key: str, chunks: AsyncIterable[bytes], *, size: int | None = None) -> ObjectInfo:
        return await self._writing.put(key, chunks, size)

    async def delete(self, key: str) -> None:
        await self._calls.delete(key)

    async def list(self, prefix: str = "") -> AsyncIterator[ObjectInfo]:
        async for info in self._calls.list(prefix):
            yield info

    # MultipartUpload

    @property
    def part_sizes(self) -> tuple[int, int, int]:
        return LEAST_PART, self._largest, MOST_PARTS

    async def begin_parts(self, key: str) -> str:
        return await self._calls.begin(key, summed=False)

    async def put_part(self, key: str, upload: str, number: int, chunks: AsyncIterable[bytes], *, size: int) -> str:
        self._calls.names.of(key)
        if size > self._largest:
            raise TooLarge(f"A part is at most {self._largest} bytes")
        if not 1 <= number <= MOST_PARTS:
            raise InvalidParameter(f"Parts have numbers from 1 to {MOST_PARTS}")
        body = Body()
        async for chunk in chunks:
            body.add(chunk)
            if len(body) > size:
                break
        if len(body) != size:
            raise InvalidParameter("The part has another size than was said")
        sent = await again(lambda: self._calls.part(key, upload, number, body, summed=False), tries=TRIES, patience=inf)
        return sent.etag

    async def list_parts(self, key: str, upload: str) -> Sequence[Part]:
        return await self._calls.list_parts(key, upload)

    async def complete_parts(self, key: str, upload: str, parts: Sequence[Part]) -> ObjectInfo:
        try:
            there = {part.number: part for part in await again(lambda: self._calls.list_parts(key, upload))}
        except NotFound:
            there = {part.number: part for part in parts}  # perhaps it was completed before, and the answer was lost
        missing = [part.number for part in parts if part.number not in there or there[part.number].tag != part.tag]
        if missing:  # asked first, because some services throw an upload away when its completion fails
            raise Conflict(f"The storage does not have these parts: {', '.join(map(str, missing))}")
        sizes = [there[part.number].size for part in parts]
        sent = [Sent(part.number, part.tag) for part in parts]
        return await completed(self._calls, key, upload, sent, sum(sizes) if all(sizes) else None)

    async def abort_parts(self, key: str, upload: str) -> None:
        await self._calls.abort(key, upload)

    async def list_uploads(self, prefix: str = "") -> AsyncIterator[PartsBegun]:
        async for begun in self._calls.list_uploads(prefix):
            yield begun

    # Presigner

    async def presign_get(self, key: str, expires: timedelta, *, media_type: str, disposition: str) -> str:
        return await self._presigning.get(key, expires, media_type, disposition)

    async def presign_put(self, key: str, expires: timedelta, *, size: int | None = None, media_type: str | None = None) -> str:
        return await self._presigning.put(key, expires, size, media_type)

    async def presign_part(self, key: str, upload: str, number: int, expires: timedelta, *, size: int | None = None) -> str:
        return await self._presigning.part(key, upload, number, expires, size)
