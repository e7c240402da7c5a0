"""A storage that takes parts and presigns, in a folder: what outlives a process does here too, so that several processes of a test may share it.

`FolderDoor` is the server behind its presigned URLs. Neither is made for speed, nor syncs to the disk.
"""

import hashlib
import hmac
import os
import shutil
import threading
import time
from collections.abc import AsyncIterable, AsyncIterator, Sequence
from contextlib import asynccontextmanager
from datetime import UTC, datetime, timedelta
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from secrets import token_hex
from urllib.parse import parse_qsl, urlencode, urlsplit

from anyio import to_thread

from mediacdn.errors import Conflict, NotFound
from mediacdn.model import ByteRange, ObjectInfo, Part, PartsBegun

_SECRET = b"known to the folder and its door"
_CHUNK = 256 * 1024


class FolderStorage:
    """Objects and parts as files beneath `root`. `door` is the address of its FolderDoor; `part_sizes` as the seam has it."""

    def __init__(self, root: Path, door: str = "", part_sizes: tuple[int, int, int] = (65_536, 1 << 32, 10_000)) -> None:
        self._objects, self._parts = root / "objects", root / "parts"
        for each in (self._objects, self._parts):
            each.mkdir(parents=True, exist_ok=True)
        self._door = door
        self._part_sizes = part_sizes

    @property
    def part_sizes(self) -> tuple[int, int, int]:
        return self._part_sizes

    async def head(self, key: str) -> ObjectInfo:
        return _info(key, self._file(key))

    @asynccontextmanager
    async def open(self, key: str, span: ByteRange | None = None) -> AsyncIterator[AsyncIterator[bytes]]:
        try:
            content = await to_thread.run_sync(self._file(key).read_bytes)
        except FileNotFoundError:
            raise NotFound("The storage holds no object at this key") from None
        yield _chunks(content if span is None else content[span.start : span.stop])

    async def put(self, key: str, chunks: AsyncIterable[bytes], *, size: int | None = None) -> ObjectInfo:
        await self._write(self._file(key), chunks)
        return await self.head(key)

    async def delete(self, key: str) -> None:
        self._file(key).unlink(missing_ok=True)

    async def list(self, prefix: str = "") -> AsyncIterator[ObjectInfo]:
        for file in sorted(self._objects.iterdir()):
            key = file.name.replace("+", "/")
            if key.startswith(prefix) and not file.name.startswith("="):
                yield _info(key, file)

    async def begin_parts(self, key: str) -> str:
        upload = token_hex(8)
        folder = self._parts / upload
        folder.mkdir()
        (folder / "key").write_text(key)
        return upload

    async def put_part(self, key: str, upload: str, number: int, chunks: AsyncIterable[bytes], *, size: int) -> str:
        file = self._upload(key, upload) / str(number)
        written = await self._write(file, chunks)
        assert written == size, "the caller promised exactly `size` bytes"
        return _tag(file)

    async def list_parts(self, key: str, upload: str) -> Sequence[Part]:
        files = sorted((file for file in self._upload(key, upload).iterdir() if file.name.isdigit()), key=lambda file: int(file.name))
        return [Part(int(file.name), _tag(file), file.stat().st_size) for file in files]

    async def complete_parts(self, key: str, upload: str, parts: Sequence[Part]) -> ObjectInfo:
        folder = self._upload(key, upload)
        for part in parts:
            file = folder / str(part.number)
            if not file.exists() or _tag(file) != part.tag:
                raise Conflict(f"Part {part.number} is missing, or another")
        if [part.number for part in parts] != sorted({part.number for part in parts}):
            raise Conflict("The parts are not in order")

        async def joined() -> AsyncIterator[bytes]:
            for part in parts:
                yield await to_thread.run_sync((folder / str(part.number)).read_bytes)

        await self._write(self._file(key), joined())
        shutil.rmtree(folder)
        return await self.head(key)

    async def abort_parts(self, key: str, upload: str) -> None:
        shutil.rmtree(self._parts / upload, ignore_errors=True)

    async def list_uploads(self, prefix: str = "") -> AsyncIterator[PartsBegun]:
        for folder in sorted(self._parts.iterdir()):
            key = (folder / "key").read_text()
            if key.startswith(prefix):
                yield PartsBegun(key, folder.name, datetime.fromtimestamp(folder.stat().st_mtime, UTC))

    async def presign_get(self, key: str, expires: timedelta, *, media_type: str, disposition: str) -> str:
        return self._signed("GET", key, expires, type=media_type, disposition=disposition)

    async def presign_put(self, key: str, expires: timedelta, *, size: int | None = None, media_type: str | None = None) -> str:
        return self._signed("PUT", key, expires, size=str(size or ""), type=media_type or "")

    async def presign_part(self, key: str, upload: str, number: int, expires: timedelta, *, size: int | None = None) -> str:
        return self._signed("PUT", key, expires, size=str(size or ""), upload=upload, number=str(number))

    def _signed(self, method: str, key: str, expires: timedelta, **more: str) -> str:
        query = urlencode({"m": method, "exp": str(int(time.time() + expires.total_seconds())), **more})
        return f"{self._door}/{key}?{query}&sig={_signature(key, query)}"

    def _file(self, key: str) -> Path:
        return self._objects / key.replace("/", "+")

    def _upload(self, key: str, upload: str) -> Path:
        folder = self._parts / upload
        if not upload or not folder.is_dir() or (folder / "key").read_text() != key:
            raise NotFound("There is no such upload of parts")
        return folder

    async def _write(self, file: Path, chunks: AsyncIterable[bytes]) -> int:
        fresh = file.with_name(f"={token_hex(8)}")
        size = 0
        try:
            with fresh.open("wb") as target:
                async for chunk in chunks:
                    await to_thread.run_sync(target.write, chunk)
                    size += len(chunk)
            fresh.rename(file)
        except BaseException:
            fresh.unlink(missing_ok=True)
            raise
        return size


