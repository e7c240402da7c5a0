"""An uploader's parameters, from query, X-Media-* fields or form fields, into an Intake: one parser for the three."""

import difflib
from collections.abc import Mapping
from datetime import UTC, datetime, timedelta
from typing import Any
from urllib.parse import parse_qsl

import msgspec

from mediacdn.config import Limits
from mediacdn.errors import InvalidParameter
from mediacdn.http import tus
from mediacdn.http.digests import parse_hex_sha256, parse_sha256
from mediacdn.http.disposition import clean_filename, decode_ext_value
from mediacdn.http.media_types import normalise
from mediacdn.terms import Intake
from mediacdn.ulids import is_ulid

NAMES = ("public", "title", "tags", "filename", "expires_in", "expires_at", "metadata")
MAX_TITLE = 500
MAX_TAG = 100
MAX_DEPTH = 64
"""Of nested arrays and objects in metadata: far below where any reader's recursion ends, so that what is stored can always be shown again."""
TRUE, FALSE = ("true", "1", "yes", "on"), ("false", "0", "no", "off", "")


def from_query(query: bytes) -> dict[str, str]:
    """Raises: InvalidParameter on an unknown or repeated name, or text that is not UTF-8."""
    try:
        pairs = parse_qsl(query.decode("ascii"), keep_blank_values=True, errors="strict", max_num_fields=50)
    except ValueError:
        raise InvalidParameter("The query is malformed") from None
    found: dict[str, str] = {}
    for name, value in pairs:
        put(found, name, value)
    return found


def from_headers(headers: Mapping[str, str]) -> dict[str, str]:
    """X-Media-Expires-In and its like; text values may be RFC 8187 encoded."""
    found: dict[str, str] = {}
    for name, value in headers.items():
        if name.startswith("x-media-"):
            put(found, name[8:].replace("-", "_"), decode_ext_value(value))
    return found


def from_metadata(text: str, limits: Limits, now: datetime, *, size: int | None) -> Intake:
    """Upload-Metadata of tus: the parameters' own names, `filetype` and `sha256`; of what common clients send besides, `name` and `type` stand in. Raises: InvalidParameter."""
    given = tus.metadata(text)
    given.pop("relativePath", None)
    name, kind = given.pop("name", None), given.pop("type", None)
    kind, sha256 = given.pop("filetype", kind), given.pop("sha256", None)
    found: dict[str, str] = {}
    for key, value in given.items():
        put(found, key, value)
    if name:
        found.setdefault("filename", name)
    return intake(found, limits, now, media_type=kind or None, sha256=parse_hex_sha256(sha256) if sha256 else None, size=size)


def put(found: dict[str, str], name: str, value: str) -> None:
    if name not in NAMES:
        near = difflib.get_close_matches(name, NAMES, 1)
        raise InvalidParameter(f"{name[:60]!r} is not an upload parameter" + (f"; did you mean {near[0]!r}?" if near else ""))
    if name in found:
        raise InvalidParameter(f"{name!r} is given more than once")
    found[name] = value


def declared_sha256(headers: Mapping[str, str]) -> str | None:
    """The digest that a raw body claims, lower-case hexadecimal. Raises: InvalidParameter when malformed or when two claims differ."""
    claims = {
        claim
        for claim in (
            parse_sha256(headers["repr-digest"]) if "repr-digest" in headers else None,
            parse_sha256(headers["content-digest"]) if "content-digest" in headers else None,
            parse_hex_sha256(headers["x-content-sha256"]) if "x-content-sha256" in headers else None,
        )
        if claim is not None
    }
    if len(claims) > 1:
        raise InvalidParameter("The declared digests contradict each other")
    return claims.pop() if claims else None


def intake(
    found: Mapping[str, str], limits: Limits, now: datetime, *, media_type: str | None, sha256: str | None, size: int | None
) -> Intake:
    """Raises: InvalidParameter."""
    if media_type is not None and normalise(media_type) is None:
        raise InvalidParameter("The declared media type is malformed")
    return Intake(
        public=flag("public", found.get("public", "")),
        title=title(found["title"]) if found.get("title") else None,
        filename=clean_filename(found["filename"]) if found.get("filename") else None,
        tags=tags(found["tags"].split(","), limits) if found.get("tags") else (),
        metadata=metadata(found["metadata"], limits) if found.get("metadata") else {},
        expires_at=_expiry(found, now),
        media_type=media_type,
        sha256=sha256,
        size=size,
    )


