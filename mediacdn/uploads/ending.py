"""The end of an upload whose bytes are all here: its media recorded once, by whichever process comes to it, and what is said when nothing comes of it."""

import asyncio
from collections.abc import AsyncIterator, Mapping, Sequence
from contextlib import suppress
from typing import Any

import anyio
import msgspec
from msgspec.structs import replace

from mediacdn.catalog.media import MediaRows
from mediacdn.catalog.uploads import Ending, UploadRows
from mediacdn.errors import MediaError, NotFound, TakenOver, UploadGone
from mediacdn.ingest import Ingest, Staged, Stored
from mediacdn.jobs.backoff import hopeless
from mediacdn.model import Principal, Upload
from mediacdn.terms import Intake
from mediacdn.uploads.staging import Staging
from mediacdn.uploads.writer import Meters

LEASE = 10.0
"""Seconds after which an ending whose process was not heard of is another's to do."""


class Refused(MediaError):
    """An upload whose bytes are all here was refused; the answer is that of the refusal, whenever it is asked for."""

    def __init__(self, kept: Mapping[str, Any], headers: dict[str, str] | None = None) -> None:
        super().__init__(str(kept.get("detail") or self.title), headers=headers, **dict(kept.get("extra") or {}))
        # Instance values in the place of the class's: the class of the refusal is another process's.
        vars(self).update({name: kept[name] for name in ("status", "code", "title") if name in kept})


class Joined:
    """Several staged uploads as one, one after another."""

    def __init__(self, parts: Sequence[Staged]) -> None:
        self._parts = parts
        self.size = sum(each.size for each in parts)

    async def chunks(self) -> AsyncIterator[bytes]:
        for each in self._parts:
            await each.head()  # a storage of parts puts them together for it
            async for chunk in each.chunks():
                yield chunk


class Endings:
    """The endings under way in this process, over the catalog, what is staged, and ingest."""

    def __init__(self, *, rows: UploadRows, media: MediaRows, ingest: Ingest, staging: Staging, meters: Meters) -> None:
        self._rows = rows
        self._media = media
        self._ingest = ingest
        self._staging = staging
        self._meters = meters
        self._running: dict[str, asyncio.Task[Stored]] = {}

    async def close(self) -> None:
        """Stop what runs: it is taken up again by whoever asks next, or by a worker."""
        for task in self._running.values():
            task.cancel()
        if self._running:
            await asyncio.wait(self._running.values(), timeout=5)

    async def finish(self, upload: Upload, *, patience: float | None = None) -> Stored | None:
        """Record the media of a complete upload, here or wherever that is under way; None when it is not through within `patience` seconds.

        A caller that leaves stops nothing. Raises: Refused when nothing will come of it; whatever fails for a fault of the moment, after which it may be asked again.
        """
        task = self._running.get(upload.id)
        if task is None:
            task = self._running[upload.id] = asyncio.create_task(self._end(upload.id))
            task.add_done_callback(lambda done: self._ended(upload.id, done))
        await asyncio.wait({task}, timeout=patience)
        return task.result() if task.done() else None

    def _ended(self, id: str, task: "asyncio.Task[Stored]") -> None:
        self._running.pop(id, None)
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
                await self._staging.clean(row)
                raise Refused(problem(error), error.headers) from error
            raise
        else:
            joined = await self._joined(row)
            await self._rows.end(
                row.id, fence=row.fence, media_id=stored.media.id, created=stored.created, joined=[each.id for each in joined]
            )
            over = True
            self._meters.forget(row.id)
            self._staging.clean_later([row, *joined])
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
            whole = [await self._staging.place(each).whole(each, None) for each in await self._joined(row)]
            joined = Joined(whole)
            return await self._ingest.store(
                principal, joined.chunks(), lambda: replace(intake, size=joined.size), metered=True, media_id=row.id
            )

        staged = await self._staging.place(row).whole(row, await self._meters.digest(row))
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

    async def end_all(self) -> int:
        """End complete uploads whose process died before it could. Gives how many."""
        ended = 0
        for due in await self._rows.unended():
            with suppress(MediaError):
                await self._end(due)
                ended += 1
        return ended


def problem(error: MediaError) -> dict[str, Any]:
    """A failure as it is kept, to be answered again."""
    return {"status": error.status, "code": error.code, "title": error.title, "detail": error.detail, "extra": error.extra}
