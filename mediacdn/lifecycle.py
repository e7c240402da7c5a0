"""What happens to media after they are stored: deletion, quarantine, revocation, and the sweep of what crashes left behind.

Every change is committed first, then told to all who keep what it made untrue, then the caller hears of it: no answer after the acknowledgement can come from
the old state.
"""

from collections.abc import Awaitable, Callable, Collection, Mapping, Sequence
from datetime import UTC, datetime, timedelta
from typing import Any

from mediacdn.catalog.database import Catalog
from mediacdn.edge.files import OpenFiles
from mediacdn.errors import MediaError, StorageUnavailable
from mediacdn.interfaces import Clock, MultipartUpload, Storage
from mediacdn.model import Change, Event, Media, NewJob, Titled

Held = Callable[[str], Awaitable[Collection[str]]]
"""Gives the ids of the uploads of parts in a storage, by its name, that somebody may still complete."""


async def nobody(storage: str) -> Collection[str]:
    """No upload of parts outlives the request that began it."""
    return ()


class Lifecycle:
    """The state changes of media, bound to the catalog, the storages and whoever is to be told."""

    def __init__(
        self,
        *,
        catalog: Catalog,
        told: Callable[[Sequence[Change]], Awaitable[None]],
        files: OpenFiles,
        storages: Mapping[str, Storage],
        clock: Clock,
        emit: Callable[[Event], None],
        plan: Callable[[Media], Sequence[NewJob]] | None = None,
    ) -> None:
        self._catalog = catalog
        self._told = told
        self._files = files
        self._storages = storages
        self._clock = clock
        self._emit = emit
        self._plan = plan

    async def change(self, media_id: str, changes: Mapping[str, Any], *, dedupe_key: str | None, version: int | None) -> Media:
        """Raises: NotFound, PreconditionFailed, DuplicateExists."""
        media, changed = await self._catalog.media.change(media_id, changes, dedupe_key=dedupe_key, version=version)
        await self._told(changed)
        self._tell("media.changed", media_id, {"fields": sorted(changes)})
        return media

    async def delete(self, media_id: str, titled: Titled = "leave") -> None:
        """Delete a media for good, with all that was made of it; its bytes go with the last record that shares them. Idempotent.

        `titled` says what becomes of a title that holds it. Raises: MediaHeld, CatalogUnavailable.
        """
        if titled != "leave":
            await self._catalog.titles.part(media_id, titled)  # before anything of it goes; from now on no title can take it
        derived = await self._catalog.derivatives.kin(media_id)
        gone = [each for each in [*derived, media_id] if await self._delete(each)]
        # One that was being made meanwhile was recorded before its source went, or not at all.
        gone += [each for each in await self._catalog.derivatives.kin(media_id) if await self._delete(each)]
        if gone:
            await self._reap()

    async def _delete(self, media_id: str, *, expired: bool = False) -> bool:
        gone, changed = await self._catalog.media.delete(media_id, expired=expired)
        await self._told(changed)
        if gone is not None:
            self._files.drop(gone.storage, gone.storage_key)
            self._tell("media.deleted", media_id)
        return gone is not None

    async def quarantine(self, media_id: str, *, scope: str, reason: str | None) -> list[str]:
        """Withhold a media, or with scope "digest" all its twins and descendants and further uploads of the digest. Raises: NotFound."""
        ids, changed = await self._catalog.media.quarantine(media_id, scope=scope, reason=reason)
        await self._told(changed)
        for each in ids:
            self._tell("media.quarantined", each, {"scope": scope})
        return ids

    async def release(self, media_id: str) -> list[str]:
        ids, changed = await self._catalog.media.release(media_id, self._plan)
        await self._told(changed)
        for each in ids:
            self._tell("media.released", each)
        return ids

    async def revoke(self, media_id: str) -> Media:
        """Kill every link issued up to now. Links carry whole seconds, so the mark is the next one. Raises: NotFound."""
        media, changed = await self._catalog.media.revoke(media_id, int(self._clock.now().timestamp()) + 1)
        await self._told(changed)
        self._tell("media.revoked", media_id)
        return media

    async def purge(self, *, ids: Sequence[str] = (), tags: Sequence[str] = ()) -> int:
        """Kill every kept copy of these media, of those with one of these tags, and of what was derived from them. Gives how many. Raises: CatalogUnavailable."""
        purged: set[str] = set()
        async for changed in self._catalog.changes.purge(ids=ids, tags=tags):
            await self._told(changed)
            for each in changed:
                if each.media_id is not None and each.media_id not in purged:
                    purged.add(each.media_id)
                    self._tell("media.purged", each.media_id)
        return len(purged)

    async def purge_all(self) -> None:
        """Kill every kept copy of everything. Raises: CatalogUnavailable."""
        await self._told(await self._catalog.changes.purge_all())

    async def sweep(self, older_than: timedelta, *, moved: timedelta, dry_run: bool = False) -> list[tuple[str, str]]:
        """Remove the bytes of uploads whose writer died, of objects marked for deletion, and of those `moved` away so long ago; give their (storage, key).

        Raises: CatalogUnavailable.
        """
        now = self._clock.now()
        return await self._reap(now - older_than, left_before=now - moved, dry_run=dry_run)

    async def reap_parts(self, older_than: timedelta, held: Held = nobody, *, dry_run: bool = False) -> list[tuple[str, str]]:
        """Abort uploads of parts that are older and that nobody will complete; give their (storage, key). A storage that is away has its turn the next time.

        Whoever puts an object in parts has an intent of it in the catalog, as every put has; of uploads that outlive requests `held` knows.
        Raises: CatalogUnavailable.
        """
        before = self._clock.now() - older_than
        reaped: list[tuple[str, str]] = []
        for name, storage in self._storages.items():
            if not isinstance(storage, MultipartUpload):
                continue
            try:
                old = [each async for each in storage.list_uploads() if each.begun < before]
                kept, writing = (await held(name), await self._catalog.objects.being_written(name)) if old else ((), set())
                for each in old:
                    if each.upload not in kept and each.key not in writing:
                        if not dry_run:
                            await storage.abort_parts(each.key, each.upload)
                        reaped.append((name, each.key))
            except StorageUnavailable:
                continue
        return reaped

    async def retire(self) -> int:
        """Delete media whose time has passed; they go on answering 410. Gives how many. Raises: CatalogUnavailable."""
        retired = 0
        while ids := await self._catalog.media.expired():
            for media_id in ids:
                if await self._delete(media_id, expired=True):  # an admin may have prolonged it meanwhile
                    await self.delete(media_id)  # what was made of it
                    retired += 1
            await self._reap()
        return retired

    async def supersede(self, grace: timedelta) -> int:
        """Delete packages in whose place others have been served for so long that nobody reads them any more, and what was begun of wholes that nobody makes any
        more. Gives how many. Raises: CatalogUnavailable."""
        superseded, packages = 0, self._catalog.packages
        before = self._clock.now() - grace
        while ids := await packages.replaced(before) or await packages.unfinished(before):
            for media_id in ids:
                await self.delete(media_id)
                superseded += 1
        return superseded

    async def _reap(
        self, before: datetime | None = None, *, left_before: datetime | None = None, dry_run: bool = False
    ) -> list[tuple[str, str]]:
        reaped: list[tuple[str, str]] = []
        since = before or datetime.fromtimestamp(0, UTC)  # after a delete: only what is marked, no upload is that old
        try:
            while leftovers := await self._catalog.objects.leftovers(
                since, 10_000 if dry_run else 100, dry_run=dry_run, left_before=left_before
            ):
                if dry_run:
                    return leftovers
                removed = [each for each in leftovers if await self._remove(*each)]
                reaped += removed
                if len(removed) < len(leftovers):
                    break  # a storage is away; its rows stay for the next time
        except MediaError:
            if before is not None:
                raise
        return reaped

    async def _remove(self, storage: str, key: str) -> bool:
        try:
            await self._storages[storage].delete(key)
        except (MediaError, KeyError):
            return False
        await self._catalog.objects.forget(storage, key)
        return True

    def _tell(self, kind: str, media_id: str, detail: dict[str, Any] | None = None) -> None:
        self._emit(Event(kind, media_id, self._clock.now(), detail or {}))
