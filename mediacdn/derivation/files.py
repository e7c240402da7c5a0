"""What actions read and write: a media's bytes as one seekable file, an unnamed file for what they make, and a folder where it is many files."""

import asyncio
import fcntl
import hashlib
import os
import shutil
import stat
import tempfile
import weakref
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import AsyncExitStack, asynccontextmanager, suppress
from pathlib import Path

from anyio import to_thread
from msgspec.structs import replace

from mediacdn.errors import ObjectCorrupt
from mediacdn.interfaces import LocalPaths, Storage
from mediacdn.model import Media
from mediacdn.sniff import HEAD, sniff

CHUNK = 1024 * 1024
SPARE = 8
FETCHED_FOR = 300.0
"""Seconds for which the last original that was fetched for a unit is kept."""


class Scratch:
    """A folder for unnamed files and for folders, on the file system of the data directory: what is derived may be large.

    A folder has a name, and outlives a process that is killed; it is locked for as long as it is in use, so that whoever wants one next clears those away
    that nobody holds any more.
    """

    def __init__(self, folder: Path) -> None:
        self._folder = folder
        self._spare: list[int] = []
        self._fetched: list[int] = []
        self._fetching = asyncio.Lock()
        self._of = ""
        self._timer: asyncio.TimerHandle | None = None
        weakref.finalize(self, _let_go, self._spare)
        weakref.finalize(self, _let_go, self._fetched)

    @asynccontextmanager
    async def file(self) -> AsyncIterator[int]:
        """An empty file that is gone when the context is left, or when the process ends."""
        descriptor = await to_thread.run_sync(self._open)
        try:
            yield descriptor
        finally:
            await to_thread.run_sync(os.close, descriptor, abandon_on_cancel=False)

    async def spare(self) -> int:
        """An empty file for `give_back`: one that nobody has seen is kept for the next who wants one, for many actions only look, and write nothing."""
        return self._spare.pop() if self._spare else await to_thread.run_sync(self._open)

    async def give_back(self, descriptor: int, *, seen: bool) -> None:
        if seen or len(self._spare) >= SPARE:
            await to_thread.run_sync(os.close, descriptor, abandon_on_cancel=False)
        else:
            self._spare.append(descriptor)

    async def fetched(self, name: str, fill: Callable[[int], Awaitable[None]]) -> int:
        """A file that `fill` writes, open to be read by the caller, who closes it. The last one is kept for a while: what is done in units is read once for each."""
        async with self._fetching:
            if self._of != name:
                self._forget()
                descriptor = await to_thread.run_sync(self._open)
                try:
                    await fill(descriptor)
                except BaseException:  # also cancelled: nobody else knows of the descriptor
                    os.close(descriptor)
                    raise
                self._fetched.append(descriptor)
                self._of = name
            if self._timer is not None:
                self._timer.cancel()
            self._timer = asyncio.get_running_loop().call_later(FETCHED_FOR, self._forget)
            return os.open(f"/proc/self/fd/{self._fetched[0]}", os.O_RDONLY | os.O_CLOEXEC)  # with an offset of its own

    def _forget(self) -> None:
        self._of = ""
        _let_go(self._fetched)

    @asynccontextmanager
    async def folder(self) -> AsyncIterator[int]:
        """An empty folder that is gone when the context is left; what is in it when the process ends, goes with the next one's."""
        name, descriptor = await to_thread.run_sync(self._make)
        try:
            yield descriptor
        finally:
            await to_thread.run_sync(_remove, name, descriptor, abandon_on_cancel=False)

    def _make(self) -> tuple[Path, int]:
        self._folder.mkdir(mode=0o700, parents=True, exist_ok=True)
        for old in self._folder.iterdir():
            with suppress(OSError):
                descriptor = os.open(old, os.O_RDONLY | os.O_DIRECTORY | os.O_NOFOLLOW | os.O_CLOEXEC)
                try:
                    fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
                    shutil.rmtree(old, ignore_errors=True)
                finally:
                    os.close(descriptor)
        while True:
            name = Path(tempfile.mkdtemp(dir=self._folder))
            try:
                descriptor = os.open(name, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
            except FileNotFoundError:  # somebody else found it before it could be locked
                continue
            try:
                fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
                if name.exists():  # else another process found it before it was locked
                    return name, descriptor
            except OSError:
                pass
            os.close(descriptor)

    def _open(self) -> int:
        self._folder.mkdir(mode=0o700, parents=True, exist_ok=True)
        with tempfile.TemporaryFile(dir=self._folder) as file:  # O_TMPFILE where the file system has it
            return os.dup(file.fileno())


class Original:
    """A media as an action's Source. A local storage's file is read where it is; any other is fetched whole, and checked against its digest; once for all
    who read it `again` within some minutes."""

    def __init__(
        self, media: Media, storage: Storage, scratch: Scratch, remember: Callable[[str, str], None], *, again: bool = False
    ) -> None:
        self._again = again
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
        if self._again:
            descriptor = await self._scratch.fetched(f"{self._media.storage}/{self._media.storage_key}", self._fetch)
            try:
                yield descriptor
            finally:
                os.close(descriptor)
            return
        async with self._scratch.file() as descriptor:
            await self._fetch(descriptor)
            os.lseek(descriptor, 0, os.SEEK_SET)
            yield descriptor

    async def _fetch(self, descriptor: int) -> None:
        self._remember(self._media.storage_key, self._media.digest)
        async with self._storage.open(self._media.storage_key) as chunks:
            async for chunk in chunks:
                await to_thread.run_sync(write_all, descriptor, chunk)


class Given:
    """What somebody gives to a media, as an action's Source: small, and in memory."""

    def __init__(self, to: Media, content: bytes) -> None:
        self.media = replace(to, media_type=sniff(content[:HEAD]), size=len(content), digest=hashlib.sha256(content).hexdigest())
        self._content = content

    @asynccontextmanager
    async def file(self) -> AsyncIterator[int]:
        descriptor = os.memfd_create("given", os.MFD_CLOEXEC)
        try:
            write_all(descriptor, self._content)
            os.lseek(descriptor, 0, os.SEEK_SET)
            yield descriptor
        finally:
            os.close(descriptor)


class Output:
    """An unnamed file, and a folder for who asks for one, as an action's Sink; and what is to be known of it afterwards. It is left as a context."""

    def __init__(self, scratch: Scratch, progress: Callable[[float], None]) -> None:
        self._scratch = scratch
        self._progress = progress
        self._stack = AsyncExitStack()
        self._folder = -1
        self._seen = False

    async def __aenter__(self) -> "Output":
        self._descriptor = await self._scratch.spare()
        return self

    async def __aexit__(self, *error: object) -> None:
        try:
            await self._stack.aclose()
        finally:
            await self._scratch.give_back(self._descriptor, seen=self._seen)

    async def folder(self) -> int:
        if self._folder < 0:
            self._folder = await self._stack.enter_async_context(self._scratch.folder())
        return self._folder

    def file(self) -> int:
        self._seen = True
        return self._descriptor

    async def progress(self, share: float) -> None:
        self._progress(share)

    async def measured(self) -> tuple[int, str]:
        """Its size in bytes and lower-case hexadecimal SHA-256."""
        return await asyncio.to_thread(_measured, self._descriptor)

    def chunks(self) -> AsyncIterator[bytes]:
        """Its bytes from the beginning."""
        return _chunks(self._descriptor)

    @asynccontextmanager
    async def named(self, name: str) -> AsyncIterator["Piece"]:
        """A file of the folder. Raises: OSError, when it is none, also where its name is a link."""
        assert self._folder >= 0
        descriptor = await to_thread.run_sync(_of_folder, self._folder, name)
        try:
            yield Piece(descriptor)
        finally:
            os.close(descriptor)


class Piece:
    """A file of an Output's folder, open."""

    def __init__(self, descriptor: int) -> None:
        self._descriptor = descriptor

    async def measured(self) -> tuple[int, str]:
        """Its size in bytes and lower-case hexadecimal SHA-256."""
        return await asyncio.to_thread(_measured, self._descriptor)

    def chunks(self) -> AsyncIterator[bytes]:
        """Its bytes from the beginning."""
        return _chunks(self._descriptor)


async def _chunks(descriptor: int) -> AsyncIterator[bytes]:
    at = 0
    while chunk := await asyncio.to_thread(os.pread, descriptor, CHUNK, at):
        at += len(chunk)
        yield chunk


def _of_folder(folder: int, name: str) -> int:
    if "/" in name:
        raise IsADirectoryError(name)
    descriptor = os.open(name, os.O_RDONLY | os.O_NOFOLLOW | os.O_CLOEXEC | os.O_NONBLOCK, dir_fd=folder)
    if not stat.S_ISREG(os.fstat(descriptor).st_mode):
        os.close(descriptor)
        raise IsADirectoryError(name)
    return descriptor


def _remove(name: Path, descriptor: int) -> None:
    shutil.rmtree(name, ignore_errors=True)
    os.close(descriptor)  # and with it the lock


def _let_go(descriptors: list[int]) -> None:
    while descriptors:
        os.close(descriptors.pop())


def write_all(descriptor: int, chunk: bytes) -> None:
    """Write all of it where the descriptor stands."""
    view = memoryview(chunk)
    while view:
        view = view[os.write(descriptor, view) :]


def _measured(descriptor: int) -> tuple[int, str]:
    found, at = hashlib.sha256(), 0
    while chunk := os.pread(descriptor, CHUNK, at):
        found.update(chunk)
        at += len(chunk)
    return at, found.hexdigest()
