"""Python client of a mediacdn server, with verbs about media: upload, resume, get, open, url, record, list, change, delete, sign, revoke, quarantine, release, purge,
about recipes: run_task, get_task, stream_task, cancel_task, derivatives, and about titles: titles, title, add_title, change_title, delete_title.

    async with Client("http://127.0.0.1:8400", token) as media:
        record = await media.upload(Path("photo.jpg"), public=True)
        await media.get(record.id, Path("copy.jpg"))

Failures are the server's own MediaErrors again. Media stream in both directions in constant memory. Requests that may safely run twice are repeated a few times,
with jitter; so is an upload whose bytes can be read again, under one Idempotency-Key. Large files go in as many requests as it takes. It needs asyncio, and imports aiohttp when it is entered.
"""

import asyncio
import secrets
from collections.abc import AsyncIterator, Iterable, Mapping
from contextlib import asynccontextmanager
from datetime import datetime
from pathlib import Path
from types import TracebackType
from typing import Any, Self
from urllib.parse import quote, urljoin

import msgspec
from msgspec.structs import replace

from mediacdn.client.download import Download, fetch_file
from mediacdn.client.parameters import header_fields, repr_digest
from mediacdn.client.record import Fetched, Record, Signed
from mediacdn.client.resume import Opened, send
from mediacdn.client.tasks import Task, TaskStep, TaskVerbs
from mediacdn.client.titles import TitleVerbs
from mediacdn.client.transport import ATTEMPTS, Transport
from mediacdn.client.upload import Body, Progress, Source
from mediacdn.errors import DigestMismatch, InvalidParameter

__all__ = ["LARGE", "Body", "Client", "Download", "Fetched", "Progress", "Record", "Signed", "Source", "Task", "TaskStep"]

LARGE = 64 * 1024 * 1024
"""Bytes from which a file is uploaded in a way that goes on after a broken connection: two small requests more."""


