"""The journey of an upload: stream in, count, hash, sniff and write in one pass; verify; make durable; record; only then acknowledge.

The storage's `put` is atomic, so whatever is wrong is raised from inside the stream that feeds it, and nothing is kept. The catalog's intent row is
written while the body arrives and must stand before the bytes are committed: bytes without a row are always found and swept.
"""

from collections.abc import AsyncGenerator, AsyncIterable, AsyncIterator, Callable, Iterable, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import aclosing, asynccontextmanager
from datetime import datetime, timedelta
from typing import Any, Protocol

import anyio
from msgspec import Struct
from msgspec.structs import replace

from mediacdn.access import Access
from mediacdn.catalog.database import Catalog
from mediacdn.catalog.dedupe import dedupe_key
from mediacdn.catalog.derivatives import dedupe_key as derived_key
from mediacdn.catalog.objects import Settled
from mediacdn.catalog.uploads import Ending
from mediacdn.config import Limits
from mediacdn.errors import DigestMismatch, InvalidParameter, MediaError, TooLarge, TooManyRequests, TypeMismatch, TypeNotAllowed
from mediacdn.http.media_types import matches, most_specific, normalise
from mediacdn.inspection import Inspection, Watch
from mediacdn.intents import Intents
from mediacdn.interfaces import Clock, Counters, Storage
from mediacdn.metering import Meter, batches, first, rejoined
from mediacdn.model import Change, Event, Incoming, Media, NewJob, ObjectInfo, Principal, State, Status
from mediacdn.sniff import HEAD, contradicts, extension, kind, sniff
from mediacdn.storage.placement import Routing, Subject
from mediacdn.tidying import Tidying


class Intake(Struct, frozen=True, kw_only=True):
    """What an uploader declares. `sha256` is lower-case hexadecimal; `expires_in` seconds; `size` the declared length of the media, where known."""

    public: bool = False
    title: str | None = None
    filename: str | None = None
    tags: tuple[str, ...] = ()
    metadata: dict[str, Any] = {}
    expires_at: datetime | None = None
    media_type: str | None = None
    sha256: str | None = None
    size: int | None = None


class Stored(Struct, frozen=True):
    """The outcome: the media, whether it is new, and which of the caller's parameters a duplicate made moot."""

    media: Media
    created: bool
    ignored: tuple[str, ...] = ()
    changes: Sequence[Change] = ()
    """Of a media that was registered before: to be told."""


OWED = 10_000
"""Idempotency keys at most that wait to be given free."""


class _AlreadyHere(Exception):
    """Raised inside a put's stream to have the storage drop bytes that it already holds."""

    def __init__(self, stored: Stored, jobs: Sequence[NewJob]) -> None:
        self.stored = stored
        self.jobs = jobs


class Staged(Protocol):
    """The bytes of an upload that arrived in pieces, whole and durable by now. All of it may be asked again after a failure, also by another process."""

    @property
    def size(self) -> int: ...

    @property
    def digest(self) -> str | None:
        """Their SHA-256 in hexadecimal, where all of them passed by while they arrived."""
        ...

    async def head(self) -> bytes:
        """The first bytes, as many as decide the type."""
        ...

    def chunks(self) -> AsyncIterator[bytes]:
        """All of them, in order."""
        ...

    async def become(self, storage: str, key: str) -> ObjectInfo | None:
        """Make them an object of that storage without passing through here; None where that cannot be."""
        ...


