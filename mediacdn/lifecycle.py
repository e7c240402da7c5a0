"""What happens to media after they are stored: deletion, quarantine, revocation, and the sweep of what crashes left behind.

Every change is committed first, then the process forgets its card, then the caller hears of it: no answer after the acknowledgement can come from the old state.
"""

from collections.abc import Callable, Mapping
from datetime import UTC, datetime, timedelta
from typing import Any

from mediacdn.catalog.card import CardCache
from mediacdn.catalog.database import Catalog
from mediacdn.edge.files import OpenFiles
from mediacdn.errors import MediaError
from mediacdn.interfaces import Clock, Storage
from mediacdn.model import Event, Media


class Lifecycle:
    """The state changes of media, bound to the catalog, the card cache and the storages."""

    def __init__(
        self,
        *,
        catalog: Catalog,
        cards: CardCache,
        files: OpenFiles,
        storages: Mapping[str, Storage],
        clock: Clock,
        emit: Callable[[Event], None],
    ) -> None:
        self._catalog = catalog
        self._cards = cards
        self._files = files
        self._storages = storages
        self._clock = clock
        self._emit = emit

    async def change(self, media_id: str, changes: Mapping[str, Any], *, dedupe_key: str | None, version: int | None) -> Media:
        """Raises: NotFound, PreconditionFailed, DuplicateExists."""
        media = await self._catalog.media.change(media_id, changes, dedupe_key=dedupe_key, version=version)
        self._told("media.changed", media_id, {"fields": sorted(changes)})
        return media

    async def delete(self, media_id: str) -> None:
        """Delete a media for good; its bytes go with the last record that shares them. Idempotent. Raises: CatalogUnavailable."""
        gone = await self._catalog.media.delete(media_id)
        self._cards.drop(media_id)
        if gone is not None:
            self._files.drop(gone.storage, gone.storage_key)
            self._told("media.deleted", media_id)
            await self._reap()

    async def quarantine(self, media_id: str, *, scope: str, reason: str | None) -> list[str]:
        """Withhold a media, or with scope "digest" all its twins and descendants and further uploads of the digest. Raises: NotFound."""
        ids = await self._catalog.media.quarantine(media_id, scope=scope, reason=reason)
        for each in ids:
            self._told("media.quarantined", each, {"scope": scope})
        return ids

    async def release(self, media_id: str) -> list[str]:
        ids = await self._catalog.media.release(media_id)
        for each in ids:
            self._told("media.released", each)
        return ids

    async def revoke(self, media_id: str) -> Media:
        """Kill every link issued up to now. Links carry whole seconds, so the mark is the next one. Raises: NotFound."""
        media = await self._catalog.media.revoke(media_id, int(self._clock.now().timestamp()) + 1)
        self._told("media.revoked", media_id)
        return media

    async def sweep(self, older_than: timedelta, *, dry_run: bool = False) -> list[tuple[str, str]]:
        """Remove the bytes of uploads whose writer died and of objects marked for deletion; give their (storage, key). Raises: CatalogUnavailable."""
        return await self._reap(self._clock.now() - older_than, dry_run=dry_run)

    async def retire(self) -> int:
        """Delete media whose time has passed; they go on answering 410. Gives how many. Raises: CatalogUnavailable."""
        retired = 0
        while ids := await self._catalog.media.expired():
            for media_id in ids:
                await self.delete(media_id)
                retired += 1
        return retired

    async def _reap(self, before: datetime | None = None, *, dry_run: bool = False) -> list[tuple[str, str]]:
        reaped: list[tuple[str, str]] = []
        since = before or datetime.fromtimestamp(0, UTC)  # after a delete: only what is marked, no upload is that old
        try:
            while leftovers := await self._catalog.objects.leftovers(since, 10_000 if dry_run else 100, dry_run=dry_run):
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

    def _told(self, kind: str, media_id: str, detail: dict[str, Any] | None = None) -> None:
        self._cards.drop(media_id)
        self._emit(Event(kind, media_id, self._clock.now(), detail or {}))
