"""Staging in a storage that takes parts: they stream through, and what is less than a part is kept as a small object beside them until more comes.

No part's number and no such object's key is ever used by two writers, so that what a former one still sends harms nothing: only what the catalog names
is put together at the end.
"""

import asyncio
from collections import deque
from collections.abc import AsyncIterator, Mapping, Sequence
from contextlib import suppress
from typing import Any, cast

from mediacdn.catalog.objects import ObjectRows
from mediacdn.catalog.uploads import IN_FLIGHT, Step, UploadRows
from mediacdn.errors import Conflict, MediaError, NotFound, UploadGone
from mediacdn.interfaces import MultipartUpload, Storage
from mediacdn.metering import BATCH
from mediacdn.model import ByteRange, ObjectInfo, Part, Piece, Upload
from mediacdn.sniff import HEAD

_LOST = "The storage has lost bytes of this upload; send them again"


def part_size(storage: MultipartUpload, wished: int, largest: int) -> int:
    """The bytes of a part: as wished, unless the storage or its number of parts forbids it. Numbers that are passed over have their room."""
    least, most, count = storage.part_sizes
    return min(max(wished, least, -(-largest // (count * 3 // 4))), most)


class Parts:
    """Parts of the storages that take them; an upload's row tells which."""

    def __init__(self, rows: UploadRows, objects: ObjectRows, storages: Mapping[str, Storage]) -> None:
        self._rows = rows
        self._objects = objects
        self._storages = storages

    async def open(self, upload: Upload, *, fresh: bool) -> "PartsPen":
        storage = self._storages[upload.storage]
        held: list[bytes] = []
        if upload.tail:
            held = [chunk async for chunk in _read(storage, upload.tail, upload.tail_size)]
        return PartsPen(storage, upload, held)

    async def whole(self, upload: Upload, digest: str | None) -> "WholeParts":
        return WholeParts(self._storages[upload.storage], upload, await self._rows.pieces(upload.id), digest)

    async def drop(self, upload: Upload) -> None:
        storage = self._storages[upload.storage]
        if upload.parts:
            await cast(MultipartUpload, storage).abort_parts(upload.key, upload.parts)
        async for found in storage.list(f"uploads/{upload.id}."):
            await storage.delete(found.key)
        if upload.key and not await self._objects.lives(upload.storage, upload.key):
            await storage.delete(upload.key)


class PartsPen:
    """A writer of parts: a part is gathered, then on its way, then noted; `held` is what the writer before it left less than a part."""

    def __init__(self, storage: Storage, upload: Upload, held: Sequence[bytes]) -> None:
        self._storage = storage
        self._upload = upload
        self._gathered = list(held)
        self._size = sum(map(len, held))
        self._number = upload.next_number
        self._noted = upload.received - self._size
        """Bytes in parts that have arrived at the storage."""
        self._flying: deque[tuple[Piece, asyncio.Task[str]]] = deque()
        self._begins = self._noted

    async def write(self, batch: bytes) -> bool:
        self._gathered.append(batch)
        self._size += len(batch)
        while self._size >= self._upload.part_size:
            whole = b"".join(self._gathered)
            part, rest = whole[: self._upload.part_size], whole[self._upload.part_size :]
            self._gathered, self._size = [rest] if rest else [], len(rest)
            self._send(part)
        # Numbers that no Step has told of are IN_FLIGHT at most: whoever takes the upload away passes over no more.
        return len(self._flying) >= IN_FLIGHT

    def _send(self, part: bytes) -> None:
        piece = Piece(self._number, self._begins, len(part))
        self._number += 1
        self._begins += len(part)
        sent = cast(MultipartUpload, self._storage).put_part(
            self._upload.key, self._upload.parts, piece.number, _once(part), size=len(part)
        )
        self._flying.append((piece, asyncio.create_task(_tag(sent))))

    async def _land(self) -> Piece:
        piece, task = self._flying[0]
        try:
            tag = await asyncio.shield(task)
        except NotFound as error:
            raise UploadGone(_LOST) from error
        self._flying.popleft()
        self._noted = piece.start + piece.size
        return Piece(piece.number, piece.start, piece.size, tag)

    async def settle(self, *, last: bool) -> Step | None:
        arrived: list[Piece] = []
        while self._flying and (last or self._flying[0][1].done() or len(self._flying) >= IN_FLIGHT):
            arrived.append(await self._land())
        number = arrived[-1].number + 1 if arrived else None
        if not last:  # a part that arrived has what was left before it in it
            return Step(received=self._noted, pieces=arrived, next_number=number, tail=("", 0)) if arrived else None
        tail = b"".join(self._gathered)
        name = f"uploads/{self._upload.id}.{self._upload.fence}" if tail else ""
        if tail:
            await self._storage.put(name, _once(tail), size=len(tail))
        return Step(received=self._noted + len(tail), pieces=arrived, next_number=number, tail=(name, len(tail)), last=True)

    async def close(self, *, undo: bool) -> None:
        for _, task in self._flying:
            task.cancel()
        for _, task in self._flying:
            with suppress(asyncio.CancelledError, MediaError):
                await task
        self._flying.clear()
        if not undo and self._upload.tail:
            with suppress(MediaError):  # the writer that comes after does not read it any more; the end removes it
                await self._storage.delete(self._upload.tail)


class WholeParts:
    """The parts and the tail of a complete upload."""

    def __init__(self, storage: Storage, upload: Upload, pieces: Sequence[Piece], digest: str | None) -> None:
        self._storage = storage
        self._upload = upload
        self._pieces = pieces
        self.size = upload.received
        self.digest = digest

    async def head(self) -> bytes:
        info = await self._sealed()
        async with self._storage.open(self._upload.key, ByteRange(0, min(HEAD, info.size))) as chunks:
            return b"".join([chunk async for chunk in chunks])

    def chunks(self) -> AsyncIterator[bytes]:
        return _read(self._storage, self._upload.key, self.size)

    async def become(self, storage: str, key: str) -> ObjectInfo | None:
        return await self._sealed() if (storage, key) == (self._upload.storage, self._upload.key) else None

    async def _sealed(self) -> ObjectInfo:
        """Put the parts together, unless an earlier try came as far."""
        upload = self._upload
        with suppress(NotFound):
            return await self._storage.head(upload.key)
        if not upload.parts or not self._pieces:
            return await self._storage.put(upload.key, self._tail(), size=upload.tail_size)
        taker = cast(MultipartUpload, self._storage)
        parts = [Part(piece.number, piece.mark, piece.size) for piece in sorted(self._pieces, key=lambda piece: piece.number)]
        try:
            if upload.tail:
                # Whoever wrote last has let go of what it sent: the number is nobody's, and leaves no gap, which some services refuse.
                number = upload.next_number
                parts.append(Part(number, await taker.put_part(upload.key, upload.parts, number, self._tail(), size=upload.tail_size)))
            return await taker.complete_parts(upload.key, upload.parts, parts)
        except Conflict as error:
            raise UploadGone(_LOST) from error
        except NotFound as error:
            with suppress(NotFound):
                return await self._storage.head(upload.key)
            raise UploadGone(_LOST) from error

    def _tail(self) -> AsyncIterator[bytes]:
        return _read(self._storage, self._upload.tail, self._upload.tail_size)


async def _read(storage: Storage, key: str, size: int) -> AsyncIterator[bytes]:
    if not size:
        return
    try:
        async with storage.open(key) as chunks:
            async for chunk in chunks:
                yield chunk
    except NotFound as error:
        raise UploadGone(_LOST) from error


async def _once(content: bytes) -> AsyncIterator[bytes]:
    for at in range(0, len(content), BATCH):
        yield content[at : at + BATCH]


async def _tag(sent: Any) -> str:
    tag: str = await sent
    return tag
