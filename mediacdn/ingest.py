"""The journey of an upload: stream in, count, hash, sniff and write in one pass; verify; make durable; record; only then acknowledge.

The storage's `put` is atomic, so whatever is wrong is raised from inside the stream that feeds it, and nothing is kept. The catalog's intent row is
written while the body arrives and must stand before the bytes are committed: bytes without a row are always found and swept.
"""

import asyncio
import hashlib
from collections.abc import AsyncGenerator, AsyncIterable, AsyncIterator, Awaitable, Callable, Iterable, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import aclosing, asynccontextmanager
from datetime import datetime, timedelta
from typing import Any

import anyio
from msgspec import Struct
from msgspec.structs import replace

from mediacdn.access import Access
from mediacdn.catalog.database import Catalog
from mediacdn.catalog.dedupe import dedupe_key
from mediacdn.config import Limits, Rule
from mediacdn.errors import DigestMismatch, InvalidParameter, MediaError, TooLarge, TooManyRequests, TypeMismatch, TypeNotAllowed
from mediacdn.http.media_types import matches, most_specific, normalise
from mediacdn.inspection import Inspection
from mediacdn.interfaces import Clock, Counters, Storage
from mediacdn.model import Event, Incoming, Media, NewJob, Principal, State, Status
from mediacdn.sniff import contradicts, extension, kind, sniff
from mediacdn.storage.placement import place

SNIFFED = 8192
BATCH = 1024 * 1024
OWED = 10_000
"""Idempotency keys at most that wait to be given free."""
INLINE_HASH = 64 * 1024  # below this a thread costs more than the hash


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


class _AlreadyHere(Exception):
    """Raised inside a put's stream to have the storage drop bytes that it already holds."""

    def __init__(self, stored: Stored, jobs: Sequence[NewJob]) -> None:
        self.stored = stored
        self.jobs = jobs


class _Meter:
    """Counts and hashes a stream; the hash of one batch runs in a thread while the next arrives."""

    def __init__(self, threads: ThreadPoolExecutor) -> None:
        self.size = 0
        self._sha256 = hashlib.sha256()
        self._threads = threads
        self._running: asyncio.Future[None] | None = None

    async def digest(self) -> str:
        await self._settled()
        return self._sha256.hexdigest()

    async def feed(self, batch: bytes) -> None:
        self.size += len(batch)
        await self._settled()
        if len(batch) <= INLINE_HASH:
            self._sha256.update(batch)
        else:
            self._running = asyncio.get_running_loop().run_in_executor(self._threads, self._sha256.update, batch)

    async def _settled(self) -> None:
        if self._running is not None:
            await self._running
            self._running = None


