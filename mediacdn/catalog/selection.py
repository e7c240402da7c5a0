"""Which media an operator means: conditions as they are written on a command line, and as SQL. All of them must hold."""

from collections.abc import Sequence
from datetime import datetime
from typing import Any

from msgspec import Struct
from sqlalchemy import ColumnElement, and_, or_, select

from mediacdn.catalog.quarantine import with_descendants
from mediacdn.catalog.rows import family_of
from mediacdn.catalog.tables import media, media_tags
from mediacdn.errors import InvalidParameter
from mediacdn.model import State

NAMES = ("id", "owner", "tag", "type", "public", "variant", "storage", "min_size", "max_size", "before", "after")


class Selection(Struct, frozen=True, kw_only=True):
    """`tag` holds for a media that carries it and for all that was made of it; `type` is a media type or a range; sizes are bytes and inclusive.

    `variant` is "original", what a derivative is to its source, or "*" for any derivative; unset: both. `before` and `after` bound when it was stored.
    """

    id: str | None = None
    owner: str | None = None
    tag: str | None = None
    type: str | None = None
    public: bool | None = None
    variant: str | None = None
    storage: str | None = None
    min_size: int | None = None
    max_size: int | None = None
    before: datetime | None = None
    after: datetime | None = None


def selection(written: Sequence[str]) -> Selection:
    """Read conditions such as `tag=pii`, `type=video/*`, `public=true`, `min_size=1000000`, `before=2026-01-31`. Raises: InvalidParameter."""
    values: dict[str, Any] = {}
    for each in written:
        name, sign, value = (part.strip() for part in each.partition("="))
        if not sign or not value or name not in NAMES or "\x00" in value:
            raise InvalidParameter(f"{each!r} is no condition; write NAME=VALUE with one of {', '.join(NAMES)}")
        if name in values:
            raise InvalidParameter(f"{name} is given twice")
        values[name] = _value(name, value)
    return Selection(**values)


def _value(name: str, value: str) -> Any:
    try:
        if name in ("min_size", "max_size"):
            if not (value.isascii() and value.isdigit() and len(value) < 19):
                raise ValueError(value)
            return int(value)
        if name == "public":
            return {"true": True, "false": False}[value.lower()]
        if name in ("before", "after"):
            moment = datetime.fromisoformat(value)
            return moment if moment.tzinfo is not None else moment.astimezone()
    except (KeyError, OverflowError, ValueError):
        raise InvalidParameter(f"{name} cannot be {value!r}") from None
    return value


def holds(chosen: Selection) -> ColumnElement[bool]:
    """The conditions over rows of media; deleted ones never."""
    parts: list[ColumnElement[bool]] = [media.c.state != State.DELETED.value]
    equal = {media.c.id: chosen.id, media.c.owner: chosen.owner, media.c.public: chosen.public, media.c.storage: chosen.storage}
    parts += [column == value for column, value in equal.items() if value is not None]
    if chosen.tag is not None:
        tagged = media.c.id.in_(select(media_tags.c.media_id).where(media_tags.c.tag == chosen.tag))
        parts.append(media.c.id.in_(select(with_descendants(tagged).c.id)))
    if chosen.type is not None and chosen.type != "*/*":
        whole = chosen.type.endswith("/*")
        parts.append(media.c.family == family_of(chosen.type) if whole else media.c.media_type == chosen.type)
    if chosen.variant is not None:
        parts.append(_form(chosen.variant))
    if chosen.min_size is not None:
        parts.append(media.c.size >= chosen.min_size)
    if chosen.max_size is not None:
        parts.append(media.c.size <= chosen.max_size)
    if chosen.before is not None:
        parts.append(media.c.created_at < chosen.before)
    if chosen.after is not None:
        parts.append(media.c.created_at >= chosen.after)
    return and_(*parts)


def _form(variant: str) -> ColumnElement[bool]:
    if variant == "original":
        return media.c.source_id.is_(None)
    derived = media.c.source_id.is_not(None)
    return derived if variant == "*" else and_(derived, or_(media.c.relationship == variant))
