"""Who holds a deduplication key: the unique index lets one row have it, and here a row that may no longer be matched loses it."""

import re
from datetime import datetime

from sqlalchemy import ColumnElement, or_, select, update
from sqlalchemy.ext.asyncio import AsyncConnection

from mediacdn.catalog.rows import COLUMNS, media_of
from mediacdn.catalog.tables import media
from mediacdn.model import Media, State, Status

UNMATCHED = (Status.FAILED.value, Status.CANCELLED.value, Status.REGISTERED.value, Status.FETCHING.value)
"""What an upload is never a duplicate of: rows without their bytes, or whose processing came to nothing."""

_DIGEST = re.compile(r"[0-9a-f]{64}\Z")


def dedupe_key(digest: str, public: bool, storage: str, owner: str) -> str:
    """The text under which a live media is unique; `owner` is "" where anybody's twin will do."""
    return ":".join((digest, "public" if public else "private", storage, owner))


def moved_key(key: str, storage: str) -> str:
    """The key of a media whose bytes are in `storage` from now on. Keys of derivatives do not speak of it."""
    parts = key.split(":", 3)
    return ":".join((*parts[:2], storage, parts[3])) if len(parts) == 4 and _DIGEST.match(parts[0]) else key


async def free_key(connection: AsyncConnection, key: str, now: datetime) -> None:
    """Take the key from a holder that has expired or failed meanwhile, or that is withheld: its record is not for another uploader to see."""
    await connection.execute(update(media).where(media.c.dedupe_key == key, _over(now)).values(dedupe_key=None))


async def holder(connection: AsyncConnection, key: str, now: datetime) -> Media | None:
    """Find the media that an upload with this key is a duplicate of."""
    row = (await connection.execute(select(_over(now), *COLUMNS).where(media.c.dedupe_key == key))).one_or_none()
    if row is None:
        return None
    if row[0]:
        await free_key(connection, key, now)
        return None
    return media_of(row[1:])


def _over(now: datetime) -> ColumnElement[bool]:
    return or_(media.c.expires_at <= now, media.c.status.in_(UNMATCHED), media.c.state == State.QUARANTINED.value)
