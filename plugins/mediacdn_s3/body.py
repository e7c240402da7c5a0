"""The body of one request: bytes as they came, never joined, given to the SDK as often as it is sent."""

import hashlib
import zlib
from base64 import b64encode
from collections.abc import AsyncGenerator, AsyncIterable, Callable

PIECE = 256 * 1024
"""Bytes that go to the socket at a time: what TLS encrypts in a fraction of a millisecond."""


class Body:
    """Chunks up to a length. `moved` is called whenever some of it is taken; `spent` says that all was."""

    def __init__(self) -> None:
        self._chunks: list[bytes | memoryview] = []
        self._size = 0
        self.spent = False
        self.moved: Callable[[], None] = lambda: None

    def add(self, chunk: bytes | memoryview) -> None:
        self._chunks.append(chunk)
        self._size += len(chunk)

    def __len__(self) -> int:
        return self._size

    def __bool__(self) -> bool:
        return True

    async def __aiter__(self) -> AsyncGenerator[bytes | memoryview, None]:
        self.spent = False
        for chunk in self._chunks:
            for at in range(0, len(chunk), PIECE):
                self.moved()
                yield memoryview(chunk)[at : at + PIECE]
        self.spent = True
        self.moved()

    def read(self, size: int = -1) -> bytes:
        """Only its name is wanted: by it the SDK knows a body that is neither bytes nor text."""
        raise NotImplementedError

    def md5(self) -> str:
        """The value of Content-MD5; takes milliseconds, so it is called on a thread."""
        found = hashlib.md5(usedforsecurity=False)
        for chunk in self._chunks:
            found.update(chunk)
        return b64encode(found.digest()).decode()

    def crc32(self) -> str:
        """The value of x-amz-checksum-crc32; called on a thread."""
        found = 0
        for chunk in self._chunks:
            found = zlib.crc32(chunk, found)
        return b64encode(found.to_bytes(4, "big")).decode()


async def cut(chunks: AsyncIterable[bytes], length: int) -> AsyncGenerator[tuple[Body, bool], None]:
    """Gather bodies of exactly `length` bytes, and the rest as the last one, marked True; a stream of no bytes is one empty body."""
    body = Body()
    async for chunk in chunks:
        view: bytes | memoryview = chunk
        while view:
            if len(body) == length:  # only now is it known not to be the last
                full, body = body, Body()
                yield full, False
                del full
            taken = view if len(view) <= length - len(body) else memoryview(view)[: length - len(body)]
            body.add(taken)
            view = memoryview(view)[len(taken) :] if len(taken) < len(view) else b""
    yield body, True
