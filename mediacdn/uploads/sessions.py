"""The journey of an upload in more than one request: begun by a principal, gone on with by whoever has its URL, given up or ended.

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
from msgspec.structs import replace

from mediacdn.catalog.database import Catalog
from mediacdn.catalog.uploads import Step
from mediacdn.config import Uploads as Settings
from mediacdn.errors import Conflict, InvalidParameter, MediaError, NotFound, OffsetMismatch, TakenOver, TooLarge, UploadGone
from mediacdn.http.tus import Checksum
from mediacdn.ingest import Ingest, original_key
from mediacdn.interfaces import Clock, MultipartUpload, Storage
from mediacdn.jobs.backoff import hopeless
from mediacdn.metering import batches, first, rejoined
from mediacdn.model import Principal, Upload
from mediacdn.sniff import HEAD
from mediacdn.terms import Intake
from mediacdn.threads import give_way
from mediacdn.ulids import is_ulid
from mediacdn.uploads.ending import Endings, Refused, problem
from mediacdn.uploads.files import Files
from mediacdn.uploads.parts import Parts, part_size
from mediacdn.uploads.staging import Staging
from mediacdn.uploads.writer import Meters, Rules, Writer


class Uploads:
    """Uploads in several requests: begun, found, written and given up here; `endings` end them, `staging` has their bytes."""

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
        self._storages = storages
        self._terms = ingest.terms
        self.settings = settings
        self._quota = ingest.terms.quota
        self._clock = clock
        self._new_id = new_id
        self._lifetime = timedelta(seconds=settings.expires_in)
        self._threads = ThreadPoolExecutor(4, "upload-hash", give_way)
        self._meters = Meters(self._threads)
        self._files = Files(data / (settings.directory or "uploads"), self._rows, storages)
        self.staging = Staging(self._files, Parts(self._rows, catalog.objects, storages), self._rows, clock)
        self.endings = Endings(rows=self._rows, media=catalog.media, ingest=ingest, staging=self.staging, meters=self._meters)
        self._writing: dict[str, asyncio.Task[Upload]] = {}

    async def close(self) -> None:
        """Stop what runs; its clients come back, or a worker goes on."""
        for task in self._writing.values():
            task.cancel()
        if self._writing:
            await asyncio.wait(self._writing.values(), timeout=5)
        await self.endings.close()
        await self.staging.close()
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
            pen = await self.staging.place(row).open(row, fresh=fresh)
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

    # When it is given up.

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
            await self.staging.clean(row)

    async def reap(self) -> int:
        """Give up what has expired, and remove what is staged of uploads that are over. Gives how many were removed."""
        while await self._rows.expire():
            pass
        reaped = await self.staging.reap()
        await self._rows.purge(self._clock.now() - self._lifetime)
        return reaped


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
