"""Staging as files of this machine: each writer that cannot know whether the one before it has stopped begins a file of its own.

So no two ever write to one file, and nobody has to be waited for. The bytes that count are those that the catalog names; what a file has beyond them is junk.
At the end one file is renamed to be the object; several are first joined in the first.
"""

import asyncio
import errno
import os
from collections.abc import AsyncIterator, Callable, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import suppress
from pathlib import Path
from typing import TypeVar

import structlog

from mediacdn.catalog.uploads import Step, UploadRows
from mediacdn.errors import MediaError, NotFound, StorageFull, StorageUnavailable, UploadGone
from mediacdn.interfaces import Adopts, Storage
from mediacdn.model import ObjectInfo, Piece, Upload
from mediacdn.sniff import HEAD
from mediacdn.storage.writeback import start_writeback
from mediacdn.threads import give_way

T = TypeVar("T")

LOST = "The server has lost bytes of this upload; send them again"
CHUNK = 1024 * 1024
RESERVE = 1_000_000_000
"""Bytes that are left free, where this is less than a twentieth of the file system."""
LOOKS_EVERY = 64 * 1024 * 1024
HANDED_EVERY = 8 * 1024 * 1024
"""Bytes after which the disk is given what it has to write anyway, so that no sync finds a heap of it."""
log = structlog.get_logger("mediacdn.uploads")
_FULL = frozenset({errno.ENOSPC, errno.EDQUOT, errno.EFBIG})
_NEW = os.O_RDWR | os.O_CREAT | os.O_TRUNC | os.O_NOFOLLOW | os.O_CLOEXEC
_OLD = os.O_RDWR | os.O_NOFOLLOW | os.O_CLOEXEC