class Ingest:
    """`store`, bound to the rules, the catalog and the storages."""

    def __init__(
        self,
        *,
        catalog: Catalog,
        storages: Mapping[str, Storage],
        routing: tuple[Rule, ...],
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
        via: Mapping[str, str] | None = None,
        promotion: Callable[[Media, str], NewJob] | None = None,
    ) -> None:
        """`via` maps a storage to the one where its uploads land first; `promotion(media, storage)` is the job that brings one on."""
        self._catalog = catalog
        self._storages = storages
        self._default_storage = "default" if "default" in storages else next(iter(storages))
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
        self._via = via or {}
        self._promotion = promotion
        self._largest = max(limits.max_upload_size, *limits.by_type.values()) if limits.by_type else limits.max_upload_size
        self._flying: set[tuple[str, str]] = set()
        self._leases: set[str] = set()
        self._owed: set[str] = set()
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
    ) -> Stored:
        """Take a stream in. `intake` is asked at the start and again at the end, because a form's fields may follow its file.

        `metered` says that `admit` has already taken the body's bytes from the rate; `lease` is an idempotency lease to keep alive meanwhile.
        Durable when it returns.
        What an inspector quarantines is stored and withheld at once, for itself: it is no duplicate of another, and no other of it.
        Raises: TooLarge, TypeMismatch, TypeNotAllowed, DigestMismatch, QuotaExceeded, ContentRefused, ContentRejected, InspectionUnavailable, StorageFull,
        StorageUnavailable, CatalogUnavailable.
        """
        meter = _Meter(self._threads)
        stream = _batches(chunks)
        head = await _first(stream, SNIFFED)
        declared = intake()
        media_type = sniff(head[:SNIFFED])
        limit = self._check_type(declared, media_type)
        if declared.size is not None and declared.size > limit:
            raise TooLarge(f"At most {limit} bytes of {media_type} are accepted", max_upload_size=limit)
        placement = self._place(principal, declared, media_type)
        storage_name = self._via.get(placement, placement)
        storage = self._storages[storage_name]
        media_id = self._new_id()
        key = f"originals/{media_id}.{extension(media_type)}"
        final: list[tuple[Media, Sequence[NewJob]]] = []

        async def body() -> AsyncGenerator[bytes, None]:
            async for batch in _rejoined(head, stream):
                if meter.size + len(batch) > limit:
                    raise TooLarge(f"At most {limit} bytes of {media_type} are accepted", max_upload_size=limit)
                if not metered:
                    await self._take_bytes(principal, len(batch))
                await meter.feed(batch)
                if watch is not None:
                    await watch.feed(batch)
                yield batch
            media = self._record(principal, intake(), media_type, meter.size, await meter.digest(), storage_name, media_id, key)
            if self._place(principal, intake(), media_type, meter.size if self._sized else None) != placement:
                raise InvalidParameter("Form fields that decide the storage must stand before the file")
            withheld = None if watch is None else await watch.verdict()
            if withheld is not None:
                media = replace(media, state=State.QUARANTINED, quarantine_reason=withheld)
            jobs = () if withheld is not None else self._plan(media)
            if any(each.required for each in jobs):
                media = replace(media, status=Status.UPLOADED)
            if storage_name != placement and self._promotion is not None:
                jobs = (*jobs, self._promotion(media, placement))
            await intent()
            settled = await self._catalog.objects.settle(
                media, dedupe_key=self._own_key(media, placement), quota=self._limits.quota_per_owner, jobs=jobs
            )
            if settled.kind != "new":
                raise _AlreadyHere(_outcome(settled.kind, settled.media, intake()), jobs)
            final.append((media, jobs))

        upload = Incoming(
            id=media_id, owner=principal.id, media_type=media_type, size=declared.size, public=declared.public,
            filename=declared.filename, tags=declared.tags,
        )  # fmt: skip
        async with self._inspection.of(upload) as watch, self._leased(lease), self._intent(storage_name, key) as intent:
            try:
                async with aclosing(body()) as fed:
                    info = await storage.put(key, fed, size=declared.size)
            except _AlreadyHere as already:
                if already.stored.created:
                    self._tell(already.stored.media, already.jobs)
                return already.stored
            media, jobs = final[0]
            settled = await self._catalog.objects.commit(
                media, dedupe_key=self._own_key(media, placement), quota=self._limits.quota_per_owner, etag=info.etag, jobs=jobs
            )
            if settled.kind != "new":  # a twin won the race between the two looks; its bytes serve both, ours go
                await storage.delete(key)
                await self._catalog.objects.forget(storage_name, key)
        stored = _outcome(settled.kind, settled.media, intake())
        if stored.created:
            self._tell(stored.media, jobs)
        return stored

    async def digest(self, chunks: AsyncIterable[bytes]) -> str:
        """Hash a stream and keep nothing, for comparing a retried request with the first. Raises: TooLarge."""
        meter = _Meter(self._threads)
        async for batch in _batches(chunks):
            if meter.size + len(batch) > self._largest:
                raise TooLarge(f"At most {self._largest} bytes are accepted", max_upload_size=self._largest)
            await meter.feed(batch)
        return await meter.digest()

    def close(self) -> None:
        self._threads.shutdown(wait=False)

    async def heartbeat(self) -> None:
        """Tell the catalog which uploads are alive, so that no sweeper takes them for abandoned. Called every few seconds."""
        if self._flying:
            await self._catalog.objects.touch(list(self._flying))

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
        with anyio.CancelScope(shield=True), anyio.move_on_after(5):
            try:
                await self._catalog.idempotency.drop(lease)
            except MediaError:
                return
            self._owed.discard(lease)

    def dedupe_key(self, media: Media) -> str:
        """The text under which a live media is unique: digest, visibility, placement and, under owner-only reading, the owner."""
        storage = media.storage
        if storage in self._via.values() and media.source_id is None:  # it is on its way to where the rules put it
            storage = place(
                self._routing,
                self._default_storage,
                media_type=media.media_type,
                size=media.size,
                tags=media.tags,
                owner=media.owner,
                public=media.public,
            )[0]
        return self._dedupe_key(media, storage)

    @asynccontextmanager
    async def _intent(self, storage: str, key: str) -> AsyncIterator[Callable[[], Awaitable[None]]]:
        """Write the intent row beside the arriving body, and give a function that waits for it. A failure takes the row back."""
        self._flying.add((storage, key))
        writing = asyncio.create_task(self._catalog.objects.intend(storage, key))
        try:
            yield lambda: asyncio.shield(writing)
        except BaseException:
            with anyio.CancelScope(shield=True):
                await self._take_back(storage, key, writing)
            raise
        finally:
            self._flying.discard((storage, key))

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

    async def _take_back(self, storage: str, key: str, writing: asyncio.Task[None]) -> None:
        """Best effort, at most 5 s: what stays is swept by age. Only a row that is still an intent is taken back: a lost answer to a commit may hide its success."""
        with anyio.move_on_after(5):
            try:
                await asyncio.wait([writing])
                if writing.exception() is None and await self._catalog.objects.abandon(storage, key):
                    await self._storages[storage].delete(key)
                    await self._catalog.objects.forget(storage, key)
            except MediaError:
                return

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

    @property
    def _sized(self) -> bool:
        return any(rule.min_size is not None or rule.max_size is not None for rule in self._routing)

    def _place(self, principal: Principal, intake: Intake, media_type: str, size: int | None = None) -> str:
        size = intake.size if size is None else size
        name, _ = place(
            self._routing,
            self._default_storage,
            media_type=media_type,
            size=size,
            tags=intake.tags,
            owner=principal.id,
            public=intake.public,
        )
        return name

    def _record(
        self, principal: Principal, intake: Intake, media_type: str, size: int, digest: str, storage: str, media_id: str, key: str
    ) -> Media:
        if intake.sha256 is not None and intake.sha256 != digest:
            raise DigestMismatch("The bytes received do not have the declared SHA-256", computed=digest)
        if intake.size is not None and intake.size != size:
            raise DigestMismatch(f"{size} bytes were received where {intake.size} were declared")
        now = self._clock.now()
        expires_at = intake.expires_at
        if expires_at is None and self._default_lifetime:
            expires_at = now + timedelta(seconds=self._default_lifetime)
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
            expires_at=expires_at,
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


