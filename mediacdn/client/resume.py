"""A file's upload in as many requests as it takes, as the IETF's draft has them: after a broken connection it goes on where the server says it stands, and in a later
run by the note that an earlier one left beside the file. What passes by is hashed once, however often it is sent."""

import asyncio
import hashlib
import os
import threading
from collections.abc import AsyncIterator, Awaitable, Callable, Mapping
from pathlib import Path
from typing import TYPE_CHECKING, TypeVar

import msgspec

from mediacdn.client.transport import Transport
from mediacdn.client.upload import CHUNK, PIECE, STALL, VERDICT, Body, Progress
from mediacdn.errors import MediaError, NotFound, OffsetMismatch, TakenOver, Unavailable, Unprocessable, UploadGone

if TYPE_CHECKING:
    from aiohttp import ClientResponse

T = TypeVar("T")

AGAIN = (Unavailable, OffsetMismatch, TakenOver)
LOST = (NotFound, UploadGone)
ANEW = 2
"""So many uploads that this run has begun may be lost by the server before it gives up: one that forgets each would be sent the file for ever."""
PATIENCE = 4
"""So many times a transport's attempts may fail in a row without a byte getting through."""


class Note(msgspec.Struct, frozen=True):
    """What a run that was ended leaves for the next: the upload's path on its server, and which file it is of."""

    server: str
    path: str
    size: int
    sha256: str

    @staticmethod
    def beside(path: Path) -> Path:
        """Where the note of a file lies."""
        return path.with_name(f"{path.name}.upload")


class Opened:
    """A file that is being sent, and must stay as it is meanwhile. Reads of a request that was broken off may still be under way beside the next one's."""

    def __init__(self, path: Path) -> None:
        self.path = path
        self._file = path.open("rb", buffering=0)
        status = os.fstat(self._file.fileno())
        self.size = status.st_size
        self._changed = status.st_mtime_ns
        self._sha256 = hashlib.sha256()
        self._hashed = 0
        self._lock = threading.Lock()

    def read(self, at: int) -> bytes:
        """Read a chunk, and hash what of it was never read before. Raises: Unprocessable when the file is not what it was."""
        with self._lock:
            chunk = b"" if self._file.closed else os.pread(self._file.fileno(), min(CHUNK, self.size - at), at)
            if not chunk:
                raise Unprocessable(f"{self.path} became shorter while it was being sent")
            if at <= self._hashed < at + len(chunk):
                self._sha256.update(chunk[self._hashed - at :])
                self._hashed = at + len(chunk)
            if at + len(chunk) == self.size:
                status = os.fstat(self._file.fileno())
                if (status.st_size, status.st_mtime_ns) != (self.size, self._changed):
                    raise Unprocessable(f"{self.path} changed while it was being sent")
            return chunk

    def digest(self) -> str:
        """The SHA-256 of all of it, lower-case hexadecimal; reads what was not read yet."""
        while self._hashed < self.size:
            self.read(self._hashed)
        return self._sha256.hexdigest()

    def close(self) -> None:
        with self._lock:
            self._file.close()


class Rest(Body):
    """An open file from `start` on."""

    def __init__(self, file: Opened, start: int, progress: Progress | None) -> None:
        super().__init__(b"", progress=progress)
        self._opened, self._start = file, start
        self.size = file.size - start
        self.replayable = False

    async def chunks(self, *, quiet: bool = False) -> AsyncIterator[bytes]:
        """Yield the bytes, one chunk read ahead. Raises: Unprocessable when the file is not what it was."""
        self.started = True
        at, end = self._start, self._opened.size
        self._told(at, VERDICT if at == end else STALL)
        pending = self._read(at) if at < end else None
        try:
            while pending is not None:
                chunk = await pending
                after = at + len(chunk)
                pending = self._read(after) if after < end else None
                for start in range(0, len(chunk), PIECE):
                    yield chunk[start : start + PIECE]
                    at = min(at + PIECE, after)
                    self._told(at, VERDICT if at == end else STALL)
        except Unprocessable as fault:
            self.fault = fault
            raise
        finally:
            if pending is not None:
                pending.cancel()

    def _read(self, at: int) -> "asyncio.Task[bytes]":
        return asyncio.create_task(asyncio.to_thread(self._opened.read, at))

    def _told(self, at: int, patience: float) -> None:
        if self.watch is not None:
            self.watch.reschedule(asyncio.get_running_loop().time() + patience)
        if self.progress is not None:
            self.progress(at, self._opened.size)


