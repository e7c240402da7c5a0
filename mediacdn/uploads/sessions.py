"""The journey of an upload in more than one request: begun by a principal, gone on with by whoever has its URL, ended as any upload ends.

A new request takes the writing from the one before it at once: a client whose connection broke comes back before the server knows. The former is stopped where
it runs in this process, and elsewhere finds that its fence is lost; what it still writes is nobody's. Reading how far an upload has come touches nothing.
"""

import asyncio
import hashlib
import hmac
import secrets
from collections.abc import AsyncIterator, Awaitable, Callable, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import suppress
from datetime import timedelta
from pathlib import Path
from typing import Any

import anyio
import msgspec
import structlog
from msgspec.structs import replace

from mediacdn.catalog.database import Catalog
from mediacdn.catalog.uploads import Ending, Step
from mediacdn.config import Uploads as Settings
from mediacdn.errors import Conflict, InvalidParameter, MediaError, NotFound, OffsetMismatch, TakenOver, TooLarge, UploadGone
from mediacdn.http.tus import Checksum
from mediacdn.ingest import Ingest, Stored, original_key
from mediacdn.interfaces import Clock, MultipartUpload, Storage
from mediacdn.jobs.backoff import hopeless
from mediacdn.metering import batches, first, rejoined
from mediacdn.model import Principal, Upload
from mediacdn.sniff import HEAD
from mediacdn.terms import Intake
from mediacdn.ulids import is_ulid
from mediacdn.uploads.ending import Joined, Refused
from mediacdn.uploads.files import Files
from mediacdn.uploads.parts import Parts, part_size
from mediacdn.uploads.staging import Place
from mediacdn.uploads.writer import Meters, Rules, Writer

LEASE = 10.0
"""Seconds after which an ending whose process was not heard of is another's to do."""
log = structlog.get_logger("mediacdn.uploads")


