"""One request's bytes on their way into an upload: hashed, staged, made durable and only then told of, about once a second, and what is left at the end."""

import asyncio
import time
from collections.abc import AsyncIterator, Awaitable, Callable
from concurrent.futures import ThreadPoolExecutor
from contextlib import suppress
from datetime import datetime, timedelta
from typing import Any

import anyio
from msgspec import Struct
from msgspec.structs import replace

from mediacdn.catalog.uploads import Step, UploadRows
from mediacdn.errors import ChecksumMismatch, InvalidParameter, MediaError, TakenOver
from mediacdn.http.tus import Checksum
from mediacdn.metering import BATCH, Meter
from mediacdn.model import Upload
from mediacdn.uploads.staging import Pen

EVERY = 1.0
"""Seconds between two steps: what a crash costs the client."""
PATIENCE = 5.0
"""Seconds that a request which is over has to bring in what had arrived."""


class Rules(Struct, frozen=True):
    """What one request may do. `size` is the upload's whole size where it is known by now, `most` the largest it could ever have."""

    size: int | None
    most: int
    complete: bool | None = None
    """Whether this request's end is the upload's, where it says so; else that is where `size` bytes are here."""
    checksum: Checksum | None = None
    lifetime: timedelta = timedelta(days=1)
    quota: int = 0
    """Of the owner, in bytes, where the upload's were not counted when it began; 0 for none."""


class Writer:
    """Writes one request's body. `row` is the upload under this writer's fence, `meter` has seen all bytes before, or is None."""

    def __init__(
        self,
        row: Upload,
        pen: Pen,
        rules: Rules,
        *,
        rows: UploadRows,
        meter: Meter | None,
        now: Callable[[], datetime],
        tell: Callable[[int], Awaitable[None]] | None = None,
    ) -> None:
        self.row = row
        self.meter = meter
        self._pen = pen
        self._rules = rules
        self._rows = rows
        self._now = now
        self._tell = tell
        self._seen = row.received
        self._check = rules.checksum.started() if rules.checksum is not None else None
        self._settling: asyncio.Task[None] | None = None
        self._settled_at = time.monotonic()
        self._held: Step | None = None

    async def run(self, chunks: AsyncIterator[bytes]) -> Upload:
        """Write all that comes. What had arrived before a failure is kept, unless a checksum was to vouch for it; the failure goes on.

        Raises: TakenOver, ChecksumMismatch, InvalidParameter for more bytes than there should be, StorageFull, StorageUnavailable, what `chunks` raises.
        """
        kept = False
        try:
            try:
                await self._take(chunks)
            except BaseException:
                if self._check is None:
                    with anyio.move_on_after(PATIENCE, shield=True):
                        await self._calm()
                        await self._last(complete=False)
                        kept = True
                raise
            await self._calm()
            if self._rules.checksum is not None and self._check is not None and self._check.digest() != self._rules.checksum.digest:
                raise ChecksumMismatch()
            await self._last(complete=self._over)
            kept = True
            return self.row
        except BaseException:
            if not kept:
                self.meter = None
                with anyio.CancelScope(shield=True), suppress(MediaError), anyio.move_on_after(PATIENCE):
                    await self._rows.let_go(self.row.id, self.row.fence)
            raise
        finally:
            with anyio.CancelScope(shield=True):
                await self._pen.close(undo=not kept)

    @property
    def _over(self) -> bool:
        if self._rules.complete is not None:
            return self._rules.complete
        return self._seen == self._rules.size

    async def _take(self, chunks: AsyncIterator[bytes]) -> None:
        waiting: list[bytes] = []
        size = 0
        try:
            async for chunk in chunks:
                waiting.append(chunk)
                size += len(chunk)
                if size >= BATCH:
                    batch, waiting, size = b"".join(waiting), [], 0
                    await self._write(batch)
        finally:
            if size:
                await self._write(b"".join(waiting))

    async def _write(self, batch: bytes) -> None:
        limit = self._rules.most if self._rules.size is None else self._rules.size
        if self._seen + len(batch) > limit:
            raise InvalidParameter(f"The upload has {limit} bytes, and more were sent")
        if self.meter is not None:
            await self.meter.feed(batch)
        if self._check is not None:
            await asyncio.to_thread(self._check.update, batch)
        full = await self._pen.write(batch)
        self._seen += len(batch)
        if self._settling is not None and self._settling.done():
            self._settling.result()
            self._settling = None
        if self._check is not None:
            if full:
                await self._hold()
            return
        now = time.monotonic()
        if self._settling is None and (full or now - self._settled_at >= EVERY):
            self._settled_at = now
            self._settling = asyncio.create_task(self._settle())
        if full:
            await self._calm()

    async def _hold(self) -> None:
        """Let what a checksum is still to vouch for arrive, without telling of it."""
        step = await self._pen.settle(last=False)
        if step is not None:
            self._held = self._joined(step)
            await self._note(Step(received=self.row.received, next_number=step.next_number))  # nobody else is to have these numbers

    def _joined(self, step: Step) -> Step:
        if self._held is None:
            return step
        values: dict[str, Any] = {"pieces": [*self._held.pieces, *step.pieces]}
        if step.next_number is None:
            values["next_number"] = self._held.next_number
        if step.tail is None:
            values["tail"] = self._held.tail
        return replace(step, **values)

    async def _calm(self) -> None:
        settling, self._settling = self._settling, None
        if settling is not None:
            await settling

    async def _settle(self) -> None:
        step = await self._pen.settle(last=False)
        if step is not None and step.received > self.row.received:
            await self._note(step)

    async def _last(self, *, complete: bool) -> None:
        step = await self._pen.settle(last=True)
        if step is not None:
            step = self._joined(step)
            if complete and step.received != self._seen:
                raise InvalidParameter("The upload did not arrive whole")
            size = step.received if complete and self._rules.size is None else self._rules.size
            await self._note(replace(step, complete=complete, last=True, size=size))

    async def _note(self, step: Step) -> None:
        row = self.row
        expires_at = self._now() + self._rules.lifetime
        if not await self._rows.advance(row.id, row.fence, step, expires_at=expires_at, quota=self._rules.quota):
            raise TakenOver()
        self.row = replace(
            row,
            received=step.received,
            size=row.size if step.size is None else step.size,
            state="complete" if step.complete else row.state,
            held=not step.last,
            expires_at=expires_at,
        )
        if self._tell is not None:
            await self._tell(step.received)


class Meters:
    """The hashes of uploads that have passed through this process without a gap, by id: what saves reading all of it once more at the end."""

    def __init__(self, threads: ThreadPoolExecutor, size: int = 1000) -> None:
        self._threads = threads
        self._size = size
        self._known: dict[str, Meter] = {}

    def take(self, row: Upload) -> Meter | None:
        """The hash of all that was received so far, to go on with."""
        meter = self._known.pop(row.id, None)
        if not row.received:
            return Meter(self._threads)
        return meter if meter is not None and meter.size == row.received else None

    async def keep(self, row: Upload, meter: Meter | None) -> None:
        if meter is not None and meter.size == row.received:
            await meter.settled()
            self._known[row.id] = meter
            if len(self._known) > self._size:
                del self._known[next(iter(self._known))]

    async def digest(self, row: Upload) -> str | None:
        meter = self._known.get(row.id)
        return await meter.digest() if meter is not None and meter.size == row.received else None

    def forget(self, id: str) -> None:
        self._known.pop(id, None)