class Ingest:
    """`store`, bound to the rules, the catalog and the storages."""

    def __init__(
        self,
        *,
        catalog: Catalog,
        storages: Mapping[str, Storage],
        intents: Intents,
        routing: Routing,
        limits: Limits,
        default_lifetime: int,
        access: Access,
        counters: Counters,
        inspection: Inspection,
        clock: Clock,
        new_id: Callable[[], str],
        emit: Callable[[Event], None],
        plan: Callable[[Media], Sequence[NewJob]] = lambda media: (),
        ring: Callable[[Iterable[NewJob]], None] = lambda jobs: None,
        promotion: Callable[[Media, str], NewJob] | None = None,
    ) -> None:
        """`promotion(media, storage)` is the job that brings a media on from where it landed."""
        self._catalog = catalog
        self._storages = storages
        self._intents = intents
        self._routing = routing
        self._limits = limits
        self._default_lifetime = default_lifetime
        self._access = access
        self._counters = counters
        self._inspection = inspection
        self._clock = clock
        self._new_id = new_id
        self._emit = emit
        self._plan = plan
        self._ring = ring
        self._promotion = promotion
        self._largest = limits.largest
        self._leases: set[str] = set()
        self._owed: set[str] = set()
        self._tidying = Tidying()
        self._threads = ThreadPoolExecutor(4, "hash")

    @property
    def largest(self) -> int:
        """The size in bytes above which no type is accepted."""
        return self._largest

    async def admit(self, principal: Principal, size: int | None) -> None:
        """Refuse at once what need not be read: too many requests, or a declared size over the largest limit. Raises: TooManyRequests, TooLarge."""
        if size is not None and size > self._largest:
            raise TooLarge(f"At most {self._largest} bytes are accepted", max_upload_size=self._largest)
        limits = self._limits
        if limits.uploads_per_second > 0:
            wait = await self._counters.take(f"uploads:{principal.id}", 1, limits.uploads_per_second, limits.uploads_burst)
            if wait:
                raise _wait(wait, "uploads")
        if size:
            await self._take_bytes(principal, size)

    async def store(
        self,
        principal: Principal,
        chunks: AsyncIterable[bytes],
        intake: Callable[[], Intake],
        *,
        metered: bool = False,
        lease: str | None = None,
        media_id: str | None = None,
        registered: Media | None = None,
    ) -> Stored:
        """Take a stream in. `intake` is asked at the start and again at the end, because a form's fields may follow its file.

        `metered` says that `admit` has already taken the body's bytes from the rate; `lease` is an idempotency lease to keep alive meanwhile.
        `media_id` is the media's where it was told before; `registered` is its record where there is one that waits for its bytes.
        Durable when it returns.
        What an inspector quarantines is stored and withheld at once, for itself: it is no duplicate of another, and no other of it.
        Raises: TooLarge, TypeMismatch, TypeNotAllowed, DigestMismatch, QuotaExceeded, ContentRefused, ContentRejected, InspectionUnavailable, StorageFull,
        StorageUnavailable, CatalogUnavailable.
        """
        meter = Meter(self._threads)
        stream = batches(chunks)
        head = await first(stream, HEAD)
        declared = intake()
        media_type, limit, placement = self.judge(principal, declared, head)
        storage_name = self.landing(placement)
        storage = self._storages[storage_name]
        media_id = media_id or self._new_id()
        key = original_key(media_id, media_type)
        final: list[tuple[Media, Sequence[NewJob]]] = []

        async def body() -> AsyncGenerator[bytes, None]:
            async for batch in rejoined(head, stream):
                if meter.size + len(batch) > limit:
                    raise TooLarge(f"At most {limit} bytes of {media_type} are accepted", max_upload_size=limit)
                if not metered:
                    await self._take_bytes(principal, len(batch))
                await meter.feed(batch)
                if watch is not None:
                    await watch.feed(batch)
                yield batch
            digest = await meter.digest()
            media = self._record(principal, intake(), media_type, meter.size, digest, storage_name, media_id, key, registered)
            if self._place(principal, intake(), media_type, meter.size if self._routing.sized else None) != placement:
                raise InvalidParameter("Form fields that decide the storage must stand before the file")
            media, jobs = await self._judged(media, watch, placement)
            await stands()
            settled = await self._catalog.objects.settle(
                media,
                dedupe_key=self._own_key(media, placement),
                quota=self._limits.quota_per_owner,
                jobs=jobs,
                registered=registered is not None,
            )
            if settled.kind != "new":
                raise _AlreadyHere(_outcome(settled, intake()), jobs)
            final.append((media, jobs))

        upload = Incoming(
            id=media_id, owner=principal.id, media_type=media_type, size=declared.size, public=declared.public,
            filename=declared.filename, tags=declared.tags,
        )  # fmt: skip
        async with self._inspection.of(upload) as watch, self._leased(lease), self._intents.beside(storage_name, key) as stands:
            try:
                async with aclosing(body()) as fed:
                    info = await storage.put(key, fed, size=declared.size)
            except _AlreadyHere as already:
                if already.stored.created:
                    self._tell(already.stored.media, already.jobs)
                return already.stored
            media, jobs = final[0]
            return await self._commit(media, jobs, info, intake(), placement, registered=registered is not None)

    async def take(
        self,
        principal: Principal,
        staged: Staged,
        intake: Intake,
        *,
        media_id: str,
        ending: Ending,
    ) -> Stored:
        """Take in what arrived in pieces: as `store`, without another copy of the bytes where the storage can have them as they lie.

        They become an object first and are looked at then: nothing but the catalog's row makes an object readable.
        `ending` learns of their storage and key before, and is written down with the record, before the bytes of a duplicate go: who dies there leaves nothing undone.
        What fails for a fault of the moment leaves all in place and may be tried again; what is refused is gone.
        Raises: as `store`, TooManyRequests excepted; TakenOver when another ends the upload by now.
        """
        media_type, _, placement = self.judge(principal, replace(intake, size=staged.size), await staged.head())
        storage_name = self.landing(placement)
        key = original_key(media_id, media_type)
        async with self._intents.again(storage_name, key, ending):
            info = await staged.become(storage_name, key)
            if info is None:
                return await self.store(principal, staged.chunks(), lambda: intake, metered=True, media_id=media_id)
            upload = Incoming(
                id=media_id, owner=principal.id, media_type=media_type, size=staged.size, public=intake.public,
                filename=intake.filename, tags=intake.tags,
            )  # fmt: skip
            async with self._inspection.of(upload) as watch:
                digest = staged.digest
                if digest is None or watch is not None:
                    meter = Meter(self._threads)
                    async with self._storages[storage_name].open(key) as chunks:
                        async for batch in batches(chunks):
                            await meter.feed(batch)
                            if watch is not None:
                                await watch.feed(batch)
                    digest = await meter.digest()
                media = self._record(principal, intake, media_type, info.size, digest, storage_name, media_id, key, None)
                media, jobs = await self._judged(media, watch, placement)
                return await self._commit(media, jobs, info, intake, placement, registered=False, ending=ending)

    def promise(self, intake: Intake, size: int) -> None:
        """Refuse what could only be refused, going by what is declared alone. Raises: TooLarge, TypeNotAllowed."""
        limit = self._largest if intake.media_type is None else self._check_type(intake, intake.media_type)
        if size > limit:
            raise TooLarge(f"At most {limit} bytes are accepted", max_upload_size=limit)

    def end_of(self, intake: Intake, now: datetime) -> datetime | None:
        """When a media with these parameters expires."""
        if intake.expires_at is None and self._default_lifetime:
            return now + timedelta(seconds=self._default_lifetime)
        return intake.expires_at

    def judge(self, principal: Principal, intake: Intake, head: bytes) -> tuple[str, int, str]:
        """Tell from an upload's first bytes its type, the limit of its size, and the storage in which it belongs. Raises: TypeMismatch, TypeNotAllowed, TooLarge."""
        media_type = sniff(head[:HEAD])
        limit = self._check_type(intake, media_type)
        if intake.size is not None and intake.size > limit:
            raise TooLarge(f"At most {limit} bytes of {media_type} are accepted", max_upload_size=limit)
        return media_type, limit, self._place(principal, intake, media_type)

    def guess(self, principal: Principal, intake: Intake, head: bytes) -> tuple[str, str]:
        """As `judge`, of bytes that are too few to tell, or are not an upload's first: a type and a storage to begin with. Refuses nothing."""
        media_type = sniff(head[:HEAD])
        return media_type, self._place(principal, intake, media_type)

    def landing(self, placement: str) -> str:
        """The storage in which what belongs in `placement` arrives."""
        return self._routing.landing(placement)

    async def take_bytes(self, principal: Principal, size: int) -> None:
        """Take bytes that were not told beforehand from the caller's rate. Raises: TooManyRequests."""
        await self._take_bytes(principal, size)

    async def _judged(self, media: Media, watch: Watch | None, placement: str) -> tuple[Media, Sequence[NewJob]]:
        """The media as the inspectors leave it, with the jobs it gets."""
        withheld = None if watch is None else await watch.verdict()
        if withheld is not None:
            media = replace(media, state=State.QUARANTINED, quarantine_reason=withheld)
        jobs = () if withheld is not None else self._plan(media)
        if any(each.required for each in jobs):
            media = replace(media, status=Status.UPLOADED)
        if media.storage != placement and self._promotion is not None:
            jobs = (*jobs, self._promotion(media, placement))
        return media, jobs

    async def _commit(
        self,
        media: Media,
        jobs: Sequence[NewJob],
        info: ObjectInfo,
        intake: Intake,
        placement: str,
        *,
        registered: bool,
        ending: Ending | None = None,
    ) -> Stored:
        """Record a media whose bytes stand at its key."""
        settled = await self._catalog.objects.commit(
            media,
            dedupe_key=self._own_key(media, placement),
            quota=self._limits.quota_per_owner,
            etag=info.etag,
            jobs=jobs,
            registered=registered,
            ending=ending,
        )
        if settled.kind != "new":  # a twin won the race between the two looks; its bytes serve both, ours go
            await self._intents.drop(media.storage, media.storage_key)
        stored = _outcome(settled, intake)
        if stored.created:
            self._tell(stored.media, jobs)
        return stored

    async def digest(self, chunks: AsyncIterable[bytes]) -> str:
        """Hash a stream and keep nothing, for comparing a retried request with the first. Raises: TooLarge."""
        meter = Meter(self._threads)
        async for batch in batches(chunks):
            if meter.size + len(batch) > self._largest:
                raise TooLarge(f"At most {self._largest} bytes are accepted", max_upload_size=self._largest)
            await meter.feed(batch)
        return await meter.digest()

    def close(self) -> None:
        self._tidying.close()
        self._threads.shutdown(wait=False)

    async def keep_leases(self) -> None:
        """Lengthen the leases of idempotency keys whose uploads are alive, and give those free that an outage kept. Called every few seconds."""
        for lease in list(self._owed):
            await self._catalog.idempotency.drop(lease)
            self._owed.discard(lease)
        for lease in list(self._leases):
            await self._catalog.idempotency.touch(lease)

    async def release(self, lease: str) -> None:
        """Give an idempotency key free after a failed request, later when the catalog is away; best effort, the lease ends by itself."""
        if len(self._owed) < OWED:
            self._owed.add(lease)
        await self._tidying(self._drop(lease))

    async def _drop(self, lease: str) -> None:
        with anyio.move_on_after(5):
            try:
                await self._catalog.idempotency.drop(lease)
            except MediaError:
                return
            self._owed.discard(lease)

    def dedupe_key(self, media: Media) -> str | None:
        """The text under which a live media is unique: digest, visibility, placement and, under owner-only reading, the owner; of a derivative, what it was made of and how.
        None for one without bytes."""
        if not media.digest:
            return None
        if media.derivation_key is not None:
            return derived_key(media.derivation_key)
        landed = media.storage in self._routing.via.values() and media.source_id is None  # it is on its way to where the rules put it
        return self._dedupe_key(media, self._routing.belongs(media) if landed else media.storage)

    @asynccontextmanager
    async def _leased(self, lease: str | None) -> AsyncIterator[None]:
        if lease is None:
            yield
            return
        self._leases.add(lease)
        try:
            yield
        finally:
            self._leases.discard(lease)

    async def _take_bytes(self, principal: Principal, size: int) -> None:
        rate = self._limits.upload_bytes_per_second
        if rate > 0:
            burst = self._limits.upload_bytes_burst or rate * 10
            wait = await self._counters.take(f"bytes:{principal.id}", size, rate, burst)
            if wait:
                raise _wait(wait, "uploaded bytes")

    def _check_type(self, declared: Intake, found: str) -> int:
        """The size limit of this type. Raises: TypeMismatch, TypeNotAllowed."""
        limits = self._limits
        if declared.media_type is not None and contradicts(declared.media_type, found):
            raise TypeMismatch(f"Declared as {normalise(declared.media_type)}, but the bytes are {found}")
        if any(matches(pattern, found) for pattern in limits.deny_types) or not any(matches(p, found) for p in limits.allow_types):
            raise TypeNotAllowed(f"Media of type {found} are not accepted here")
        by_type = most_specific(limits.by_type, found)
        return limits.max_upload_size if by_type is None else by_type

    def _place(self, principal: Principal, intake: Intake, media_type: str, size: int | None = None) -> str:
        size = intake.size if size is None else size
        upload = Subject(media_type=media_type, size=size, tags=intake.tags, owner=principal.id, public=intake.public)
        return self._routing.place(upload).storage

    def _record(
        self,
        principal: Principal,
        intake: Intake,
        media_type: str,
        size: int,
        digest: str,
        storage: str,
        media_id: str,
        key: str,
        registered: Media | None,
    ) -> Media:
        if intake.sha256 is not None and intake.sha256 != digest:
            raise DigestMismatch("The bytes received do not have the declared SHA-256", computed=digest)
        if intake.size is not None and intake.size != size:
            raise DigestMismatch(f"{size} bytes were received where {intake.size} were declared")
        now = self._clock.now()
        if registered is not None:
            bytes_ = {"status": Status.READY, "kind": kind(media_type), "media_type": media_type, "size": size, "digest": digest}
            return replace(registered, storage=storage, storage_key=key, updated_at=now, **bytes_)
        return Media(
            id=media_id,
            owner=principal.id,
            title=intake.title,
            filename=intake.filename,
            public=intake.public,
            status=Status.READY,
            kind=kind(media_type),
            media_type=media_type,
            size=size,
            digest=digest,
            tags=intake.tags,
            metadata=intake.metadata,
            storage=storage,
            storage_key=key,
            created_at=now,
            updated_at=now,
            expires_at=self.end_of(intake, now),
        )

    def _dedupe_key(self, media: Media, placement: str) -> str:
        return dedupe_key(media.digest, media.public, placement, self._access.dedupe_owner(media.owner))

    def _own_key(self, media: Media, placement: str) -> str | None:
        return None if media.state is State.QUARANTINED else self._dedupe_key(media, placement)

    def _tell(self, media: Media, jobs: Sequence[NewJob]) -> None:
        self._ring(jobs)
        if media.state is State.QUARANTINED:
            self._emit(Event("media.quarantined", media.id, media.created_at, {"scope": "inspection"}))
            return
        self._emit(Event("media.stored", media.id, media.created_at, {"media_type": media.media_type, "size": media.size}))


def original_key(media_id: str, media_type: str) -> str:
    """Where an original lies in its storage."""
    return f"originals/{media_id}.{extension(media_type)}"


def _wait(seconds: float, of: str) -> TooManyRequests:
    return TooManyRequests(f"Too many {of}; try again later", headers={"Retry-After": str(max(1, int(seconds + 0.999)))})


def _outcome(settled: Settled, intake: Intake) -> Stored:
    media = settled.media
    if settled.kind != "duplicate":
        return Stored(media, created=True, changes=settled.changes)
    moot = [
        name
        for name in ("title", "filename", "tags", "metadata")
        if getattr(intake, name) and getattr(intake, name) != getattr(media, name)
    ]
    if intake.expires_at != media.expires_at:  # also when none was asked for: the first owner's media ends when it says
        moot.append("expires_at")
    return Stored(media, created=False, ignored=tuple(moot))