def cursor(text: str | None) -> str | None:
    """The `next` of an earlier page. Raises: InvalidParameter."""
    if text is not None and not is_ulid(text):
        raise InvalidParameter("'cursor' is the `next` of an earlier page")
    return text


def flag(name: str, text: str) -> bool:
    if text.lower() in TRUE:
        return True
    if text.lower() in FALSE:
        return False
    raise InvalidParameter(f"{name!r} must be true or false")


def title(text: str) -> str | None:
    """One line of text: control characters are dropped, the ends trimmed. Raises: InvalidParameter above 500 characters."""
    clean = "".join(each for each in text if each.isprintable() or each == " ").strip()
    if len(clean) > MAX_TITLE:
        raise InvalidParameter(f"'title' may have at most {MAX_TITLE} characters")
    return clean or None


def tags(given: list[str], limits: Limits) -> tuple[str, ...]:
    """Distinct, in the order given. Raises: InvalidParameter on too many, too long, or control characters."""
    clean = tuple(dict.fromkeys(tag.strip() for tag in given if tag.strip()))
    if len(clean) > limits.max_tags:
        raise InvalidParameter(f"At most {limits.max_tags} tags are allowed")
    if any(len(tag) > MAX_TAG or not tag.isprintable() or "," in tag for tag in clean):
        raise InvalidParameter(f"A tag is at most {MAX_TAG} printable characters without a comma")
    return clean


def metadata(text: str | bytes, limits: Limits) -> dict[str, Any]:
    """A JSON object. Raises: InvalidParameter."""
    if len(text) > limits.max_metadata_size:
        raise InvalidParameter(f"'metadata' may have at most {limits.max_metadata_size} bytes")
    try:
        found = msgspec.json.decode(text, type=dict[str, Any])
    except (msgspec.MsgspecError, RecursionError, UnicodeError):
        raise InvalidParameter("'metadata' must be a JSON object") from None
    return _shallow(found)


def _shallow(given: dict[str, Any]) -> dict[str, Any]:
    """Raises: InvalidParameter above MAX_DEPTH levels; by levels and not by recursion, which would fail by itself."""
    level: list[Any] = [given]
    for _ in range(MAX_DEPTH):
        level = [child for each in level for child in (each.values() if isinstance(each, dict) else each) if isinstance(child, dict | list)]
        if not level:
            return given
    raise InvalidParameter(f"'metadata' may nest at most {MAX_DEPTH} levels")


def _expiry(found: Mapping[str, str], now: datetime) -> datetime | None:
    if found.get("expires_in") and found.get("expires_at"):
        raise InvalidParameter("Give 'expires_in' or 'expires_at', not both")
    if found.get("expires_in"):
        text = found["expires_in"]
        if not (text.isascii() and text.isdigit()) or len(text) > 10 or int(text) == 0:
            raise InvalidParameter("'expires_in' must be a positive number of seconds")
        return now + timedelta(seconds=int(text))
    if found.get("expires_at"):
        return future(time("expires_at", found["expires_at"]), now)
    return None


def future(at: datetime, now: datetime) -> datetime:
    """The moment in UTC. Raises: InvalidParameter when `at` has no zone or is past."""
    at = _utc("expires_at", at)
    if at <= now:
        raise InvalidParameter("'expires_at' must lie in the future")
    return at


def time(name: str, text: str) -> datetime:
    """An RFC 3339 time with its zone, from a query or a form, in UTC. Raises: InvalidParameter."""
    try:
        at = msgspec.convert(text.replace(" ", "+"), datetime)  # an unescaped plus sign arrives as a blank
    except msgspec.ValidationError:
        raise InvalidParameter(f"{name!r} must be an RFC 3339 time") from None
    return _utc(name, at)


def _utc(name: str, at: datetime) -> datetime:
    if at.tzinfo is None:
        raise InvalidParameter(f"{name!r} must be an RFC 3339 time with its zone")
    try:
        return at.astimezone(UTC)  # the catalog keeps UTC: 9999-12-31T23:59:59-12:00 has no such moment, and no row could be read again
    except OverflowError:
        raise InvalidParameter(f"{name!r} lies outside the years 1 to 9999") from None


def bounded(given: dict[str, Any], limits: Limits) -> dict[str, Any]:
    """Metadata that came as JSON already. Raises: InvalidParameter when it is too large or too deep."""
    if len(msgspec.json.encode(_shallow(given))) > limits.max_metadata_size:
        raise InvalidParameter(f"'metadata' may have at most {limits.max_metadata_size} bytes")
    return given