class Uploads:
    """Uploads in several requests, over the catalog, the storages and ingest. Its `files` belong to the data directory."""

    def __init__(
        self,
        *,
        catalog: Catalog,
        storages: Mapping[str, Storage],
        ingest: Ingest,
        settings: Settings,
        data: Path,
        clock: Clock,
        new_id: Callable[[], str],
    ) -> None:
        self._rows = catalog.uploads
        self._media = catalog.media
        self._storages = storages
        self._ingest = ingest
        self._terms = ingest.terms
        self.settings = settings
        self._quota = ingest.terms.quota
        self._clock = clock
        self._new_id = new_id
        self._lifetime = timedelta(seconds=settings.expires_in)
        self._threads = ThreadPoolExecutor(4, "upload-hash")
        self._meters = Meters(self._threads)
        self._files = Files(data / (settings.directory or "uploads"), self._rows, storages)
        self._parts = Parts(self._rows, catalog.objects, storages)
        self._writing: dict[str, asyncio.Task[Upload]] = {}
        self._endings: dict[str, asyncio.Task[Stored]] = {}
        self._cleaning: set[asyncio.Task[None]] = set()

    async def close(self) -> None:
        """Stop what runs: endings are taken up again by whoever asks next, or by a worker."""
        running = [*self._endings.values(), *self._writing.values(), *self._cleaning]
        for task in running:
            task.cancel()
        if running:
            await asyncio.wait(running, timeout=5)
        self._files.close()
        self._threads.shutdown(wait=False)

    # A session's beginning, and how it is found again.

    async def create(
        self,
        principal: Principal,
        intake: Intake,
        *,
        size: int | None,
        role: str = "whole",
        told: str = "",
        concat: str = "",
        lifetime: timedelta | None = None,
        **more: Any,
    ) -> tuple[Upload, str]:
        """Begin an upload: its row, and the token in its URL, which nobody can learn again. Raises: TooLarge, TooManyRequests, QuotaExceeded."""
        await self._terms.admit(principal, size)
        secret = secrets.token_urlsafe(32)
        now = self._clock.now()
        new = Upload(
            id=self._new_id(),
            secret=_hashed(secret),
            owner=principal.id,
            role=role,
            size=size,
            metered=size is not None,
            intake=msgspec.to_builtins(intake),
            told=told,
            concat=concat,
            created_at=now,
            expires_at=now + (lifetime or self._lifetime),
            **more,
        )
        await self._rows.create(new, most=self.settings.per_owner, quota=self._quota)
        return new, f"{new.id}.{secret}"

    async def find(self, token: str, principal: Principal | None = None) -> Upload:
        """The upload of a URL. Who comes with somebody else's token finds nothing. Raises: NotFound, UploadGone."""
        name, _, secret = token.partition(".")
        upload = await self._rows.get(name) if is_ulid(name) else None
        if upload is None or not hmac.compare_digest(upload.secret, _hashed(secret)):
            raise NotFound("There is no such upload")
        if principal is not None and principal.id != upload.owner:
            raise NotFound("There is no such upload")
        if upload.state == "gone" or (upload.state == "open" and upload.expires_at <= self._clock.now()):
            raise UploadGone()
        return upload

    # Its bytes.

    async def append(
        self,
        upload: Upload,
        chunks: AsyncIterator[bytes],
        *,
        offset: int,
        coming: int | None,
        size: int | None = None,
        complete: bool | None = None,
        checksum: Checksum | None = None,
        tell: Callable[[int], Awaitable[None]] | None = None,
    ) -> Upload:
        """Write a request's bytes from `offset`; `coming` is how many it declares, `size` the whole, `complete` whether this is the end where the size does not say.

        Raises: OffsetMismatch, InvalidParameter, TooLarge, TooManyRequests, TypeMismatch, TypeNotAllowed, ChecksumMismatch, TakenOver, UploadGone, Refused,
        StorageFull, StorageUnavailable, what `chunks` raises; what arrived is kept, but for a checksum.
        """
        if upload.role in ("final", "direct"):
            raise Conflict("This upload takes no bytes here")
        if upload.state == "failed":
            raise Refused(upload.error or {})
        size = self._size(upload, offset, coming, size, complete)
        if upload.received != offset:
            raise _mismatch(upload, offset)
        if upload.state != "open":
            if coming or coming is None:
                raise InvalidParameter("The upload is complete, and more was sent")
            return upload
        if not upload.metered:
            if coming:
                await self._terms.take_bytes(Principal(upload.owner), coming)
            elif coming is None:
                broken: list[Exception] = []
                chunks = _broken(self._counted(Principal(upload.owner), _until_broken(chunks, broken)), broken)
        taken = await self._rows.take(upload.id, offset)
        if taken is None:
            return await self._late(upload, offset)
        before, row = taken
        former = self._writing.get(row.id)
        if former is not None:
            former.cancel()
        rules = Rules(size, self._terms.largest, complete, checksum, self._lifetime, self._quota if upload.size is None else 0)
        task = asyncio.create_task(self._written(row, chunks, rules, fresh=before.held, tell=tell))
        self._writing[row.id] = task
        try:
            return await task
        except asyncio.CancelledError:
            if task.cancelled() and self._writing.get(row.id) is not task:
                raise TakenOver() from None
            task.cancel()
            with anyio.CancelScope(shield=True):
                await asyncio.wait({task}, timeout=5)
            raise
        finally:
            if self._writing.get(row.id) is task:
                del self._writing[row.id]

    async def _counted(self, owner: Principal, chunks: AsyncIterator[bytes]) -> AsyncIterator[bytes]:
        """Take from the rate what comes without having been announced, before it counts. Raises: TooManyRequests."""
        async for batch in batches(chunks):
            await self._terms.take_bytes(owner, len(batch))
            yield batch

    def _size(self, upload: Upload, offset: int, coming: int | None, size: int | None, complete: bool | None) -> int | None:
        """The whole size, by all that tells of it, which must agree (tus: creation-defer-length; the IETF's draft: section 4.1.3)."""
        told = {each for each in (upload.size, size, offset + coming if complete and coming is not None else None) if each is not None}
        if len(told) > 1:
            raise InvalidParameter("The declared lengths of the upload contradict each other")
        whole = told.pop() if told else None
        if whole is not None and whole > self._terms.largest:
            raise TooLarge(f"At most {self._terms.largest} bytes are accepted", max_upload_size=self._terms.largest)
        if whole is not None and coming is not None and offset + coming > whole:
            raise InvalidParameter(f"The upload has {whole} bytes, and more were announced")
        return whole

    async def _late(self, upload: Upload, offset: int) -> Upload:
        now = await self._rows.get(upload.id)
        if now is None or now.state == "gone" or now.expires_at <= self._clock.now():
            raise UploadGone()
        raise _mismatch(now, offset)

    async def _written(
        self, row: Upload, chunks: AsyncIterator[bytes], rules: Rules, *, fresh: bool, tell: Callable[[int], Awaitable[None]] | None
    ) -> Upload:
        try:
            if not row.part_size and not row.received:
                head, chunks = await _head(chunks)
                if not head and not rules.complete and rules.size != 0 and rules.checksum is None:
                    return await self._nothing(row, chunks, rules)
                row = await self._stage(row, head, rules)
            pen = await self._place(row).open(row, fresh=fresh)
        except BaseException as error:
            with anyio.CancelScope(shield=True), suppress(MediaError):
                if isinstance(error, MediaError) and hopeless(error) and not isinstance(error, TakenOver | InvalidParameter):
                    await self._rows.fail(row.id, fence=row.fence, error=problem(error))
                else:
                    await self._rows.let_go(row.id, row.fence)
            raise
        writer = Writer(row, pen, rules, rows=self._rows, meter=self._meters.take(row), now=self._clock.now, tell=tell)
        try:
            return await writer.run(chunks)
        except UploadGone as error:  # the storage has lost what it had taken: no later request is to be promised it
            with anyio.CancelScope(shield=True), suppress(MediaError):
                await self._rows.fail(row.id, fence=row.fence, error=problem(error))
            raise
        finally:
            await self._meters.keep(writer.row, writer.meter)

    async def _nothing(self, row: Upload, chunks: AsyncIterator[bytes], rules: Rules) -> Upload:
        """A request without a byte decides nothing: where an upload waits is chosen by its first ones."""
        async for _ in chunks:  # raises what broke it off
            pass
        expires_at = self._clock.now() + self._lifetime
        if not await self._rows.advance(row.id, row.fence, Step(received=0, size=rules.size, last=True), expires_at=expires_at):
            raise TakenOver()
        return replace(row, size=row.size if rules.size is None else rules.size, held=False, expires_at=expires_at)

    async def _stage(self, row: Upload, head: bytes, rules: Rules) -> Upload:
        """Choose where the bytes wait, and refuse at once what could only be refused at the end. Raises: TypeMismatch, TypeNotAllowed, TooLarge."""
        intake, principal = replace(msgspec.convert(row.intake, Intake), size=rules.size), Principal(row.owner)
        if row.role == "partial":
            media_type, placement = self._terms.guess(principal, replace(intake, size=None), head)
        elif len(head) < HEAD and rules.size != len(head):
            media_type, placement = self._terms.guess(principal, intake, head)  # by its end the type may be another
        else:
            media_type, _, placement = self._terms.judge(principal, intake, head)
        name = self._terms.routing.landing(placement)
        storage = self._storages[name]
        if not isinstance(storage, MultipartUpload):
            return row
        size = part_size(storage, self.settings.part_size, rules.size or self._terms.largest)
        key = f"uploads/{row.id}.whole" if row.role == "partial" else original_key(row.id, media_type)
        parts = "" if rules.size is not None and rules.size < size else await storage.begin_parts(key)
        if not await self._rows.stage(row.id, row.fence, storage=name, key=key, parts=parts, part_size=size):
            raise TakenOver()
        return replace(row, storage=name, key=key, parts=parts, part_size=size)

    def _place(self, row: Upload) -> Place:
        return self._parts if row.part_size else self._files

    # Its end.

    async def finish(self, upload: Upload, *, patience: float | None = None) -> Stored | None:
        """Record the media of a complete upload, here or wherever that is under way; None when it is not through within `patience` seconds.

        A caller that leaves stops nothing. Raises: Refused when nothing will come of it; whatever fails for a fault of the moment, after which it may be asked again.
        """
        task = self._endings.get(upload.id)
        if task is None:
            task = self._endings[upload.id] = asyncio.create_task(self._end(upload.id))
            task.add_done_callback(lambda done: self._ended(upload.id, done))
        await asyncio.wait({task}, timeout=patience)
        return task.result() if task.done() else None

    def _ended(self, id: str, task: "asyncio.Task[Stored]") -> None:
        self._endings.pop(id, None)
        if not task.cancelled():
            task.exception()  # whoever waits has heard it; a worker tries again

    async def _end(self, id: str) -> Stored:
        while True:
            row = await self._rows.begin_ending(id, LEASE)
            if row is not None:
                with suppress(TakenOver):
                    return await self._end_held(row)
            row = await self._rows.get(id)
            if row is None or row.state in ("gone", "open"):
                raise UploadGone()
            if row.state != "complete":
                return await self.outcome(row)
            await asyncio.sleep(0.2)

    async def outcome(self, row: Upload) -> Stored:
        """What became of an upload that is over. Raises: Refused, NotFound when the media is gone since."""
        if row.state == "failed":
            raise Refused(row.error or {})
        media = await self._media.get(row.media_id) if row.media_id is not None else None
        if media is None:
            raise NotFound("The media of this upload is not here any more")
        return Stored(media, created=bool(row.created))

    async def _end_held(self, row: Upload) -> Stored:
        beating, over = asyncio.create_task(self._beat(row)), False
        try:
            stored = await self._take(row)
        except TakenOver:
            raise  # whoever took it ends it
        except MediaError as error:
            if hopeless(error):
                if not await self._rows.fail(row.id, fence=row.fence, error=problem(error)):
                    raise TakenOver() from error
                self._meters.forget(row.id)
                await self.clean(row)
                raise Refused(problem(error), error.headers) from error
            raise
        else:
            joined = await self._joined(row)
            await self._rows.end(
                row.id, fence=row.fence, media_id=stored.media.id, created=stored.created, joined=[each.id for each in joined]
            )
            over = True
            self._meters.forget(row.id)
            self._clean_later([row, *joined])
            return stored
        finally:
            beating.cancel()
            if not over:
                with anyio.CancelScope(shield=True), suppress(MediaError), anyio.move_on_after(5):
                    await self._rows.beat(row.id, row.fence, 0)

    async def _take(self, row: Upload) -> Stored:
        there = await self._media.get(row.id)
        if there is not None:  # recorded by one who died before saying so
            return Stored(there, created=True)
        intake = msgspec.convert(row.intake, Intake)
        principal = Principal(row.owner)
        if row.role == "final":
            whole = [await self._place(each).whole(each, None) for each in await self._joined(row)]
            joined = Joined(whole)
            return await self._ingest.store(
                principal, joined.chunks(), lambda: replace(intake, size=joined.size), metered=True, media_id=row.id
            )

        staged = await self._place(row).whole(row, await self._meters.digest(row))
        ending = Ending(row.id, row.fence, claims=not row.part_size)  # the row of one in parts names its key since the first byte
        return await self._ingest.take(principal, staged, intake, media_id=row.id, ending=ending)

    async def _joined(self, row: Upload) -> list[Upload]:
        if row.role != "final":
            return []
        found = [await self._rows.get(each) for each in row.mark.split()]
        if any(each is None or each.state != "complete" for each in found):
            raise UploadGone("A partial upload is not here any more")
        return [each for each in found if each is not None]

    async def _beat(self, row: Upload) -> None:
        while True:
            await asyncio.sleep(LEASE / 3)
            with suppress(MediaError):
                await self._rows.beat(row.id, row.fence, LEASE)

    async def cancel(self, upload: Upload) -> None:
        """Give an upload up, with all that was staged of it. Raises: Conflict when it is too late for that."""
        if upload.state == "open" or (upload.role == "partial" and upload.state == "complete"):
            dropped = await self._rows.drop(upload.id) if upload.state == "open" else await self._rows.fail(upload.id, fence=None, error={})
            if not dropped:
                raise Conflict("The upload has ended meanwhile")
        elif upload.state == "complete":
            raise Conflict("The upload is complete; delete its media instead")
        former = self._writing.get(upload.id)
        if former is not None:
            former.cancel()
            await asyncio.wait({former}, timeout=5)
        self._meters.forget(upload.id)
        row = await self._rows.get(upload.id)
        if row is not None:
            await self.clean(row)

    def _clean_later(self, rows: Sequence[Upload]) -> None:
        """Clean up after uploads that are over: their clients need not wait for it."""

        async def clean() -> None:
            for row in rows:
                await self.clean(row)

        task = asyncio.create_task(clean())
        self._cleaning.add(task)
        task.add_done_callback(self._cleaning.discard)

    async def clean(self, row: Upload) -> bool:
        """Remove what is staged; what cannot be now is removed by a worker. An upload's own object stays, which is its media's by now.

        To presigned URLs bytes can be sent as long as they are good: what comes late is removed by a worker after that.
        """
        try:
            await self._place(row).drop(row)
            if row.role != "direct" or row.expires_at <= self._clock.now():
                await self._rows.forget_staged(row.id)
        except (MediaError, KeyError) as error:
            log.info("what was staged is still there", upload=row.id, error=str(error))
            return False
        return True

    # What comes round.

    async def end_all(self) -> int:
        """End complete uploads whose process died before it could. Gives how many."""
        ended = 0
        for due in await self._rows.unended():
            with suppress(MediaError):
                await self._end(due)
                ended += 1
        return ended

    async def reap(self) -> int:
        """Give up what has expired, and remove what is staged of uploads that are over. Gives how many were removed."""
        while await self._rows.expire():
            pass
        reaped = 0
        while ids := await self._rows.leftovers():
            rows = [row for row in [await self._rows.get(each) for each in ids] if row is not None]
            cleaned = [await self.clean(row) for row in rows]
            reaped += sum(cleaned)
            if not all(cleaned):
                break
        await self._rows.purge(self._clock.now() - self._lifetime)
        return reaped

    async def join(self, principal: Principal, tokens: Sequence[str], intake: Intake, *, told: str, concat: str) -> tuple[Upload, str]:
        """Begin the upload that joins complete partial ones, by their tokens (tus: concatenation). Raises: InvalidParameter, NotFound, UploadGone, TooLarge."""
        if len(set(tokens)) < len(tokens):  # a few bytes, named a thousand times, would be written as often
            raise InvalidParameter("Upload-Concat names an upload more than once")
        parts = [await self.find(token, principal) for token in tokens]
        if any(each.role != "partial" or each.owner != principal.id or each.state != "complete" for each in parts):
            raise InvalidParameter("Upload-Concat names uploads that are not complete partial ones")
        size = sum(each.received for each in parts)
        return await self.create(
            principal, intake, size=size, role="final", told=told, concat=concat,
            state="complete", received=size, mark=" ".join(each.id for each in parts), staged=False,
        )  # fmt: skip


