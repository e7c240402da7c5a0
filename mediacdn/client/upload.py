"""The body of an upload: read, hashed and counted off the event loop in one pass, and again from the start when a try has to be repeated."""

import asyncio
import hashlib
import os
import stat
from collections.abc import AsyncIterable, AsyncIterator, Callable
from io import FileIO
from pathlib import Path

from mediacdn.errors import Unprocessable

CHUNK = 1 << 20
PIECE = 1 << 18
STALL = 120.0
"""Seconds without any progress, in either direction. A piece is 256 KiB, so that an upload below 2 kB/s is taken for dead."""
VERDICT = 600.0
"""Seconds that a server may take after the last byte of an upload: it may have to sync tens of gigabytes to its disk."""

Source = bytes | Path | AsyncIterable[bytes] | Callable[[], AsyncIterable[bytes]]
Progress = Callable[[int, int | None], None]
"""Called with the bytes done and the bytes in all (None when unknown)."""


class Body:
    """One media's bytes on their way out.

    `size` is None when only the end of the stream will tell; `replayable` says whether `chunks` may be asked for again.
    `file` is the regular file that it is. `digest` is the SHA-256 of the last pass, lower-case hexadecimal; `fault` is set when the source itself failed, which no retry mends.
    `started` says that a pass has begun; `watch` is pushed on with each piece that the network takes.
    """

    def __init__(self, source: Source, *, size: int | None = None, progress: Progress | None = None) -> None:
        self._source = source
        self.progress = progress
        self._hash = hashlib.sha256()
        self.size = size
        self.replayable = True
        self.file: Path | None = None
        self.fault: Exception | None = None
        self.started = False
        self.watch: asyncio.Timeout | None = None
        if isinstance(source, bytes):
            self.size = len(source)
        elif isinstance(source, Path):
            status = source.stat()
            if stat.S_ISREG(status.st_mode):
                self.size, self.file = status.st_size, source
            else:
                self.replayable = False
        elif isinstance(source, AsyncIterable):
            self.replayable = False

    @property
    def digest(self) -> str:
        return self._hash.hexdigest()

    async def prehash(self) -> str:
        """Read the whole file once for its SHA-256 (hexadecimal) before anything is sent. Needs a replayable source."""
        async for _ in self.chunks(quiet=True):
            pass
        return self.digest

    async def chunks(self, *, quiet: bool = False) -> AsyncIterator[bytes]:
        """Yield the bytes from the start. Raises what the source raises, and Unprocessable when a file changed while it was read."""
        # Of this pass alone: the reads of one that was broken off may still be under way in their threads.
        sha256 = self._hash = hashlib.sha256()
        done = 0
        if not quiet:
            self.started = True
            self._report(0, STALL)
        try:
            async for chunk in self._chunks(sha256):
                for start in range(0, len(chunk), PIECE):
                    yield chunk[start : start + PIECE]
                    done = done + min(PIECE, len(chunk) - start)
                    if not quiet:
                        self._report(done, STALL)
            if not quiet:
                self._report(done, VERDICT)
        except Exception as fault:
            self.fault = fault
            raise

    def _report(self, done: int, patience: float) -> None:
        if self.watch is not None:
            self.watch.reschedule(asyncio.get_running_loop().time() + patience)
        if self.progress is not None:
            self.progress(done, self.size)

    async def _chunks(self, sha256: "hashlib._Hash") -> AsyncIterator[bytes]:
        source = self._source
        if isinstance(source, Path):
            async for chunk in self._file(source, sha256):
                yield chunk
            return
        if isinstance(source, bytes):
            for start in range(0, len(source), CHUNK):
                chunk = source[start : start + CHUNK]
                await asyncio.to_thread(sha256.update, chunk)
                yield chunk
            return
        async for chunk in source() if callable(source) else source:
            await asyncio.to_thread(sha256.update, chunk)
            yield chunk

    async def _file(self, path: Path, sha256: "hashlib._Hash") -> AsyncIterator[bytes]:
        """Read one chunk ahead, so that disk and hash overlap the network; the last chunk is held back until the file is known to be unchanged."""
        file = await asyncio.to_thread(path.open, "rb", buffering=0)
        before = os.fstat(file.fileno())
        pending = asyncio.create_task(asyncio.to_thread(_read, file, sha256))
        done = 0
        try:
            while chunk := await pending:
                pending = asyncio.create_task(asyncio.to_thread(_read, file, sha256))
                done += len(chunk)
                if self.size is not None and done >= self.size:
                    await pending
                    after = os.fstat(file.fileno())
                    if (done, after.st_mtime_ns) != (self.size, before.st_mtime_ns) or after.st_size != self.size:
                        raise Unprocessable(f"{path} changed while it was being sent")
                yield chunk
            if self.size is not None and done < self.size:
                raise Unprocessable(f"{path} became shorter while it was being sent")
        finally:
            # A read in its thread must end before its descriptor is closed and perhaps given to another file.
            await asyncio.wait([pending])
            file.close()


def _read(file: FileIO, sha256: "hashlib._Hash") -> bytes:
    chunk = file.read(CHUNK)
    sha256.update(chunk)
    return chunk