async def send(
    transport: Transport,
    file: Opened,
    fields: Mapping[str, str],
    *,
    read: Callable[["ClientResponse"], Awaitable[T]],
    note: str | None,
    progress: Progress | None,
) -> tuple[T, bool]:
    """Upload a file with the parameters `fields`; gives what `read` makes of the last answer, and whether the media is new.

    `note` is the file's SHA-256 where a note is to be kept: of a run that fails for a fault of the moment it stays. Without one such an upload is given up.
    Raises: the MediaError that the server answers with, Unprocessable when the file changes, and Unavailable when nothing gets through any more.
    """
    kept = Note.beside(file.path) if note is not None else None
    place = _noted(kept, Note(transport.base, "", file.size, note or ""))
    lost = 0
    try:
        while True:
            begun = place is None
            if place is None:
                place = await _patient(transport, lambda: _begun(transport, fields, file.size))
                if kept is not None:
                    await asyncio.to_thread(kept.write_bytes, msgspec.json.encode(Note(transport.base, place, file.size, note or "")))
            try:
                found = await _sent(transport, file, place, 0 if begun else None, read, progress)
            except LOST:
                lost += begun
                if lost > ANEW:
                    raise
                place = None  # the server has given it up
            else:
                if kept is not None:
                    kept.unlink(missing_ok=True)
                return found
    except BaseException as error:  # also cancelled: what was begun at the server is given up, or its note kept
        if kept is None and place is not None:
            await _given_up(transport, place)
        elif kept is not None and isinstance(error, MediaError) and not isinstance(error, AGAIN):
            kept.unlink(missing_ok=True)
        raise


async def _sent(
    transport: Transport,
    file: Opened,
    place: str,
    offset: int | None,
    read: Callable[["ClientResponse"], Awaitable[T]],
    progress: Progress | None,
) -> tuple[T, bool]:
    """Send what is missing from `offset` on, None where the server is to be asked first."""
    failures, furthest = 0, offset or 0
    while True:
        try:
            if offset is None:
                offset = await _offset(transport, place, file.size)
            if offset > furthest:
                failures, furthest = 0, offset
            start, offset = offset, None
            headers = {"Upload-Offset": str(start), "Upload-Complete": "?1", "Content-Type": "application/partial-upload"}
            response = await transport.ask("PATCH", place, repeatable=False, headers=headers, body=Rest(file, start, progress))
            return await read(response), response.status == 201
        except AGAIN:
            failures += 1
            if failures >= PATIENCE * transport.attempts:
                raise
            await asyncio.sleep(transport.pause(min(failures, PATIENCE)))


async def _offset(transport: Transport, place: str, size: int) -> int:
    """How far the server has come."""
    try:
        response = await transport.ask("HEAD", place, repeatable=True)
    except (*AGAIN, *LOST):
        raise
    except MediaError:
        return size  # it was refused at its end, and why is told by who is asked for the end
    response.release()
    return int(response.headers["Upload-Offset"])


async def _patient(transport: Transport, ask: Callable[[], Awaitable[T]]) -> T:
    failures = 0
    while True:
        try:
            return await ask()
        except Unavailable:
            failures += 1
            if failures >= transport.attempts:
                raise
            await asyncio.sleep(transport.pause(failures))


async def _begun(transport: Transport, fields: Mapping[str, str], size: int) -> str:
    headers = {**fields, "Upload-Complete": "?0", "Upload-Length": str(size)}
    response = await transport.ask("POST", "/v1/uploads", repeatable=False, headers=headers, body=Body(b""))
    response.release()
    return "/v1/uploads/" + response.headers["Location"].rpartition("/")[2]


async def _given_up(transport: Transport, place: str) -> None:
    """Best effort: what stays is given up by the server when its time is over."""
    try:
        async with asyncio.timeout(5):
            (await transport.ask("DELETE", place, repeatable=False)).release()
    except (MediaError, TimeoutError):
        return


def _noted(note: Path | None, like: Note) -> str | None:
    try:
        found = msgspec.json.decode(note.read_bytes(), type=Note) if note is not None else None
    except (OSError, msgspec.MsgspecError):
        return None
    return found.path if found is not None and (found.server, found.size, found.sha256) == (like.server, like.size, like.sha256) else None
