"""Cross-origin answers (the Fetch standard, section 3.3): reads of media are open without credentials, the API to listed origins with them."""

from collections.abc import Sequence

READ_EXPOSED = (
    "Accept-Ranges, Age, Cache-Status, Content-Disposition, Content-Length, Content-Range, ETag, Last-Modified, Link, Repr-Digest, Retry-After, "
    "Server-Timing, X-Media-Duration, X-Media-Height, X-Media-Width, X-Request-Id"
)
EXPOSED = (
    f"{READ_EXPOSED}, Location, Tus-Checksum-Algorithm, Tus-Extension, Tus-Max-Size, Tus-Resumable, Tus-Version, Upload-Complete, Upload-Concat, "
    "Upload-Defer-Length, Upload-Expires, Upload-Length, Upload-Limit, Upload-Media-Id, Upload-Metadata, Upload-Offset"
)
ALLOWED_HEADERS = (
    "Authorization, Cache-Control, Content-Digest, Content-Type, Idempotency-Key, If-Match, If-Modified-Since, If-None-Match, If-Range, "
    "If-Unmodified-Since, Range, Repr-Digest, Tus-Resumable, Upload-Checksum, Upload-Complete, Upload-Concat, Upload-Defer-Length, "
    "Upload-Draft-Interop-Version, Upload-Length, Upload-Metadata, Upload-Offset, X-Content-SHA256, X-HTTP-Method-Override, X-Media-Expires-At, X-Media-Expires-In, X-Media-Filename, X-Media-Metadata, "
    "X-Media-Public, X-Media-Tags, X-Media-Title, X-Request-ID, X-Requested-With"
)
MEDIA_METHODS = "GET, HEAD"
API_METHODS = "GET, HEAD, POST, PUT, PATCH, DELETE"

Fields = list[tuple[bytes, bytes]]


def cors_fields(origin: str | None, *, media_read: bool, media_origins: Sequence[str], origins: Sequence[str]) -> Fields:
    """What an answer tells the browser about its reader; nothing for an origin that is not allowed."""
    exposed = (READ_EXPOSED if media_read else EXPOSED).encode()  # every hit carries it, so it is no longer than it must be
    if media_read and "*" in media_origins:
        return [(b"access-control-allow-origin", b"*"), (b"access-control-expose-headers", exposed)]
    if origin is None:
        return [(b"vary", b"Origin")]
    listed = origin in origins
    if not listed and not (media_read and origin in media_origins):
        return [(b"vary", b"Origin")]
    fields = [
        (b"access-control-allow-origin", origin.encode("latin-1")),
        (b"access-control-expose-headers", exposed),
        (b"vary", b"Origin"),
    ]
    if listed:
        fields.append((b"access-control-allow-credentials", b"true"))
    return fields


def preflight_fields(*, media_read: bool, max_age: int) -> Fields:
    """What a preflight's answer adds (section 3.3.3)."""
    methods = MEDIA_METHODS if media_read else API_METHODS
    return [
        (b"access-control-allow-methods", methods.encode()),
        (b"access-control-allow-headers", ALLOWED_HEADERS.encode()),
        (b"access-control-max-age", b"%d" % max_age),
    ]
