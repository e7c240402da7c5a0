"""Bytes on their way in: one media read as a stream that heals itself, and into a file that survives the process."""

import asyncio
import base64
import binascii
import fcntl
import hashlib
import os
import re
from collections.abc import AsyncIterator, Mapping
from pathlib import Path
from typing import TYPE_CHECKING, BinaryIO

from mediacdn.client.record import Fetched
from mediacdn.client.transport import Transport
from mediacdn.client.upload import CHUNK, Progress
from mediacdn.errors import Conflict, DigestMismatch, RangeNotSatisfiable, Unavailable

if TYPE_CHECKING:
    from aiohttp import ClientResponse

_RANGE = re.compile(r"bytes (\d+)-(\d+)/(\d+)\Z")
_ETAG_DIGEST = re.compile(r'"sha256:([0-9a-f]{64})"\Z')


class Download:
    """An answer to GET, read by `async for`, whose chunks are bytes. Broken off, it goes on with Range and If-Range where it was.

    `start` is the first byte that comes (0 when the server would not give the range), `size` the whole media's size, None when it is unknown.
    """

    def __init__(self, transport: Transport, path: str, response: "ClientResponse", stop: int | None) -> None:
        self._transport = transport
        self._path = path
        self._response = response
        headers = response.headers
        self.etag = headers.get("ETag")
        self.media_type = headers.get("Content-Type", "application/octet-stream")
        self.disposition = headers.get("Content-Disposition")
        self.digest = digest_of(headers)
        part = _RANGE.match(headers.get("Content-Range", "")) if response.status == 206 else None
        length = headers.get("Content-Length")
        self.start = int(part[1]) if part else 0
        self.size = int(part[3]) if part else int(length) if length is not None else None
        self._end = int(part[2]) + 1 if part else self.size if response.status == 200 else stop

    def __aiter__(self) -> AsyncIterator[bytes]:
        return self._chunks()

    async def _chunks(self) -> AsyncIterator[bytes]:
        """Raises: Unavailable when going on fails again and again without a byte, Conflict when the media is another one by then."""
        from aiohttp import ClientError

        position, failures = self.start, 0
        while True:
            try:
                async for chunk in self._response.content.iter_chunked(CHUNK):
                    yield chunk
                    position += len(chunk)
                    failures = 0
                if self._end is None or position >= self._end:
                    return
                fault: BaseException = ConnectionError("the answer ended early")
            except (ClientError, OSError, TimeoutError) as error:
                fault = error
            failures += 1
            # Only a strong validator may stand in If-Range (RFC 9110 section 13.1.5); without one the parts may be of two versions.
            if self._end is None or self.etag is None or self.etag.startswith("W/") or failures >= self._transport.attempts:
                raise Unavailable(f"the download broke off at byte {position}") from fault
            self._response.close()
            await asyncio.sleep(self._transport.pause(failures))
            await self._go_on(position, self._end)

    async def _go_on(self, position: int, end: int) -> None:
        headers = {"Range": f"bytes={position}-{end - 1}", "If-Range": self.etag or ""}
        self._response = await self._transport.ask("GET", self._path, repeatable=True, headers=headers)
        part = _RANGE.match(self._response.headers.get("Content-Range", ""))
        if self._response.status != 206 or part is None or int(part[1]) != position or self._response.headers.get("ETag") != self.etag:
            raise Conflict("the media changed while it was read")

    def close(self) -> None:
        self._response.close()


async def fetch_file(transport: Transport, path: str, target: Path, *, resume: bool, progress: Progress | None) -> Fetched:
    """Download to `target`, by way of `target`.part: whole and verified under its name, or not there.

    Raises: Conflict when another process is at the same part, DigestMismatch when the bytes are not what the server says (a part left by
    an earlier run is then dropped and everything fetched once more), OSError, and what the transport raises.
    """
    part = target.with_name(target.name + ".part")
    descriptor = os.open(part, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC | os.O_NOFOLLOW, 0o666)
    with os.fdopen(descriptor, "r+b", buffering=0) as file:
        try:
            fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            raise Conflict(f"another download is writing {part}") from None
        if not resume:
            file.truncate(0)
        try:
            fetched = await _fill(transport, path, file, target, progress)
        except DigestMismatch as mismatch:
            resumed = mismatch.extra.get("resumed_at", 0)
            file.truncate(0)
            if not resumed:
                part.unlink(missing_ok=True)
                raise
            fetched = await _fill(transport, path, file, target, progress)
        await asyncio.to_thread(os.fsync, file.fileno())
        part.replace(target)
        return fetched


async def _fill(transport: Transport, path: str, file: BinaryIO, target: Path, progress: Progress | None) -> Fetched:
    """Complete the open part and check it. Its first bytes are hashed too: they come from a run that nobody vouches for."""
    have = os.fstat(file.fileno()).st_size
    headers: dict[str, str] = {}
    if have:
        head = await transport.ask("HEAD", path, repeatable=True)
        head.release()
        etag, length = head.headers.get("ETag", ""), int(head.headers.get("Content-Length", "-1"))
        if have == length and (whole := digest_of(head.headers)) is not None:
            seen = await asyncio.to_thread(_hashed, file, have)
            _must_match(whole, seen, have)
            return Fetched(target, have, seen.hexdigest(), have)
        if etag and not etag.startswith("W/") and have < length:
            headers = {"Range": f"bytes={have}-", "If-Range": etag}
    response = await transport.ask("GET", path, repeatable=True, headers=headers)
    download = Download(transport, path, response, None)
    try:
        if download.start not in (0, have):
            raise RangeNotSatisfiable("the server answered another range than was asked for")
        file.truncate(download.start)
        sha256 = await asyncio.to_thread(_hashed, file, download.start)
        done = download.start
        file.seek(done)
        if progress is not None:
            progress(done, download.size)
        async for chunk in download:
            await asyncio.to_thread(_take, file, sha256, chunk)
            done += len(chunk)
            if progress is not None:
                progress(done, download.size)
    finally:
        download.close()
    if download.digest is not None:
        _must_match(download.digest, sha256, download.start)
    return Fetched(target, done, sha256.hexdigest(), download.start)


def digest_of(headers: Mapping[str, str]) -> str | None:
    """The SHA-256 of the whole media, hexadecimal: from Repr-Digest (RFC 9530 section 3), else from an ETag of ours; None when neither says it."""
    for member in headers.get("Repr-Digest", "").split(","):
        name, _, value = member.strip().partition("=")
        if name == "sha-256" and value[:1] == value[-1:] == ":":
            try:
                decoded = base64.b64decode(value[1:-1], validate=True)
            except binascii.Error:
                continue
            if len(decoded) == 32:
                return decoded.hex()
    found = _ETAG_DIGEST.match(headers.get("ETag", ""))
    return found[1] if found else None


def _must_match(expected: str, seen: "hashlib._Hash", resumed_at: int) -> None:
    if seen.hexdigest() != expected:
        raise DigestMismatch("the bytes that came are not those that the server vouches for", resumed_at=resumed_at)


def _hashed(file: BinaryIO, size: int) -> "hashlib._Hash":
    sha256 = hashlib.sha256()
    file.seek(0)
    while size > 0 and (chunk := file.read(min(CHUNK, size))):
        sha256.update(chunk)
        size -= len(chunk)
    return sha256


def _take(file: BinaryIO, sha256: "hashlib._Hash", chunk: bytes) -> None:
    view = memoryview(chunk)
    while view:
        view = view[file.write(view) :]
    sha256.update(chunk)
