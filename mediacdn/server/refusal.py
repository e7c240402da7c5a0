"""The answer to a request that never reaches the application: a whole HTTP/1.1 answer with an RFC 9457 document, after which the connection ends."""

from secrets import token_hex

import msgspec
from uvicorn.protocols.http.httptools_impl import STATUS_LINE

from mediacdn.errors import MediaError


def problem(error: MediaError) -> tuple[list[tuple[bytes, bytes]], bytes]:
    """Header fields and body of the problem document (RFC 9457 section 3); its request_id is made here, for no one gave the request one."""
    body = msgspec.json.encode(
        {
            "type": f"urn:mediacdn:error:{error.code}",
            "title": error.title,
            "status": error.status,
            "detail": error.detail,
            "code": error.code,
            "request_id": token_hex(16),
            **error.extra,
        }
    )
    fields = [
        (b"content-type", b"application/problem+json"),
        (b"content-length", b"%d" % len(body)),
        (b"cache-control", b"no-store"),
        *((name.lower().encode(), value.encode()) for name, value in error.headers.items()),
    ]
    return fields, body


def refusal(error: MediaError, date: bytes, *, head: bool = False) -> bytes:
    """The bytes of the answer, with Connection: close; without its body where the method is HEAD (RFC 9110 section 9.3.2)."""
    fields, body = problem(error)
    lines = [STATUS_LINE[error.status]]
    for name, value in ((b"date", date), *fields, (b"connection", b"close")):
        lines += (name, b": ", value, b"\r\n")
    lines.append(b"\r\n")
    if not head:
        lines.append(body)
    return b"".join(lines)
