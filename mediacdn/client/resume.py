"""An upload that goes on where it was cut off, over tus: after a broken connection by itself, and in a later run by the note it left beside the file."""

import asyncio
import base64
import hashlib
import os
from collections.abc import AsyncIterator, Mapping
from io import BufferedReader
from pathlib import Path

import msgspec

from mediacdn.client.transport import Transport
from mediacdn.client.upload import CHUNK, PIECE, STALL, VERDICT, Body, Progress
from mediacdn.errors import MediaError, NotFound, OffsetMismatch, TakenOver, Unavailable, Unprocessable, UploadGone

TUS = {"Tus-Resumable": "1.0.0"}
AGAIN = (Unavailable, OffsetMismatch, TakenOver)


class Note(msgspec.Struct, frozen=True):
    """What a run that was ended leaves for the next: the upload's path on its server, and which file it is of."""

    server: str
    path: str
    size: int
    sha256: str


class Rest(Body):
    """An open file from `start` on."""

    def __init__(self, file: BufferedReader, path: Path, start: int, whole: int, progress: Progress | None) -> None:
        super().__init__(path, progress=progress)
        self._file_, self._path, self._start, self._whole = file.fileno(), path, start, whole
        self.size = whole - start
        self.replayable = False

    async def chunks(self, *, quiet: bool = False) -> AsyncIterator[bytes]:
        self.started = True
        at = self._start
        while at < self._whole:
            chunk = await asyncio.to_thread(os.pread, self._file_, min(CHUNK, self._whole - at), at)
            if not chunk:
                self.fault = Unprocessable(f"{self._path} became shorter while it was being sent")
                raise self.fault
            for start in range(0, len(chunk), PIECE):
                yield chunk[start : start + PIECE]
                at += len(chunk[start : start + PIECE])
                self._told(at, VERDICT if at == self._whole else STALL)

    def _told(self, at: int, patience: float) -> None:
        if self.watch is not None:
            self.watch.reschedule(asyncio.get_running_loop().time() + patience)
        if self._progress is not None:
            self._progress(at, self._whole)


async def send(transport: Transport, path: Path, wishes: Mapping[str, str], *, progress: Progress | None) -> tuple[str, bool]:
    """Upload a file and give the media's id, and whether it is this upload's own. Its bytes must be those that it had when it began.

    Raises: the MediaError that the server answers with, and Unavailable when nothing gets through in a transport's attempts; then a note is left for another call.
    """
    # Open for as long as anything may be reading, also in a request that was broken off.
    file = await asyncio.to_thread(path.open, "rb")
    try:
        return await _sent(transport, path, file, wishes, progress)
    finally:
        file.close()


async def _sent(
    transport: Transport, path: Path, file: BufferedReader, wishes: Mapping[str, str], progress: Progress | None
) -> tuple[str, bool]:
    size, sha256 = await asyncio.to_thread(_hashed, file)
    note = path.with_name(f"{path.name}.upload")
    place = _noted(note, Note(transport.base, "", size, sha256))
    failures, offset = 0, None
    while True:
        try:
            if place is None:
                place, offset = await _begun(transport, wishes, size, sha256), 0
                note.write_bytes(msgspec.json.encode(Note(transport.base, place, size, sha256)))
            if offset is None:
                response = await transport.ask("HEAD", place, repeatable=True, headers=TUS)
                response.release()
                offset = int(response.headers["Upload-Offset"])
                media = response.headers.get("Upload-Media-Id")
                if media is not None:
                    note.unlink(missing_ok=True)
                    return media, media == place.rpartition("/")[2][:26]
                if offset == size:
                    raise Unavailable("the server has all bytes, and is still storing them")
            headers = {**TUS, "Upload-Offset": str(offset), "Content-Type": "application/offset+octet-stream"}
            before, offset = offset, None
            response = await transport.ask("PATCH", place, repeatable=False, headers=headers, body=Rest(file, path, before, size, progress))
            response.release()
        except (NotFound, UploadGone):
            if failures >= transport.attempts:
                raise
            place, failures = None, failures + 1
        except AGAIN:
            failures += 1
            if failures >= 4 * transport.attempts:
                raise
            await asyncio.sleep(transport.pause(min(failures, 4)))
        except MediaError:
            note.unlink(missing_ok=True)
            raise


async def _begun(transport: Transport, wishes: Mapping[str, str], size: int, sha256: str) -> str:
    told = ",".join(f"{name} {base64.b64encode(value.encode()).decode()}" for name, value in {**wishes, "sha256": sha256}.items() if value)
    headers = {**TUS, "Upload-Length": str(size), "Upload-Metadata": told}
    response = await transport.ask("POST", "/v1/uploads", repeatable=False, headers=headers)
    response.release()
    return "/v1/uploads/" + response.headers["Location"].rpartition("/")[2]


def _noted(note: Path, like: Note) -> str | None:
    try:
        found = msgspec.json.decode(note.read_bytes(), type=Note)
    except (OSError, msgspec.MsgspecError):
        return None
    return found.path if (found.server, found.size, found.sha256) == (like.server, like.size, like.sha256) else None


def _hashed(file: BufferedReader) -> tuple[int, str]:
    sha256 = hashlib.file_digest(file, "sha256").hexdigest()
    return file.tell(), sha256
