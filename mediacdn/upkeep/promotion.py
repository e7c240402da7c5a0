"""Uploads that land in one storage and belong in another: the job that brings them on, and the look at what still waits.

A media is whole and readable from where it landed. Nothing is ever deleted there but what the catalog knows to be elsewhere.
"""

from collections.abc import Callable
from datetime import datetime, timedelta

import structlog
from msgspec import Struct

from mediacdn.catalog.database import Catalog
from mediacdn.catalog.moves import Stored
from mediacdn.catalog.selection import Selection
from mediacdn.errors import NotFound
from mediacdn.interfaces import Clock
from mediacdn.jobs.runner import Running
from mediacdn.model import Media, NewJob, State
from mediacdn.storage.placement import Routing
from mediacdn.storage.transfer import Throttle
from mediacdn.upkeep.moving import Moved, Mover

KIND = "promote"
"""The kind of a job that brings a media from where it landed to where it belongs."""
LANE = "imports"
ATTEMPTS = 8
AGAIN_AFTER = timedelta(minutes=10)
"""The pauses between them add up to some minutes; what outlives that is taken up again by the look at what waits."""

log = structlog.get_logger("mediacdn.promotion")


def promotion(media: Media, to: str, new_id: Callable[[], str]) -> NewJob:
    """The job for a media that is about to be recorded."""
    return NewJob(
        id=new_id(),
        kind=KIND,
        lane=LANE,
        media_id=media.id,
        arguments={"to": to},
        fingerprint=f"{KIND}:{media.id}:{to}",
        max_attempts=ATTEMPTS,
        created_by=media.owner,
    )


async def promote(mover: Mover, media: Media, to: str, *, throttle: Throttle | None = None) -> Moved:
    """Bring one media's bytes to the storage `to`, verified by digest in one pass; others that share them stay where they are. Idempotent.

    Raises: NotFound, ObjectCorrupt, StorageFull, StorageUnavailable, CatalogUnavailable; it then stays where it is.
    """
    stored = Stored(media.storage, media.storage_key, media.size, media.digest, 1)
    if media.storage == to or media.state is State.DELETED:
        return Moved(stored)
    return await mover.move(stored, Selection(id=media.id), to, throttle=throttle)


class Waiting(Struct, frozen=True):
    """What is still where it landed: how many media, since when, and how many of them longer than they should be."""

    media: int
    overdue: int
    oldest: datetime | None


class Promotions:
    """The work of promotion."""

    def __init__(
        self,
        *,
        catalog: Catalog,
        mover: Mover,
        routing: Routing,
        clock: Clock,
        new_id: Callable[[], str],
    ) -> None:
        self._catalog = catalog
        self._mover = mover
        self._routing = routing
        self._clock = clock
        self._new_id = new_id

    async def __call__(self, running: Running) -> None:
        """Do a job of KIND."""
        media = None if running.job.media_id is None else await self._catalog.media.get(running.job.media_id)
        if media is None:
            raise NotFound("The media is gone")
        await promote(self._mover, media, str(running.job.arguments.get("to") or self._routing.belongs(media)))

    async def _ask(self, media: Media, to: str, ended_before: datetime) -> None:
        job = promotion(media, to, self._new_id)
        known = None if job.fingerprint is None else await self._catalog.jobs.by_fingerprint(job.fingerprint)
        if known is None or (known.ended_at is not None and known.ended_at < ended_before):
            await self._catalog.jobs.ask(job, again=True)

    async def look(self, too_long: timedelta) -> dict[str, Waiting]:
        """Go through what is in the storages where uploads land: whatever belongs elsewhere gets its job, again where that had failed; tell what waits in each."""
        now = self._clock.now()
        found: dict[str, Waiting] = {}
        for landing in sorted(set(self._routing.via.values())):
            count = overdue = 0
            oldest: datetime | None = None
            following: str | None = ""
            while following is not None:
                page, following = await self._catalog.moves.landed(landing, after=following)
                for media in page:
                    to = self._routing.belongs(media)
                    if to == landing or self._routing.via.get(to) != landing:
                        continue  # it is here to stay
                    await self._ask(media, to, now - min(too_long, AGAIN_AFTER))
                    count += 1
                    overdue += media.created_at < now - too_long
                    oldest = min(oldest or media.created_at, media.created_at)
            found[landing] = Waiting(count, overdue, oldest)
            if overdue:
                log.warning("uploads wait where they landed", storage=landing, media=count, overdue=overdue, since=str(oldest))
        return found
