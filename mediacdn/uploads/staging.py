"""Where the bytes of an upload wait for its end: what a writer asks of such a place, which of them has an upload's, and how they are removed."""

import asyncio
from collections.abc import Sequence
from typing import Protocol

import structlog

from mediacdn.catalog.uploads import Step, UploadRows
from mediacdn.errors import MediaError
from mediacdn.ingest import Staged
from mediacdn.interfaces import Clock
from mediacdn.model import Upload

log = structlog.get_logger("mediacdn.uploads")


class Pen(Protocol):
    """One writer's hold on the place. Nothing that it writes is in the way of another writer's, before or after it."""

    async def write(self, batch: bytes) -> bool:
        """Take the next bytes; True asks for `settle` before any more. Raises: StorageFull, StorageUnavailable."""
        ...

    async def settle(self, *, last: bool) -> Step | None:
        """Make durable what can be, all of it when this is the `last` call, and tell what is; None when nothing more is. Raises: StorageFull, StorageUnavailable."""
        ...

    async def close(self, *, undo: bool) -> None:
        """Let go; with `undo` also of what no Step has told. Never raises."""
        ...


class Place(Protocol):
    """A kind of staging."""

    async def open(self, upload: Upload, *, fresh: bool) -> Pen:
        """Go on writing where `upload.received` says. `fresh`: whoever wrote before may not have let go. Raises: StorageUnavailable, UploadGone."""
        ...

    async def whole(self, upload: Upload, digest: str | None) -> Staged:
        """All bytes of a complete upload. Raises: StorageUnavailable, UploadGone when they are not there."""
        ...

    async def drop(self, upload: Upload) -> None:
        """Remove whatever is left of it; idempotent. Raises: StorageUnavailable."""
        ...


class Staging:
    """What is staged of uploads, in `files` of this machine or as `parts` in a storage that takes them."""

    def __init__(self, files: Place, parts: Place, rows: UploadRows, clock: Clock) -> None:
        self._files = files
        self._parts = parts
        self._rows = rows
        self._clock = clock
        self._cleaning: set[asyncio.Task[None]] = set()

    async def close(self) -> None:
        """Stop what runs: a worker does it later."""
        for task in self._cleaning:
            task.cancel()
        if self._cleaning:
            await asyncio.wait(self._cleaning, timeout=5)

    def place(self, row: Upload) -> Place:
        """Where the bytes of an upload are."""
        return self._parts if row.part_size else self._files

    async def clean(self, row: Upload) -> bool:
        """Remove what is staged; what cannot be now is removed by a worker. An upload's own object stays, which is its media's by now.

        To presigned URLs bytes can be sent as long as they are good: what comes late is removed by a worker after that.
        """
        try:
            await self.place(row).drop(row)
            if row.role != "direct" or row.expires_at <= self._clock.now():
                await self._rows.forget_staged(row.id)
        except (MediaError, KeyError) as error:
            log.info("what was staged is still there", upload=row.id, error=str(error))
            return False
        return True

    def clean_later(self, rows: Sequence[Upload]) -> None:
        """Clean up after uploads that are over: their clients need not wait for it."""

        async def clean() -> None:
            for row in rows:
                await self.clean(row)

        task = asyncio.create_task(clean())
        self._cleaning.add(task)
        task.add_done_callback(self._cleaning.discard)

    async def reap(self) -> int:
        """Remove what is staged of uploads that are over. Gives how many were removed."""
        reaped = 0
        while ids := await self._rows.leftovers():
            rows = [row for row in [await self._rows.get(each) for each in ids] if row is not None]
            cleaned = [await self.clean(row) for row in rows]
            reaped += sum(cleaned)
            if not all(cleaned):
                break
        return reaped