class Files:
    """Files beneath one folder, which every process that serves or ends uploads must share."""

    def __init__(self, folder: Path, rows: UploadRows, storages: Mapping[str, Storage]) -> None:
        self._folder = folder
        self._rows = rows
        self._storages = storages
        self._threads = ThreadPoolExecutor(8, "uploads", give_way)

    def close(self) -> None:
        self._threads.shutdown(wait=False)

    async def open(self, upload: Upload, *, fresh: bool) -> "FilePen":
        pieces = await self._rows.pieces(upload.id)
        piece = pieces[-1] if pieces and not fresh else Piece(upload.fence, upload.received, 0)
        pen = FilePen(self, self.path(upload, piece), piece, upload.received)

        def begin() -> None:
            self.make()
            # All of it: what one node keeps for itself the others must not go on with, to find at the end that they lack it.
            lost = [path.name for path, size in known if _size(path) < size]
            if lost:
                log.warning(
                    "bytes of an upload are not here; nodes with one storage must share uploads.directory",
                    files=lost,
                    folder=str(self._folder),
                )
                raise UploadGone(LOST)
            pen.begin()

        known = [(self.path(upload, each), each.size) for each in pieces if each.size]
        await self.run(begin)
        return pen

    async def whole(self, upload: Upload, digest: str | None) -> "WholeFile":
        pieces = await self._rows.pieces(upload.id) or [Piece(upload.fence, 0, 0)]
        return WholeFile(self, upload, pieces, digest)

    async def drop(self, upload: Upload) -> None:
        def unlink() -> None:
            for path in self._folder.glob(f"{upload.id}.*"):
                path.unlink(missing_ok=True)

        await self.run(unlink)

    def path(self, upload: Upload, piece: Piece) -> Path:
        return self._folder / f"{upload.id}.{piece.number}"

    def storage(self, name: str) -> Storage:
        return self._storages[name]

    async def run(self, call: Callable[[], T]) -> T:
        return await asyncio.shield(self.start(call))

    def start(self, call: Callable[[], T]) -> "asyncio.Future[T]":
        return asyncio.get_running_loop().run_in_executor(self._threads, _translated, call)

    def check_room(self) -> None:
        """Raises: StorageFull."""
        room = os.statvfs(self._folder)
        if room.f_bavail * room.f_frsize < min(RESERVE, room.f_blocks * room.f_frsize // 20):
            raise StorageFull()

    def make(self) -> None:
        """Create the folder, should this be its first file."""
        if not self._folder.is_dir():
            self._folder.mkdir(mode=0o700, parents=True, exist_ok=True)
            _settle_folder(self._folder.parent)

    def settle_folder(self) -> None:
        _settle_folder(self._folder)


class FilePen:
    """A writer's file: `piece` is what of it counts so far."""

    def __init__(self, files: Files, path: Path, piece: Piece, at: int) -> None:
        self._files = files
        self._path = path
        self._piece = piece
        self._at = self._landed = at
        self._looked = at
        self._handed = at
        self._fd = -1
        self._flight: asyncio.Future[int] | None = None

    def begin(self) -> None:
        """Open the file and cut off what was never told of. Raises: OSError."""
        self._files.check_room()
        self._fd = os.open(self._path, _OLD if self._piece.size else _NEW, 0o600)
        os.ftruncate(self._fd, self._piece.size)
        if not self._piece.size:
            self._files.settle_folder()

    async def write(self, batch: bytes) -> bool:
        await self._land()
        at, self._at = self._at - self._piece.start, self._at + len(batch)
        end = self._at

        def put() -> int:
            done = 0
            while done < len(batch):
                done += os.pwrite(self._fd, batch[done:] if done else batch, at + done)
            if end - self._handed >= HANDED_EVERY:
                start_writeback(self._fd, self._handed - self._piece.start, end - self._handed)
                self._handed = end
            return end

        if self._at - self._looked > LOOKS_EVERY:
            self._looked = self._at
            await self._files.run(self._files.check_room)
        self._flight = self._files.start(put)
        return False

    async def settle(self, *, last: bool) -> Step | None:
        if last:
            await self._land()
        at = self._landed  # what is being written meanwhile may be on the disk after this, and is not counted
        await self._files.run(lambda: os.fdatasync(self._fd))
        piece = Piece(self._piece.number, self._piece.start, at - self._piece.start)
        return Step(received=at, pieces=[piece] if piece.size else (), last=last)

    async def close(self, *, undo: bool) -> None:
        fd, self._fd = self._fd, -1
        with suppress(MediaError):
            await self._land()
        if fd >= 0:
            with suppress(MediaError):
                await self._files.run(lambda: os.close(fd))

    async def _land(self) -> None:
        if self._flight is not None:
            self._landed = await asyncio.shield(self._flight)


class WholeFile:
    """The pieces of a complete upload as one."""

    def __init__(self, files: Files, upload: Upload, pieces: Sequence[Piece], digest: str | None) -> None:
        self._files = files
        self._upload = upload
        self._pieces = pieces
        self._paths = [files.path(upload, piece) for piece in pieces]
        self.size = upload.received
        self.digest = digest

    async def head(self) -> bytes:
        try:
            return await _first(self._read(HEAD))
        except UploadGone:
            if not self._upload.key:
                raise
        # An earlier try made it the object, and was not heard of any more.
        try:
            async with self._files.storage(self._upload.storage).open(self._upload.key) as chunks:
                return await _first(chunks)
        except NotFound:
            raise UploadGone(LOST) from None

    def chunks(self) -> AsyncIterator[bytes]:
        return self._read(CHUNK)

    async def become(self, storage: str, key: str) -> ObjectInfo | None:
        kept = self._files.storage(storage)
        if not isinstance(kept, Adopts) or not self.size:
            return None
        try:
            return await self._adopted(kept, key)
        except NotFound:  # an earlier try came as far, and was not heard of any more
            return await self._lost_or(kept, key)

    async def _adopted(self, kept: Adopts, key: str) -> ObjectInfo | None:
        await self._files.run(self._join)
        return await kept.adopt(key, str(self._paths[0].absolute()))

    async def _lost_or(self, kept: Storage, key: str) -> ObjectInfo:
        try:
            return await kept.head(key)
        except NotFound:
            raise UploadGone(LOST) from None

    def _join(self) -> None:
        """Put all pieces into the first one's file. Whoever does it again, be it to the object that the file is by now, writes what is there. Raises: OSError, NotFound."""
        try:
            target = os.open(self._paths[0], _OLD)
        except FileNotFoundError:
            raise NotFound from None
        try:
            for path, piece in list(zip(self._paths, self._pieces, strict=True))[1:]:
                _copy(path, target, piece)
            size = os.fstat(target).st_size
            if size < self.size:
                raise UploadGone(LOST)
            if size > self.size:
                os.ftruncate(target, self.size)
            if size > self.size or len(self._pieces) > 1:  # else all was synced before it was told of
                os.fsync(target)
        finally:
            os.close(target)

    async def _read(self, chunk: int) -> AsyncIterator[bytes]:
        for path, piece in zip(self._paths, self._pieces, strict=True):
            if not piece.size:
                continue
            try:
                fd = await self._files.run(lambda path=path: os.open(path, os.O_RDONLY | os.O_NOFOLLOW | os.O_CLOEXEC))  # type: ignore[misc]
            except NotFound:
                raise UploadGone(LOST) from None
            try:
                done = 0
                while done < piece.size:
                    wish = min(chunk, piece.size - done)
                    found = await self._files.run(lambda fd=fd, wish=wish, at=done: os.pread(fd, wish, at))  # type: ignore[misc]
                    if not found:
                        raise UploadGone(LOST)
                    done += len(found)
                    yield found
            finally:
                await self._files.run(lambda fd=fd: os.close(fd))  # type: ignore[misc]


async def _first(chunks: AsyncIterator[bytes]) -> bytes:
    found = b""
    async for chunk in chunks:
        found += chunk
        if len(found) >= HEAD:
            break
    return found


def _size(path: Path) -> int:
    try:
        return path.stat().st_size
    except FileNotFoundError:
        return -1


def _copy(path: Path, target: int, piece: Piece) -> None:
    source = os.open(path, os.O_RDONLY | os.O_NOFOLLOW | os.O_CLOEXEC)
    try:
        done = 0
        while done < piece.size:
            moved = os.copy_file_range(source, target, piece.size - done, done, piece.start + done)
            if not moved:
                raise UploadGone(LOST)
            done += moved
    finally:
        os.close(source)


def _settle_folder(folder: Path) -> None:
    fd = os.open(folder, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
    try:
        os.fsync(fd)
    finally:
        os.close(fd)


def _translated(call: Callable[[], T]) -> T:
    try:
        return call()
    except FileNotFoundError as error:
        raise NotFound from error
    except OSError as error:
        if error.errno in _FULL:
            raise StorageFull() from error
        raise StorageUnavailable(f"The staging failed: {errno.errorcode.get(error.errno or 0, 'EIO')}") from error
