"""Turns the API's problem documents (RFC 9457) back into the MediaError tree, and says which failures are worth another try."""

from collections.abc import Iterator, Mapping
from datetime import UTC, datetime
from email.utils import parsedate_to_datetime

import msgspec

from mediacdn.errors import BadRequest, MediaError, Unavailable

TRANSIENT = frozenset({408, 429, 502, 503, 504})
"""Answers that may differ next time; 507 is not among them, room seldom appears within seconds."""
REFUSED_UNTOUCHED = frozenset({429, 503})
"""Transient answers after which nothing was done, so that even a request that must not run twice may be sent again."""


def _tree(root: type[MediaError]) -> Iterator[type[MediaError]]:
    level = [root]
    while level:
        yield from level
        level = [child for parent in level for child in parent.__subclasses__() if child.__module__ == root.__module__]


def error_from(status: int, headers: Mapping[str, str], body: bytes) -> MediaError:
    """Rebuild the error that the server raised: by its `code`, else the most general class of its status.

    Members beyond RFC 9457's own are kept in `extra` (`request_id` among them); Retry-After and WWW-Authenticate in `headers`.
    A body that is no problem document (a proxy's page) gives the status alone.
    """
    document: dict[str, object] = {}
    if headers.get("Content-Type", "").split(";")[0].strip().endswith("json"):
        try:
            decoded = msgspec.json.decode(body)
            document = decoded if isinstance(decoded, dict) else {}
        except msgspec.DecodeError:
            pass
    code, detail = document.get("code"), document.get("detail")
    classes = list(_tree(MediaError))
    kind = next((c for c in classes if c.code == code), None) or next((c for c in classes if c.status == status), None)
    if kind is None:
        kind = BadRequest if status < 500 else Unavailable if status in TRANSIENT else MediaError
    if not isinstance(detail, str) or not detail:
        detail = f"the server answered {status}" + (f" and points to {headers['Location']}" if "Location" in headers else "")
    error = kind(detail)
    error.headers = {name: headers[name] for name in ("Retry-After", "WWW-Authenticate") if name in headers}
    error.extra = {"status": status} | {k: v for k, v in document.items() if k not in {"type", "title", "detail", "code"}}
    return error


def retry_after(headers: Mapping[str, str]) -> float:
    """Seconds that the server asks to wait (RFC 9110 section 10.2.3: seconds or a date), 0 when it does not say or is not understood."""
    value = headers.get("Retry-After", "").strip()
    if value.isascii() and value.isdigit():
        return float(value)
    try:
        moment = parsedate_to_datetime(value)
    except ValueError:
        return 0.0
    if moment.tzinfo is None:
        moment = moment.replace(tzinfo=UTC)
    return max(0.0, (moment - datetime.now(UTC)).total_seconds())
