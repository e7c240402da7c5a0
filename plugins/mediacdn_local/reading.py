"""One object on its way out: a file read by position in threads, one chunk ahead of the consumer."""

import asyncio
import os

from mediacdn import ByteRange, ObjectCorrupt
from mediacdn_local.layout import Place
from mediacdn_local.pool import Pool
from mediacdn_local.tree import Tree

_FIRST = 256 * 1024
"""The first chunk is small, so that first bytes come early; later ones double."""
_LARGEST = 1024 * 1024


class File:
    """The thread's side: a descriptor that lives from `open` to `close`."""

    def __init__(self, tree: Tree, place: Place, span: ByteRange | None) -> None:
        self._tree = tree
        self._place = place
        self._span = span
        self._fd = -1
        self.start = self.stop = 0
        self.first: bytes | ObjectCorrupt = b""

    def open(self) -> None:
        """Open the file and read its first chunk in the same visit; an object that ends there is closed again at once. Raises: OSError."""
        self._fd = self._tree.open_file(self._place)
        if self._span is None:
            self.stop = os.fstat(self._fd).st_size
        else:
            self.start, self.stop = self._span.start, self._span.stop
        length = min(_FIRST, self.stop - self.start)
        try:
            self.first = self.read(self.start, length)
        except ObjectCorrupt as error:
            self.first = error  # the seam's word: damage shows while reading, not on entering
        if self.start + length == self.stop:
            self.close()

    def read(self, at: int, length: int) -> bytes:
        """Read exactly `length` bytes. Raises: ObjectCorrupt when the file ends before, OSError."""
        chunk = os.pread(self._fd, length, at) if length else b""
        while len(chunk) < length:
            more = os.pread(self._fd, length - len(chunk), at + len(chunk))
            if not more:
                raise ObjectCorrupt("The stored object is shorter than it was")
            chunk += more
        return chunk

    def close(self) -> None:
        if self._fd >= 0:
            os.close(self._fd)
            self._fd = -1

    @property
    def closed(self) -> bool:
        return self._fd < 0


class Chunks:
    """The loop's side: an iterator of chunks, `enter`ed before and `leave`d after; a cancelled read is taken up again by the next."""

    def __init__(self, pool: Pool, tree: Tree, place: Place, span: ByteRange | None) -> None:
        self._pool = pool
        self._file = File(tree, place, span)
        self._opening: asyncio.Future[None] = pool.start(self._file.open)
        self._ahead: asyncio.Future[bytes] | None = None
        self._at = 0
        self._length = _FIRST

    async def enter(self) -> None:
        await asyncio.shield(self._opening)
        self._at = self._file.start

    async def leave(self) -> None:
        if self._ahead is None and self._opening.done() and self._file.closed:
            return
        await self._pool.clean(self._ahead or self._opening, self._file.close)

    def __aiter__(self) -> "Chunks":
        return self

    async def __anext__(self) -> bytes:
        if self._at >= self._file.stop:
            raise StopAsyncIteration
        if self._ahead is not None:
            chunk = await asyncio.shield(self._ahead)
        elif isinstance(self._file.first, ObjectCorrupt):
            raise self._file.first
        else:
            chunk, self._file.first = self._file.first, b""
        self._at += len(chunk)
        left = self._file.stop - self._at
        if left > 0:
            self._length = min(2 * self._length, _LARGEST)
            self._ahead = self._pool.start(self._file.read, self._at, min(self._length, left))
        return chunk
