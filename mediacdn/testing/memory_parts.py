"""A storage in memory that has the power MultipartUpload too, for tests of what stands above it."""

import hashlib
import itertools
from collections.abc import AsyncIterable, AsyncIterator, Sequence
from datetime import UTC, datetime

from msgspec import Struct

from mediacdn.errors import Conflict, NotFound
from mediacdn.model import ObjectInfo, Part, PartsBegun
from mediacdn.testing.memory import MemoryStorage, check_key


class _Upload(Struct):
    key: str
    begun: datetime
    parts: dict[int, tuple[Part, bytes]] = {}
    made: tuple[tuple[Part, ...], ObjectInfo] | None = None


class MemoryParts(MemoryStorage):
    """`least` is the size in bytes below which a part must be the last."""

    def __init__(self, capacity: int = 1 << 40, *, least: int = 1024) -> None:
        super().__init__(capacity)
        self._least = least
        self._uploads: dict[str, _Upload] = {}
        self._ids = itertools.count(1)

    @property
    def part_sizes(self) -> tuple[int, int, int]:
        return self._least, 1 << 30, 10_000

    async def begin_parts(self, key: str) -> str:
        check_key(key)
        upload = f"u{next(self._ids)}"
        self._uploads[upload] = _Upload(key, datetime.now(UTC))
        return upload

    async def put_part(self, key: str, upload: str, number: int, chunks: AsyncIterable[bytes], *, size: int) -> str:
        check_key(key)
        content = b"".join([chunk async for chunk in chunks])
        tag = hashlib.md5(content, usedforsecurity=False).hexdigest()
        self._begun(key, upload).parts[number] = (Part(number, tag, len(content)), content)
        return tag

    async def list_parts(self, key: str, upload: str) -> Sequence[Part]:
        return [part for _, (part, _) in sorted(self._begun(key, upload).parts.items())]

    async def complete_parts(self, key: str, upload: str, parts: Sequence[Part]) -> ObjectInfo:
        check_key(key)
        begun = self._uploads.get(upload)
        named = tuple(Part(part.number, part.tag) for part in parts)
        if begun is not None and begun.made is not None and begun.made[0] == named:
            return begun.made[1]
        found = self._begun(key, upload).parts
        for part in parts:
            held = found.get(part.number)
            if held is None or held[0].tag != part.tag or (held[0].size < self._least and part is not parts[-1]):
                raise Conflict("A part is missing, too small or another one")

        async def contents() -> AsyncIterator[bytes]:
            for part in parts:
                yield found[part.number][1]

        info = await self.put(key, contents())
        self._uploads[upload].made = named, info
        return info

    async def abort_parts(self, key: str, upload: str) -> None:
        self._uploads.pop(upload, None)

    async def list_uploads(self, prefix: str = "") -> AsyncIterator[PartsBegun]:
        for upload, begun in tuple(self._uploads.items()):
            if begun.made is None and begun.key.startswith(prefix):
                yield PartsBegun(begun.key, upload, begun.begun)

    def _begun(self, key: str, upload: str) -> _Upload:
        begun = self._uploads.get(upload)
        if begun is None or begun.key != key or begun.made is not None:
            raise NotFound("The storage knows no such upload of parts")
        return begun
