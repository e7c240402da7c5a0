"""The journey of an upload that goes past us: the client writes to the temporary storage by presigned URLs, says when it is through, and a job looks at the bytes.

Until that job has read the object once, verified it and placed what it read, the media is registered and has no bytes. What was written after the completion
is another object, and is refused.
"""

from collections.abc import AsyncIterator, Awaitable, Callable, Mapping, Sequence
from datetime import datetime, timedelta
from typing import Any, cast

import msgspec
from msgspec import Struct
from msgspec.structs import replace

from mediacdn.catalog.database import Catalog
from mediacdn.errors import (
    Conflict,
    DigestMismatch,
    DirectUploadsOff,
    Gone,
    InvalidParameter,
    MediaError,
    NotFound,
    PartsMissing,
    Quarantined,
    UploadGone,
)
from mediacdn.ingest import Ingest
from mediacdn.interfaces import Clock, MultipartUpload, Presigner, Storage
from mediacdn.jobs.backoff import hopeless
from mediacdn.jobs.runner import Running
from mediacdn.model import Change, Media, NewJob, ObjectInfo, Part, Principal, State, Status, Upload
from mediacdn.sniff import kind
from mediacdn.terms import Intake, Terms
from mediacdn.uploads.ending import problem
from mediacdn.uploads.parts import part_size
from mediacdn.uploads.sessions import Uploads

KIND, LANE = "verify", "imports"
WHOLE = 4
"""How many parts' bytes are still asked for in one PUT, where the storage takes parts at all."""
URLS = 1000
"""Parts into which one upload is cut, at most."""


class Target(Struct, frozen=True):
    """A part's number, the URL that takes it by PUT, and its size in bytes."""

    number: int
    url: str
    size: int


class Offer(Struct, frozen=True):
    """How a client sends the bytes: `method` is "put" for one object in one PUT, "multipart" for parts. `headers` belong to each PUT."""

    upload_id: str
    method: str
    parts: list[Target]
    headers: dict[str, str]
    expires_at: datetime


