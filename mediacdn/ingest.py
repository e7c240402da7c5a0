"""The journey of an upload: stream in, count, hash, sniff and write in one pass; verify; make durable; record; only then acknowledge.

The storage's `put` is atomic, so whatever is wrong is raised from inside the stream that feeds it, and nothing is kept. The catalog's intent row is
written while the body arrives and must stand before the bytes are committed: bytes without a row are always found and swept.
"""

from collections.abc import AsyncGenerator, AsyncIterable, AsyncIterator, Callable, Iterable, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import aclosing
from typing import Protocol

from msgspec import Struct
from msgspec.structs import replace

from mediacdn.access import Access
from mediacdn.catalog.database import Catalog
from mediacdn.catalog.dedupe import dedupe_key
from mediacdn.catalog.derivatives import dedupe_key as derived_key
from mediacdn.catalog.objects import Settled
from mediacdn.catalog.uploads import Ending
from mediacdn.errors import DigestMismatch, InvalidParameter, TooLarge
from mediacdn.inspection import Inspection, Watch
from mediacdn.intents import Intents
from mediacdn.interfaces import Clock, Storage
from mediacdn.metering import Meter, batches, first, rejoined
from mediacdn.model import Change, Event, Incoming, Media, NewJob, ObjectInfo, Principal, State, Status
from mediacdn.sniff import HEAD, extension, kind
from mediacdn.terms import Intake, Terms
from mediacdn.threads import give_way


class Stored(Struct, frozen=True):
    """The outcome: the media, whether it is new, and which of the caller's parameters a duplicate made moot."""

    media: Media
    created: bool
    ignored: tuple[str, ...] = ()
    changes: Sequence[Change] = ()
    """Of a media that was registered before: to be told."""


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
        terms: Terms,
        access: Access,
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
        self.terms = terms
        self._access = access
        self._inspection = inspection
        self._clock = clock
        self._new_id = new_id
        self._emit = emit
        self._plan = plan
        self._ring = ring
        self._promotion = promotion
        self._threads = ThreadPoolExecutor(4, "hash", give_way)

    async def store(
        self,
        principal: Principal,
        chunks: AsyncIterable[bytes],
        intake: Callable[[], Intake],
        *,
        metered: bool = False,
        media_id: str | None = None,
        registered: Media | None = None,
    ) -> Stored:
        """Take a stream in. `intake` is asked at the start and again at the end, because a form's fields may follow its file.

        `metered` says that `admit` has already taken the body's bytes from the rate.
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
        media_type, limit, placement = self.terms.judge(principal, declared, head)
        storage_name = self.terms.routing.landing(placement)
        storage = self._storages[storage_name]
        media_id = media_id or self._new_id()
        key = original_key(media_id, media_type)
        final: list[tuple[Media, Sequence[NewJob]]] = []

        async def body() -> AsyncGenerator[bytes, None]:
            async for batch in rejoined(head, stream):
                if meter.size + len(batch) > limit:
                    raise TooLarge(f"At most {limit} bytes of {media_type} are accepted", max_upload_size=limit)
                if not metered:
                    await self.terms.take_bytes(principal, len(batch))
                await meter.feed(batch)
                if watch is not None:
                    await watch.feed(batch)
                yield batch
            digest = await meter.digest()
            media = self._record(principal, intake(), media_type, meter.size, digest, storage_name, media_id, key, registered)
            if self.terms.place(principal, intake(), media_type, meter.size if self.terms.routing.sized else None) != placement:
                raise InvalidParameter("Form fields that decide the storage must stand before the file")
            media, jobs = await self._judged(media, watch, placement)
            await stands()
            settled = await self._catalog.objects.settle(
                media,
                dedupe_key=self._own_key(media, placement),
                quota=self.terms.quota,
                jobs=jobs,
                registered=registered is not None,
            )
            if settled.kind != "new":
                raise _AlreadyHere(_outcome(settled, intake()), jobs)
            final.append((media, jobs))

        upload = _incoming(media_id, principal, media_type, declared)
        async with self._inspection.of(upload) as watch, self._intents.beside(storage_name, key) as stands:
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
        declared = replace(intake, size=staged.size)
        media_type, _, placement = self.terms.judge(principal, declared, await staged.head())
        storage_name = self.terms.routing.landing(placement)
        key = original_key(media_id, media_type)
        async with self._intents.again(storage_name, key, ending):
            info = await staged.become(storage_name, key)
            if info is None:
                return await self.store(principal, staged.chunks(), lambda: intake, metered=True, media_id=media_id)
            async with self._inspection.of(_incoming(media_id, principal, media_type, declared)) as watch:
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
            quota=self.terms.quota,
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
            if meter.size + len(batch) > self.terms.largest:
                raise TooLarge(f"At most {self.terms.largest} bytes are accepted", max_upload_size=self.terms.largest)
            await meter.feed(batch)
        return await meter.digest()

    def close(self) -> None:
        self._threads.shutdown(wait=False)

    def dedupe_key(self, media: Media) -> str | None:
        """The text under which a live media is unique: digest, visibility, placement and, under owner-only reading, the owner; of a derivative, what it was made of and how.
        None for one without bytes."""
        if not media.digest:
            return None
        if media.derivation_key is not None:
            return derived_key(media.derivation_key)
        return self._dedupe_key(media, self.terms.routing.destination(media))

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
            expires_at=self.terms.end_of(intake, now),
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


def _incoming(id: str, principal: Principal, media_type: str, declared: Intake) -> Incoming:
    return Incoming(
        id=id, owner=principal.id, media_type=media_type, size=declared.size, public=declared.public,
        filename=declared.filename, tags=declared.tags,
    )  # fmt: skip


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