class FolderDoor:
    """The server that takes what the presigned URLs of FolderStorages over `root` allow, until `close`."""

    def __init__(self, root: Path) -> None:
        door = self

        class Handler(BaseHTTPRequestHandler):
            def do_PUT(self) -> None:
                self._answer(door._put(self.path, self.headers.get("Content-Type"), self.rfile.read(int(self.headers["Content-Length"]))))

            def _answer(self, outcome: tuple[int, str]) -> None:
                self.send_response(outcome[0])
                self.send_header("ETag", outcome[1])
                self.send_header("Content-Length", "0")
                self.end_headers()

            def log_message(self, *arguments: object) -> None:
                return

        self._root = root
        self._server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
        self._thread = threading.Thread(target=self._server.serve_forever)
        self._thread.start()
        self.url = f"http://127.0.0.1:{self._server.server_port}"

    def close(self) -> None:
        self._server.shutdown()
        self._server.server_close()
        self._thread.join()

    def _put(self, target: str, media_type: str | None, body: bytes) -> tuple[int, str]:
        """The status and ETag. A URL that is past its time, or was made for another request, is refused as S3 does it."""
        parts = urlsplit(target)
        query, _, signature = parts.query.rpartition("&sig=")
        key, wish = parts.path[1:], dict(parse_qsl(query))
        if not hmac.compare_digest(signature, _signature(key, query)) or wish.get("m") != "PUT" or int(wish["exp"]) < time.time():
            return 403, ""
        if ("size" in wish and int(wish["size"]) != len(body)) or ("type" in wish and wish["type"] != media_type):
            return 403, ""
        file = self._root / "objects" / key.replace("/", "+")
        if "upload" in wish:
            file = self._root / "parts" / wish["upload"] / wish["number"]
            if not file.parent.is_dir():
                return 404, ""
        fresh = file.with_name(f"={token_hex(8)}")
        fresh.write_bytes(body)
        fresh.rename(file)
        return 200, _tag(file)


def _signature(key: str, query: str) -> str:
    return hmac.new(_SECRET, f"{key}\n{query}".encode(), hashlib.sha256).hexdigest()


def _tag(file: Path) -> str:
    return hashlib.sha256(file.read_bytes()).hexdigest()[:32]


def _info(key: str, file: Path) -> ObjectInfo:
    try:
        status = os.stat(file)
    except FileNotFoundError:
        raise NotFound("The storage holds no object at this key") from None
    return ObjectInfo(
        key, status.st_size, datetime.fromtimestamp(status.st_mtime, UTC), f"{status.st_ino:x}-{status.st_mtime_ns:x}-{status.st_size:x}"
    )


async def _chunks(content: bytes) -> AsyncIterator[bytes]:
    for at in range(0, len(content), _CHUNK):
        yield content[at : at + _CHUNK]
