"""Files of local storages kept open, so that their bytes can go from the page cache to the socket without passing through Python.

Python never reads them for that: residency is asked with preadv2 and RWF_NOWAIT, one byte a run, and what is missing is read in by a thread.
"""

import os
import resource
from collections import OrderedDict

import anyio
import anyio.to_thread

from mediacdn.errors import ObjectCorrupt, StorageUnavailable
from mediacdn.interfaces import LocalPaths

PROBE_STRIDE = 256 * 1024  # what is resident is resident in runs: the kernel reads ahead by 128 KiB and more
WARM_AHEAD = 4 * 1024 * 1024


class OpenFile:
    """One committed object, open for reading; the last reader's release closes it."""

    __slots__ = ("fd", "size")

    def __init__(self, fd: int, size: int) -> None:
        self.fd = fd
        self.size = size

    def __del__(self) -> None:
        os.close(self.fd)

    def resident(self, start: int, stop: int) -> bool:
        """Whether the pages of this span are in memory, by samples; about 0.5 us a sample."""
        probe = [bytearray(1)]
        try:
            for at in range(start, stop, PROBE_STRIDE):
                os.preadv(self.fd, probe, at, os.RWF_NOWAIT)
            os.preadv(self.fd, probe, stop - 1, os.RWF_NOWAIT)
        except OSError:  # EAGAIN: not in memory; anything else: the file system cannot tell, so the careful way
            return False
        return True

    def read_now(self, start: int, stop: int) -> bytearray | None:
        """The bytes of this span, if all of it is in memory; for short ones, where a copy is cheaper than asking first and sending then."""
        found = bytearray(stop - start)
        try:
            return found if os.preadv(self.fd, [found], start, os.RWF_NOWAIT) == len(found) else None
        except OSError:
            return None

    async def warm(self, start: int, stop: int) -> None:
        """Bring a span into memory off the event loop, and a little of what follows."""
        ahead = min(self.size, max(stop, start + WARM_AHEAD))
        await anyio.to_thread.run_sync(_read_through, self.fd, start, ahead)


def _read_through(fd: int, start: int, stop: int) -> None:
    os.posix_fadvise(fd, start, stop - start, os.POSIX_FADV_WILLNEED)
    scratch = bytearray(min(stop - start, 1024 * 1024))
    while start < stop:
        got = os.preadv(fd, [memoryview(scratch)[: stop - start]], start)
        if got == 0:
            return  # shorter than it was: whoever sends it will find the end
        start += got


def _open(storage: LocalPaths, key: str, size: int) -> OpenFile:
    fd = storage.open_file(key)
    try:
        actual = os.fstat(fd).st_size
        if actual != size:
            raise ObjectCorrupt(f"The stored object has {actual} bytes where {size} were recorded")
    except BaseException:
        os.close(fd)
        raise
    return OpenFile(fd, size)


class OpenFiles:
    """The most recently used open files. A key never gets other bytes, so an entry can be forgotten but never be wrong."""

    def __init__(self, limit: int) -> None:
        # Never more than a quarter of the process's descriptors: connections, uploads and the catalog need theirs.
        self._limit = max(1, min(limit, resource.getrlimit(resource.RLIMIT_NOFILE)[0] // 4))
        self._files: OrderedDict[tuple[str, str], OpenFile] = OrderedDict()
        self._threads: anyio.CapacityLimiter | None = None

    def peek(self, storage: str, key: str) -> OpenFile | None:
        """The open file, without waiting, or None."""
        found = self._files.get((storage, key))
        if found is not None:
            self._files.move_to_end((storage, key))
        return found

    async def get(self, storage: str, paths: LocalPaths, key: str, size: int) -> OpenFile:
        """The open file; opened off the event loop on first sight. Raises: NotFound, StorageUnavailable, ObjectCorrupt (another size than recorded)."""
        found = self.peek(storage, key)
        if found is None:
            if self._threads is None:
                self._threads = anyio.CapacityLimiter(16)
            try:
                found = await anyio.to_thread.run_sync(_open, paths, key, size, limiter=self._threads)
            except StorageUnavailable:
                if not self._files:
                    raise
                for _ in range((len(self._files) + 1) // 2):  # perhaps for want of descriptors: those kept here are the first to go
                    self._files.popitem(last=False)
                found = await anyio.to_thread.run_sync(_open, paths, key, size, limiter=self._threads)
            self._files[storage, key] = found
            while len(self._files) > self._limit:
                self._files.popitem(last=False)
        return found

    def drop(self, storage: str, key: str) -> None:
        self._files.pop((storage, key), None)