def _wait(seconds: float, of: str) -> TooManyRequests:
    return TooManyRequests(f"Too many {of}; try again later", headers={"Retry-After": str(max(1, int(seconds + 0.999)))})


def _outcome(found: str, media: Media, intake: Intake) -> Stored:
    if found != "duplicate":
        return Stored(media, created=True)
    moot = [
        name
        for name in ("title", "filename", "tags", "metadata")
        if getattr(intake, name) and getattr(intake, name) != getattr(media, name)
    ]
    if intake.expires_at != media.expires_at:  # also when none was asked for: the first owner's media ends when it says
        moot.append("expires_at")
    return Stored(media, created=False, ignored=tuple(moot))


async def _batches(chunks: AsyncIterable[bytes]) -> AsyncIterator[bytes]:
    """Join what arrives to batches of about 1 MiB: one hand-over to a thread each, instead of one for every 64 KiB."""
    waiting: list[bytes] = []
    size = 0
    async for chunk in chunks:
        if not chunk:
            continue
        waiting.append(chunk)
        size += len(chunk)
        if size >= BATCH:
            yield b"".join(waiting)
            waiting, size = [], 0
    if waiting:
        yield b"".join(waiting)


async def _first(stream: AsyncIterator[bytes], least: int) -> bytes:
    head = b""
    while len(head) < least:
        batch = await anext(stream, None)
        if batch is None:
            break
        head += batch
    return head


async def _rejoined(head: bytes, stream: AsyncIterator[bytes]) -> AsyncIterator[bytes]:
    if head:
        yield head
    async for batch in stream:
        yield batch
