"""What actions read and write: a media's bytes as one seekable file, and an unnamed file for what they make. Neither has a name that anybody could open."""

import asyncio
import hashlib
import os
import tempfile
import weakref
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from pathlib import Path

from anyio import to_thread

from mediacdn.errors import ObjectCorrupt
from mediacdn.interfaces import LocalPaths, Storage
from mediacdn.model import Media

CHUNK = 1024 * 1024
SPARE = 8


class Scratch:
    """A folder for unnamed files, on the file system of the data directory: what is derived may be large."""

    def __init__(self, folder: Path) -> None:
        self._folder = folder
        self._spare: list[int] = []
        weakref.finalize(self, _let_go, self._spare)

    @asynccontextmanager
    async def file(self) -> AsyncIterator[int]:
        """An empty file that is gone when the context is left, or when the process ends."""
        descriptor = await to_thread.run_sync(self._open)
        try:
            yield descriptor
        finally:
            await to_thread.run_sync(os.close, descriptor, abandon_on_cancel=False)

    @asynccontextmanager
    async def output(self, progress: Callable[[float], None]) -> AsyncIterator["Output"]:
        """The same as an Output. A file that nobody has seen is kept for the next one: many actions only look, and write nothing."""
        output = Output(self._spare.pop() if self._spare else await to_thread.run_sync(self._open), progress)
        try:
            yield output
        finally:
            if output.seen or len(self._spare) >= SPARE:
                await to_thread.run_sync(os.close, output.file(), abandon_on_cancel=False)
            else:
                self._spare.append(output.file())

    def _open(self) -> int:
        self._folder.mkdir(mode=0o700, parents=True, exist_ok=True)
        with tempfile.TemporaryFile(dir=self._folder) as file:  # O_TMPFILE where the file system has it
            return os.dup(file.fileno())


class Original:
    """A media as an action's Source. A local storage's file is read where it is; any other is fetched whole, and checked against its digest."""

    def __init__(self, media: Media, storage: Storage, scratch: Scratch, remember: Callable[[str, str], None]) -> None:
        self._media = media
        self._storage = storage
        self._scratch = scratch
        self._remember = remember

    @property
    def media(self) -> Media:
        return self._media

    @asynccontextmanager
    async def file(self) -> AsyncIterator[int]:
        if isinstance(self._storage, LocalPaths):
            descriptor = await to_thread.run_sync(self._storage.open_file, self._media.storage_key)
            try:
                if os.fstat(descriptor).st_size != self._media.size:
                    raise ObjectCorrupt("The stored object is not as long as was recorded")
                yield descriptor
            finally:
                await to_thread.run_sync(os.close, descriptor)
            return
        async with self._scratch.file() as descriptor:
            self._remember(self._media.storage_key, self._media.digest)
            async with self._storage.open(self._media.storage_key) as chunks:
                async for chunk in chunks:
                    await to_thread.run_sync(_write, descriptor, chunk)
            os.lseek(descriptor, 0, os.SEEK_SET)
            yield descriptor


class Output:
    """An unnamed file as an action's Sink, and what is to be known of it afterwards."""

    def __init__(self, descriptor: int, progress: Callable[[float], None]) -> None:
        self._descriptor = descriptor
        self._progress = progress
        self.seen = False

    def file(self) -> int:
        self.seen = True
        return self._descriptor

    async def progress(self, share: float) -> None:
        self._progress(share)

    async def measured(self) -> tuple[int, str]:
        """Its size in bytes and lower-case hexadecimal SHA-256."""
        return await asyncio.to_thread(_measured, self._descriptor)

    async def chunks(self) -> AsyncIterator[bytes]:
        """Its bytes from the beginning."""
        at = 0
        while chunk := await asyncio.to_thread(os.pread, self._descriptor, CHUNK, at):
            at += len(chunk)
            yield chunk


def _let_go(descriptors: list[int]) -> None:
    while descriptors:
        os.close(descriptors.pop())


def _write(descriptor: int, chunk: bytes) -> None:
    view = memoryview(chunk)
    while view:
        view = view[os.write(descriptor, view) :]


def _measured(descriptor: int) -> tuple[int, str]:
    found, at = hashlib.sha256(), 0
    while chunk := os.pread(descriptor, CHUNK, at):
        found.update(chunk)
        at += len(chunk)
    return at, found.hexdigest()
