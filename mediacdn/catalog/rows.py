"""A media's row, read into the model's Structs and written from them."""

from collections.abc import Sequence
from typing import Any

import msgspec
from sqlalchemy import and_, delete, insert, update
from sqlalchemy.ext.asyncio import AsyncConnection

from mediacdn.catalog.tables import media, media_tags, moment_of
from mediacdn.model import Card, Media, State, Status

FIELDS = Media.__struct_fields__
COLUMNS = [media.c[name] for name in FIELDS]

WITHOUT_BYTES = (Status.REGISTERED.value, Status.FETCHING.value)
_BYTES = ("kind", "media_type", "size", "digest", "storage", "storage_key", "storage_etag", "quarantine_reason", "updated_at")

_CARD = tuple(name for name in Card.__struct_fields__ if name != "fresh_for")  # which is a form's, not a media's
CARD_FIELDS = tuple({"key": "storage_key", "modified": "created_at"}.get(name, name) for name in _CARD)
CARD_COLUMNS = [media.c[name] for name in CARD_FIELDS]


def media_of(row: Sequence[Any]) -> Media:
    """Read a row of COLUMNS."""
    values = dict(zip(FIELDS, row, strict=True))
    values["status"], values["state"], values["tags"] = Status(values["status"]), State(values["state"]), tuple(values["tags"])
    return Media(**values)


def card_of(row: Sequence[Any]) -> Card:
    """Read a row of CARD_COLUMNS as it is stored: the hot one, past the columns' own types."""
    values = dict(zip(_CARD, row, strict=True))
    expires_at: int | None = values["expires_at"]
    values.update(
        public=bool(values["public"]),
        state=State(values["state"]),
        status=Status(values["status"]),
        expires_at=None if expires_at is None else moment_of(expires_at),
        modified=moment_of(values["modified"]),
        tags=() if values["tags"] == "[]" else tuple(msgspec.json.decode(values["tags"])),
    )
    return Card(**values)


def row_of(record: Media, dedupe_key: str | None) -> dict[str, Any]:
    """Write a media as column values."""
    values = {name: getattr(record, name) for name in FIELDS}
    values.update(status=record.status.value, state=record.state.value, family=family_of(record.media_type), dedupe_key=dedupe_key)
    if record.state is State.QUARANTINED:
        values["quarantined_by"] = record.id  # withheld from its first moment, and released as any other
    return values


def family_of(media_type: str) -> str:
    """Tell the part of a media type before its slash."""
    return media_type.partition("/")[0]


async def write_media(connection: AsyncConnection, record: Media, dedupe_key: str | None) -> None:
    """Insert a media and its tags."""
    await connection.execute(insert(media), row_of(record, dedupe_key))
    await write_tags(connection, record.id, record.tags)


async def fulfil(connection: AsyncConnection, record: Media, dedupe_key: str | None) -> bool:
    """Give a registered media its bytes; False when it was changed, withheld or deleted since it was read as `record`."""
    values = {name: getattr(record, name) for name in _BYTES}
    values.update(status=record.status.value, state=record.state.value, family=family_of(record.media_type), dedupe_key=dedupe_key)
    if record.state is State.QUARANTINED:
        values["quarantined_by"] = record.id
    waiting = and_(media.c.id == record.id, media.c.version == record.version, media.c.state == State.LIVE.value)
    statement = update(media).where(waiting, media.c.status.in_(WITHOUT_BYTES)).values(**values, version=media.c.version + 1)
    return (await connection.execute(statement)).rowcount == 1


async def write_tags(connection: AsyncConnection, id: str, tags: Sequence[str]) -> None:
    """Add a media's tags, of which it has none yet."""
    if tags:
        await connection.execute(insert(media_tags), [{"tag": tag, "media_id": id} for tag in dict.fromkeys(tags)])


async def erase_tags(connection: AsyncConnection, id: str) -> None:
    """Remove a media's tags from the index of tags."""
    await connection.execute(delete(media_tags).where(media_tags.c.media_id == id))