def problem(error: MediaError) -> dict[str, Any]:
    """A failure as it is kept, to be answered again."""
    return {"status": error.status, "code": error.code, "title": error.title, "detail": error.detail, "extra": error.extra}


def _mismatch(upload: Upload, offset: int) -> OffsetMismatch:
    return OffsetMismatch(
        f"The upload has received {upload.received} bytes, not {offset}",
        headers={"Upload-Offset": str(upload.received)},
        **{"expected-offset": upload.received, "provided-offset": offset},
    )


def _hashed(secret: str) -> str:
    return hashlib.sha256(secret.encode()).hexdigest()


async def _head(chunks: AsyncIterator[bytes]) -> tuple[bytes, AsyncIterator[bytes]]:
    """The first bytes, and all of them again: what may break off after them does so later, when they are kept."""
    broken: list[Exception] = []
    stream = batches(_until_broken(chunks, broken))
    head = await first(stream, HEAD)
    return head, _broken(rejoined(head, stream), broken)


async def _until_broken(chunks: AsyncIterator[bytes], broken: list[Exception]) -> AsyncIterator[bytes]:
    try:
        async for chunk in chunks:
            yield chunk
    except Exception as error:
        broken.append(error)


async def _broken(chunks: AsyncIterator[bytes], broken: Sequence[Exception]) -> AsyncIterator[bytes]:
    async for chunk in chunks:
        yield chunk
    if broken:
        raise broken[0]
