"""A storage in memory, for tests of what stands above the seam: as atomic as a real one, as durable as the process."""

import itertools
import re
from collections.abc import AsyncIterable, AsyncIterator
from contextlib import asynccontextmanager
from datetime import UTC, datetime

from anyio.lowlevel import checkpoint

from mediacdn.errors import InvalidParameter, NotFound, ObjectCorrupt, StorageFull
from mediacdn.model import ByteRange, ObjectInfo

_KEY = re.compile(r"(?!\.{1,2}(?:/|\Z))[A-Za-z0-9._-]+(?:/(?!\.{1,2}(?:/|\Z))[A-Za-z0-9._-]+)*")
_LONGEST_KEY = 512
_CHUNK = 256 * 1024


class MemoryStorage:
    """Objects as bytes. `capacity` is how many bytes it takes in all; it has the Room power, and no LocalPaths."""

    def __init__(self, capacity: int = 1 << 40) -> None:
        self.capacity = capacity
        self._objects: dict[str, tuple[ObjectInfo, bytes]] = {}
        self._versions = itertools.count(1)

    async def head(self, key: str) -> ObjectInfo:
        return self._get(key)[0]

    @asynccontextmanager
    async def open(self, key: str, span: ByteRange | None = None) -> AsyncIterator[AsyncIterator[bytes]]:
        info, content = self._get(key)
        yield _chunks(content, span or ByteRange(0, info.size))

    async def put(self, key: str, chunks: AsyncIterable[bytes], *, size: int | None = None) -> ObjectInfo:
        check_key(key)
        if await self.free() < (size or 0):
            raise StorageFull()
        content = bytearray()
        async for chunk in chunks:
            content += chunk
            if len(content) > await self.free():
                raise StorageFull()
        info = ObjectInfo(key, len(content), datetime.now(UTC), f"v{next(self._versions)}")
        self._objects[key] = (info, bytes(content))
        return info

    async def delete(self, key: str) -> None:
        check_key(key)
        self._objects.pop(key, None)

    async def list(self, prefix: str = "") -> AsyncIterator[ObjectInfo]:
        for info, _ in tuple(self._objects.values()):
            if info.key.startswith(prefix):
                yield info

    async def free(self) -> int:
        return max(0, self.capacity - sum(info.size for info, _ in self._objects.values()))

    def _get(self, key: str) -> tuple[ObjectInfo, bytes]:
        check_key(key)
        try:
            return self._objects[key]
        except KeyError:
            raise NotFound("The storage holds no object at this key") from None


def check_key(key: str) -> None:
    """Raises: InvalidParameter."""
    if len(key) > _LONGEST_KEY or not _KEY.fullmatch(key):
        raise InvalidParameter("The storage key is malformed")


async def _chunks(content: bytes, span: ByteRange) -> AsyncIterator[bytes]:
    for at in range(span.start, span.stop, _CHUNK):
        await checkpoint()
        chunk = content[at : min(at + _CHUNK, span.stop)]
        if not chunk:
            raise ObjectCorrupt("The stored object is shorter than it was")
        yield chunk
