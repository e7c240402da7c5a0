"""An upload's parameters as the header fields in which they go out, whichever way its bytes go."""

import base64
from collections.abc import Iterable, Mapping
from datetime import datetime
from typing import Any
from urllib.parse import quote

import msgspec


def header_fields(
    *,
    filename: str | None,
    title: str | None,
    tags: Iterable[str],
    metadata: Mapping[str, Any] | None,
    public: bool,
    expires_in: int | None = None,
    expires_at: datetime | None = None,
    media_type: str | None = None,
    digest: str | None = None,
) -> dict[str, str]:
    """An upload's parameters as header fields."""
    text = {"Filename": filename, "Title": title, "Tags": tags if isinstance(tags, str) else ",".join(tags) or None}
    if metadata is not None:
        text["Metadata"] = msgspec.json.encode(metadata).decode()
    # RFC 8187 section 3.2.1: a header field carries no more than ASCII.
    fields = {f"X-Media-{name}": f"UTF-8''{quote(value, safe='')}" for name, value in text.items() if value}
    if public:
        fields["X-Media-Public"] = "true"
    if expires_in is not None:
        fields["X-Media-Expires-In"] = str(expires_in)
    if expires_at is not None:
        fields["X-Media-Expires-At"] = expires_at.isoformat()
    if media_type is not None:
        fields["Content-Type"] = media_type
    if digest is not None:
        fields["Repr-Digest"] = repr_digest(digest)
    return fields


def repr_digest(sha256: str) -> str:
    """The field of a SHA-256 in hexadecimal (RFC 9530 section 3)."""
    return f"sha-256=:{base64.b64encode(bytes.fromhex(sha256)).decode()}:"
