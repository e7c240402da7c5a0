"""The body of an Answer onto the wire: what the edge holds or brings, local files through the server's zero copy, all else in the storage's chunks."""

import asyncio
import time
from collections.abc import AsyncIterator, Awaitable, Callable, Iterator, Mapping
from contextlib import contextmanager
from typing import Any

from mediacdn.accel import Accel
from mediacdn.delivery import Answer, Delivery, Fill
from mediacdn.edge.files import OpenFile, OpenFiles
from mediacdn.edge.reading import Reading
from mediacdn.edge.tiers import Edge
from mediacdn.errors import NotFound, ObjectCorrupt
from mediacdn.interfaces import LocalPaths, Storage
from mediacdn.model import ByteRange
from mediacdn.routes.callers import header_map
from mediacdn.storage.digests import Digests

WINDOW = 4 * 1024 * 1024
ZERO_COPY = "http.response.zerocopysend"
"""ASGI's extension for sending a span of an open file."""
Send = Callable[[Any], Awaitable[None]]
Piece = dict[str, Any]


@contextmanager
def recorded() -> Iterator[None]:
    """Within it, an object that is not there is damage: there is a record of it, so the media itself is not unknown."""
    try:
        yield
    except NotFound:
        raise ObjectCorrupt("The stored bytes are missing") from None


class Senders:
    """Makes the ASGI application that sends one Answer; bound to the edge, the storages and the open files."""

    def __init__(
        self, delivery: Delivery, edge: Edge, storages: Mapping[str, Storage], digests: Digests, files: OpenFiles, accel: Accel
    ) -> None:
        self._accel = accel
        self._delivery = delivery
        self._edge = edge
        self._storages = storages
        self._digests = digests
        self._files = files
        self._paths = {name: each for name, each in storages.items() if isinstance(each, LocalPaths)}

    async def sender(self, decided: Answer | Fill, scope: Any) -> "Sender":
        """Open what the body needs, so that a missing or damaged object is still an honest status. Raises: ObjectCorrupt, StorageUnavailable."""
        if isinstance(decided, Fill):
            return await self._filled(decided)
        if decided.warm:
            self.warm(decided)
        if not decided.spans or decided.pieces is not None:
            return Sender(decided)
        origin = decided.origin
        paths = self._paths.get(origin.storage)
        if paths is None or ZERO_COPY not in scope.get("extensions", ()):
            self._digests.remember(origin.key, origin.digest)
            return Sender(decided, storage=self._storages[origin.storage])
        file = self._files.peek(origin.storage, origin.key)
        if file is None:
            with recorded():
                file = await self._files.get(origin.storage, paths, origin.key, origin.size)
        if scope.get("hands_over") and (handed := self._accel.hand_over(decided, header_map(scope))) is not None:
            return Sender(handed)
        return Sender(decided, file=file, damaged=self._files.drop)

    def warm(self, answer: Answer) -> None:
        """Have the edge fetch what this answer told of without sending it."""
        self._edge.warm(answer.card, answer.variant, answer.origin)

    async def _filled(self, fill: Fill) -> "Sender":
        began = time.monotonic()
        reading = await self._edge.open(fill.card, fill.ask.variant, fill.origin, fill.spans)
        return Sender(self._delivery.settle(fill, reading.note, (time.monotonic() - began) * 1000), reading=reading)


class Sender:
    """One answer as an ASGI application."""

    __slots__ = ("_answer", "_damaged", "_file", "_gone", "_reading", "_storage")

    def __init__(
        self,
        answer: Answer,
        *,
        file: OpenFile | None = None,
        reading: Reading | None = None,
        storage: Storage | None = None,
        damaged: Callable[[str, str], None] = lambda storage, key: None,
    ) -> None:
        self._answer = answer
        self._damaged = damaged
        self._file = file
        self._reading = reading
        self._storage = storage
        self._gone = False

    async def __call__(self, scope: Any, receive: Callable[[], Awaitable[Any]], send: Send) -> None:
        try:
            await self._answered(scope, receive, send)
        finally:
            if self._reading is not None:
                await self._reading.aclose()

    async def _answered(self, scope: Any, receive: Callable[[], Awaitable[Any]], send: Send) -> None:
        answer = self._answer
        start = {"type": "http.response.start", "status": answer.status, "headers": answer.headers}
        if not answer.spans:
            await send(start)
            await send({"type": "http.response.body", "body": b""})
        elif answer.length <= WINDOW:
            await self._send(start, send)
        else:
            # A long body: notice a reader that left, instead of reading the rest of the object for nobody.
            watch = asyncio.create_task(self._watch(receive))
            try:
                await self._send(start, send)
            finally:
                watch.cancel()

    async def _watch(self, receive: Callable[[], Awaitable[Any]]) -> None:
        while (await receive())["type"] != "http.disconnect":
            pass
        self._gone = True

    async def _send(self, start: Any, send: Send) -> None:
        left = self._answer.length
        started = False
        async for piece in self._pieces():
            if not started:  # only now: a storage that fails on its first chunk can still be told as a status
                await send(start)
                started = True
            left -= piece["count"] if "count" in piece else len(piece["body"])
            piece["more_body"] = left > 0
            try:
                await send(piece)
            except ObjectCorrupt:
                self._damaged(self._answer.origin.storage, self._answer.origin.key)
                raise
            if self._gone:
                return

    async def _pieces(self) -> AsyncIterator[Piece]:
        framing = self._answer.framing
        for number, span in enumerate(self._answer.spans):
            if framing is not None:
                yield _body(framing.heads[number])
            if self._answer.pieces is not None:
                yield _body(self._answer.pieces[number])
            elif self._reading is not None:
                async for part in self._reading.span(number):
                    yield _body(part)
            elif self._file is not None:
                async for piece in self._of_file(self._file, span):
                    yield piece
            else:
                async for chunk in self._of_storage(span):
                    yield _body(chunk)
        if framing is not None:
            yield _body(framing.tail)

    async def _of_file(self, file: OpenFile, span: ByteRange) -> AsyncIterator[Piece]:
        at = span.start
        while at < span.stop:
            end = min(at + WINDOW, span.stop)
            if not file.resident(at, end):
                await file.warm(at, end)
            yield {"type": ZERO_COPY, "file": file.fd, "offset": at, "count": end - at}
            at = end

    async def _of_storage(self, span: ByteRange) -> AsyncIterator[bytes]:
        assert self._storage is not None
        origin, left = self._answer.origin, span.length
        whole = left == origin.size  # only a whole read can be held against the digest
        with recorded():
            async with self._storage.open(origin.key, None if whole else span) as chunks:
                async for chunk in chunks:
                    left -= len(chunk)
                    if left < 0:
                        raise ObjectCorrupt()
                    yield chunk
        if left:
            raise ObjectCorrupt()


def _body(piece: bytes | memoryview) -> Piece:
    return {"type": "http.response.body", "body": piece}