class Direct:
    """Direct uploads over the sessions."""

    def __init__(
        self,
        *,
        uploads: Uploads,
        catalog: Catalog,
        storages: Mapping[str, Storage],
        terms: Terms,
        clock: Clock,
        new_id: Callable[[], str],
        attempts: int,
    ) -> None:
        self._uploads = uploads
        self._rows = catalog.uploads
        self._media = catalog.media
        self._storages = storages
        self._terms = terms
        self._clock = clock
        self._new_id = new_id
        self._attempts = attempts
        self._settings = uploads.settings

    async def begin(self, principal: Principal, intake: Intake, size: int) -> Offer:
        """Begin one. Raises: DirectUploadsOff, TooLarge, TypeNotAllowed, QuotaExceeded, TooManyRequests, StorageUnavailable."""
        name = self._settings.direct
        storage: Any = self._storages.get(name or "")
        if name is None or not isinstance(storage, Presigner):
            raise DirectUploadsOff()
        self._terms.promise(intake, size)
        lifetime = timedelta(seconds=self._settings.direct_expires_in)
        parts = isinstance(storage, MultipartUpload) and size > WHOLE * self._settings.part_size
        each = part_size(cast(MultipartUpload, storage), max(self._settings.part_size, -(-size // URLS)), size) if parts else max(size, 1)
        upload, token = await self._uploads.create(
            principal, intake, size=size, role="direct", storage=name, part_size=each, lifetime=lifetime
        )
        key = _key(upload)
        begun = await cast(MultipartUpload, storage).begin_parts(key) if parts else ""
        taken = await self._rows.take(upload.id, 0)
        if taken is None or not await self._rows.stage(upload.id, taken[1].fence, storage=name, key=key, parts=begun, part_size=each):
            raise UploadGone()
        headers = {} if parts or intake.media_type is None else {"Content-Type": intake.media_type}
        targets = [
            Target(
                number,
                await storage.presign_part(key, begun, number, lifetime, size=span)
                if parts
                else await storage.presign_put(key, lifetime, size=size, media_type=intake.media_type),
                span,
            )
            for number, span in _spans(size, each)
        ]
        return Offer(token, "multipart" if parts else "put", targets, headers, upload.expires_at)

    async def complete(self, upload: Upload, named: Sequence[Part]) -> Media:
        """Hear that all is there; give the media that is registered for it. Told twice, it is done once.

        Raises: PartsMissing naming them, UploadGone when the storage knows nothing of them any more, InvalidParameter for parts that there cannot be,
        DigestMismatch for another size, Conflict, StorageUnavailable.
        """
        if upload.role != "direct":
            raise Conflict("Only direct uploads are completed so")
        spans = dict(_spans(upload.size or 0, upload.part_size))
        if strange := [part.number for part in named if part.number not in spans]:
            raise InvalidParameter(f"The upload has parts 1 to {len(spans)}, and no part {strange[0]}")
        if upload.state == "open":
            info = await self._object(upload, spans, {part.number: _bare(part.tag) for part in named if part.tag})
            if info.size != upload.size:
                raise DigestMismatch(f"{info.size} bytes were stored where {upload.size} were declared")
            job = NewJob(
                id=self._new_id(), kind=KIND, lane=LANE, media_id=upload.id, arguments={"upload": upload.id},
                fingerprint=f"{KIND}:{upload.id}", max_attempts=self._attempts, created_by=upload.owner,
            )  # fmt: skip
            await self._rows.register(upload.id, self._registered(upload), job, mark=info.etag)
        media = await self._media.get(upload.id)
        if media is None:
            raise Conflict("The upload was given up")
        return media

    async def _object(self, upload: Upload, spans: Mapping[int, int], told: Mapping[int, str]) -> ObjectInfo:
        storage = self._storages[upload.storage]
        if upload.parts:
            taker = cast(MultipartUpload, storage)
            try:
                there = {part.number: part for part in await taker.list_parts(upload.key, upload.parts)}
            except NotFound:  # put together by a call that was not heard of any more
                there = {}
            else:
                tags = {number: _bare(part.tag) for number, part in there.items()}
                missing = [number for number in spans if number not in tags or told.get(number, tags[number]) != tags[number]]
                if missing:
                    raise PartsMissing(f"Parts are missing, or are others than named: {_some(missing)}", parts=missing)
                return await taker.complete_parts(upload.key, upload.parts, [there[number] for number in spans])
        try:
            return await storage.head(upload.key)
        except NotFound:
            if upload.parts:
                raise UploadGone("The storage has lost the parts of this upload; begin another") from None
            raise PartsMissing("Nothing was sent to the storage", parts=list(spans)) from None

    def _registered(self, upload: Upload) -> Media:
        intake, now = msgspec.convert(upload.intake, Intake), self._clock.now()
        media_type = intake.media_type or "application/octet-stream"
        return Media(
            id=upload.id,
            owner=upload.owner,
            title=intake.title,
            filename=intake.filename,
            public=intake.public,
            status=Status.REGISTERED,
            kind=kind(media_type),
            media_type=media_type,
            tags=intake.tags,
            metadata=intake.metadata,
            storage="",
            created_at=now,
            updated_at=now,
            expires_at=self._terms.end_of(intake, now),
        )


class Promotion:
    """Does the jobs: reads the object once, and places what it has verified."""

    def __init__(
        self,
        *,
        uploads: Uploads,
        catalog: Catalog,
        storages: Mapping[str, Storage],
        ingest: Ingest,
        told: Callable[[Sequence[Change]], Awaitable[None]],
    ) -> None:
        self._uploads = uploads
        self._rows = catalog.uploads
        self._media = catalog.media
        self._storages = storages
        self._ingest = ingest
        self._told = told

    async def __call__(self, running: Running) -> None:
        upload = await self._rows.get(str(running.job.arguments.get("upload")))
        if upload is None or upload.state in ("failed", "gone"):
            raise Gone("The upload is gone")
        if upload.state == "done":
            return
        media = await self._media.get(upload.id)
        try:
            if media is None or media.state is State.DELETED:
                raise Gone("The media was deleted")
            if media.state is State.QUARANTINED:
                raise Quarantined()
            if not media.digest:
                await self._promote(upload, media, running)
        except MediaError as error:
            if hopeless(error) or running.job.attempts >= running.job.max_attempts:
                await self._told(await self._media.give_up(upload.id, error.detail))
                await self._rows.fail(upload.id, fence=None, error=problem(error))
                await self._uploads.staging.clean(upload)
            raise
        await self._rows.end(upload.id, fence=None, media_id=upload.id, created=True)
        await self._uploads.staging.clean(upload)

    async def _promote(self, upload: Upload, media: Media, running: Running) -> None:
        declared = msgspec.convert(upload.intake, Intake)
        intake = replace(declared, public=media.public, tags=media.tags, filename=media.filename, size=upload.size)
        stored = await self._ingest.store(
            Principal(upload.owner), self._object(upload, running), lambda: intake, metered=True, media_id=media.id, registered=media
        )
        await self._told(stored.changes)

    async def _object(self, upload: Upload, running: Running) -> AsyncIterator[bytes]:
        """The object that was completed, and no other. Raises: DigestMismatch, Gone."""
        storage, done = self._storages[upload.storage], 0
        await self._same(upload)
        async with storage.open(upload.key) as chunks:
            async for chunk in chunks:
                done += len(chunk)
                running.progress(done / max(1, upload.size or 1))
                yield chunk
        await self._same(upload)

    async def _same(self, upload: Upload) -> None:
        try:
            info = await self._storages[upload.storage].head(upload.key)
        except NotFound:
            raise Gone("The object is not in the storage any more") from None
        if (info.etag, info.size) != (upload.mark, upload.size):
            raise DigestMismatch("The object was replaced after the upload was completed")


def _key(upload: Upload) -> str:
    return f"uploads/{upload.id}.direct"


def _spans(size: int, each: int) -> list[tuple[int, int]]:
    """The parts' numbers and sizes; an empty upload has one of nothing."""
    return [(number, min(each, size - at)) for number, at in enumerate(range(0, max(size, 1), each), 1)]


def _bare(tag: str) -> str:
    """A part's mark without the quotes that it has as a field: clients name it as the storage answered it."""
    return tag.strip('"')


def _some(numbers: Sequence[int]) -> str:
    return ", ".join(map(str, numbers[:20])) + (" …" if len(numbers) > 20 else "")