class Client(TaskVerbs, TitleVerbs):
    """A server, by its `base` URL (base path included), or through the unix socket `uds`. Use it as `async with Client(…) as media`.

    Every verb raises the MediaError that the server answered with, and Unavailable when it cannot be reached in `attempts` tries. Files of `large` bytes or more
    are uploaded in as many requests as it takes.
    """

    def __init__(
        self, base: str, token: str | None = None, *, uds: str | None = None, attempts: int = ATTEMPTS, large: int = LARGE
    ) -> None:
        self._transport = Transport(base, token, uds=uds, attempts=attempts)
        self._large = large

    async def __aenter__(self) -> Self:
        await self._transport.__aenter__()
        return self

    async def __aexit__(self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None) -> None:
        await self._transport.__aexit__(kind, error, trace)

    async def upload(
        self,
        source: Source | Body,
        *,
        size: int | None = None,
        filename: str | None = None,
        media_type: str | None = None,
        public: bool = False,
        title: str | None = None,
        tags: Iterable[str] = (),
        metadata: Mapping[str, Any] | None = None,
        expires_in: int | None = None,
        expires_at: datetime | None = None,
        digest: str | None = None,
        idempotency_key: str | None = None,
        progress: Progress | None = None,
    ) -> Record:
        """Store one media and give its record; `duplicate` is set when the server already held these bytes.

        `source` is bytes, a path, an async iterable of bytes, or a function that gives one (which can then be sent again). `filename` defaults to a path's
        name. `media_type` is best left out: the server looks at the bytes and refuses what contradicts them. `digest` is the SHA-256 in hexadecimal
        that the server shall insist on; without it the digest that the server found is compared with one made while sending. Raises also: DigestMismatch.

        A file that is large goes on where it was after a broken connection, for as long as anything gets through; `idempotency_key` has it sent in one request.
        """
        body = source if isinstance(source, Body) else Body(source, size=size, progress=progress)
        headers = header_fields(
            filename=filename or (source.name if isinstance(source, Path) else None), title=title, tags=tags, metadata=metadata, public=public,
            expires_in=expires_in, expires_at=expires_at, media_type=media_type, digest=digest,
        )  # fmt: skip
        if body.file is not None and (body.size or 0) >= self._large and idempotency_key is None:
            return await self._in_pieces(body.file, headers, noted=False, progress=body.progress)
        # Without a key a repeated upload would still end as a duplicate of the first; with it the answer says 201 as the lost one did.
        headers["Idempotency-Key"] = idempotency_key or secrets.token_urlsafe(18)
        response = await self._transport.ask("POST", "/v1/media", repeatable=body.replayable, headers=headers, body=body)
        record = replace(await self._transport.read(response, Record), duplicate=response.status == 200)
        if record.digest != body.digest:
            raise DigestMismatch(f"the server stored other bytes than were sent, under the id {record.id}")
        return record

    async def resume(
        self,
        path: Path,
        *,
        filename: str | None = None,
        media_type: str | None = None,
        public: bool = False,
        title: str | None = None,
        tags: Iterable[str] = (),
        metadata: Mapping[str, Any] | None = None,
        progress: Progress | None = None,
    ) -> Record:
        """Store a file in as many requests as it takes, going on after broken connections; a later call goes on where an earlier one was ended.

        That one leaves a note beside the file, `NAME.upload`, which lets whoever reads it go on with the upload. Raises also: DigestMismatch.
        """
        headers = header_fields(
            filename=filename or path.name, title=title, tags=tags, metadata=metadata, public=public, media_type=media_type
        )
        return await self._in_pieces(path, headers, noted=True, progress=progress)

    async def _in_pieces(self, path: Path, headers: dict[str, str], *, noted: bool, progress: Progress | None) -> Record:
        file = await asyncio.to_thread(Opened, path)
        try:
            note = await asyncio.to_thread(file.digest) if noted else None
            if note is not None:
                headers["Repr-Digest"] = repr_digest(note)
            record, created = await send(
                self._transport, file, headers, read=lambda response: self._transport.read(response, Record), note=note, progress=progress
            )
            digest = await asyncio.to_thread(file.digest)
        finally:
            file.close()
        if record.digest != digest:
            raise DigestMismatch(f"the server stored other bytes than were sent, under the id {record.id}")
        return replace(record, duplicate=not created)

    async def get(
        self, id: str, target: Path, *, variant: str | None = None, resume: bool = True, progress: Progress | None = None
    ) -> Fetched:
        """Download to the file `target`: verified by its SHA-256, and there whole or not at all.

        The bytes collect in `target`.part, which a later call goes on with unless `resume` is off. Raises also: Conflict, DigestMismatch, OSError.
        """
        return await fetch_file(self._transport, _path(id, variant), target, resume=resume, progress=progress)

    @asynccontextmanager
    async def open(self, id: str, *, start: int = 0, stop: int | None = None, variant: str | None = None) -> AsyncIterator[Download]:
        """Read the bytes from `start` up to, not including, `stop` as a stream that goes on by itself after a broken connection.

        Raises also: RangeNotSatisfiable when `start` lies behind the end; while reading Conflict when the media changed meanwhile.
        """
        path = _path(id, variant)
        headers = {"Range": f"bytes={start}-{'' if stop is None else stop - 1}"} if start or stop is not None else {}
        download = Download(self._transport, path, await self._transport.ask("GET", path, repeatable=True, headers=headers), stop)
        try:
            yield download
        finally:
            download.close()

    def url(self, id: str, variant: str | None = None) -> str:
        """The plain URL, which opens public media for everybody and private ones with a token."""
        return self._transport.base + _path(id, variant)

    async def record(self, id: str) -> Record:
        """What is known of one media; `revision` is for `change`."""
        response = await self._transport.ask("GET", f"{_path(id)}/record", repeatable=True)
        return replace(await self._transport.read(response, Record), revision=response.headers.get("ETag"))

    async def list(self, *, limit: int | None = None, page_size: int = 100, **filters: str) -> AsyncIterator[Record]:
        """Go through the records, newest first, at most `limit`; `filters` are owner, tag, type, status and created_after, and quarantined for admins."""
        cursor: str | None = None
        left = limit
        while left is None or left > 0:
            params = {**filters, "limit": str(page_size if left is None else min(page_size, left))}
            if cursor is not None:
                params["cursor"] = cursor
            page = await self._transport.read(await self._transport.ask("GET", "/v1/media", repeatable=True, params=params), _Page)
            for record in page.items:
                yield record
            left = None if left is None else left - len(page.items)
            cursor = page.next
            if cursor is None:
                return

    async def change(self, id: str, *, if_match: str | None = None, **changes: Any) -> Record:
        """Change title, tags, public, expires_at or metadata; None clears. With `if_match`, a record's `revision`, nobody else's change is lost.

        Raises also: PreconditionFailed, DuplicateExists.
        """
        headers = {"If-Match": if_match} if if_match is not None else {}
        # With If-Match a repetition could meet the revision that its own lost try had made.
        response = await self._transport.ask(
            "PATCH", f"{_path(id)}/record", repeatable=if_match is None, headers=headers, json=_plain(changes)
        )
        return replace(await self._transport.read(response, Record), revision=response.headers.get("ETag"))

    async def delete(self, id: str, *, with_title: bool = False) -> None:
        """Delete one media for good, and the movie or episode that holds it where `with_title` is set. Raises also: MediaHeld."""
        gone = frozenset({404, 410})
        params = {"with_title": "true"} if with_title else {}
        response = await self._transport.ask("DELETE", _path(id), repeatable=True, done_already=gone, params=params)
        response.release()

    async def sign(
        self,
        id: str,
        *,
        expires: int | None = None,
        variant: str | None = None,
        prefix: bool = False,
        disposition: str | None = None,
        sub: str | None = None,
        ip: str | None = None,
    ) -> Signed:
        """Have the server make a signed link, good for `expires` seconds; its URL is absolute."""
        wish = {"expires": expires, "variant": variant, "prefix": prefix or None, "disposition": disposition, "sub": sub, "ip": ip}
        wish = {name: value for name, value in wish.items() if value is not None}
        signed = await self._transport.read(await self._transport.ask("POST", f"{_path(id)}/sign", repeatable=True, json=wish), Signed)
        return Signed(urljoin(self._transport.origin, signed.url), signed.expires_at)

    async def revoke(self, id: str) -> None:
        """Kill every link to this media that was made before now."""
        (await self._transport.ask("POST", f"{_path(id)}/revoke", repeatable=True)).release()

    async def quarantine(self, id: str, reason: str | None = None, *, scope: str = "digest") -> None:
        """Withhold one media (scope "media"), or with scope "digest" everything that has or descends from its bytes."""
        wish = {"scope": scope} | ({} if reason is None else {"reason": reason})
        (await self._transport.ask("POST", f"{_path(id)}/quarantine", repeatable=True, json=wish)).release()

    async def release(self, id: str) -> None:
        """Lift a quarantine."""
        (await self._transport.ask("DELETE", f"{_path(id)}/quarantine", repeatable=True)).release()

    async def purge(self, *ids: str, tags: Iterable[str] = (), everything: bool = False) -> int | None:
        """Kill every cached copy of the media `ids`, of those that carry one of `tags`, or of everything: exactly one of the three, and for administrators.

        Gives how many media that were, derived ones among them; None for everything. It is true of every server process when this returns.
        """
        tags = [tags] if isinstance(tags, str) else list(tags)
        wish = {name: value for name, value in (("media", list(ids)), ("tags", tags), ("all", everything)) if value}
        if len(wish) != 1:
            raise InvalidParameter("a purge is of ids, of tags, or of everything: exactly one of the three")
        response = await self._transport.ask("POST", "/v1/admin/purge", repeatable=True, json=wish)
        return (await self._transport.read(response, _Purged)).purged

    async def cache(self) -> dict[str, Any]:
        """What the cache of the answering server process holds and did, for administrators."""
        return await self._transport.read(await self._transport.ask("GET", "/v1/admin/cache", repeatable=True), dict[str, Any])

    async def explain(self, id: str) -> dict[str, Any]:
        """Why one media answers as it does, for administrators."""
        return await self._transport.read(await self._transport.ask("GET", f"{_path(id)}/explain", repeatable=True), dict[str, Any])


class _Page(msgspec.Struct, frozen=True):
    items: list[Record]
    next: str | None = None


class _Purged(msgspec.Struct, frozen=True):
    purged: int | None


def _path(id: str, variant: str | None = None) -> str:
    form = "" if variant is None else "/thumb" if variant == "thumb" else f"/v/{quote(variant, safe='=,-._~')}"
    return f"/v1/media/{quote(id, safe='')}{form}"


def _plain(changes: Mapping[str, Any]) -> Any:
    return msgspec.to_builtins(dict(changes))
