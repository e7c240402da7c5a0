"""Conditional requests (RFC 9110 section 13): whether the preconditions of a request let it go on, and whether If-Range lets Range count."""

from collections.abc import Mapping
from datetime import datetime
from enum import Enum

from mediacdn.http.dates import parse_http_date

_SAFE = frozenset({"GET", "HEAD"})
_WITHOUT_REPRESENTATION = frozenset({"OPTIONS", "TRACE", "CONNECT"})


class Outcome(Enum):
    """What preconditions ask for: go on, answer 304, or answer 412."""

    PROCEED = "proceed"
    NOT_MODIFIED = "not_modified"
    FAILED = "failed"


def evaluate(method: str, headers: Mapping[str, str], etag: str, modified: datetime, now: datetime, exists: bool = True) -> Outcome:
    """Evaluate If-Match, If-Unmodified-Since, If-None-Match and If-Modified-Since in the order of RFC 9110 section 13.2.2.

    `headers` has lower-case names and repeated fields joined by ", "; `etag` has its quotes; `modified` is aware and counts in
    whole seconds; `exists` is False where the target has no representation yet. A date that is not valid is as good as absent
    (sections 13.1.3, 13.1.4). Call it only where the answer would otherwise be 2xx (section 13.2.1).
    """
    if method in _WITHOUT_REPRESENTATION:
        return Outcome.PROCEED
    safe = method in _SAFE
    if (wanted := headers.get("if-match")) is not None:
        if not (exists and _lists(wanted, etag, strong=True)):
            return Outcome.FAILED
    elif exists and (since := headers.get("if-unmodified-since")) is not None and _is_newer(modified, since, now) is True:
        return Outcome.FAILED
    if (known := headers.get("if-none-match")) is not None:
        if exists and _lists(known, etag, strong=False):
            return Outcome.NOT_MODIFIED if safe else Outcome.FAILED
    elif safe and exists and (since := headers.get("if-modified-since")) is not None and _is_newer(modified, since, now) is False:
        return Outcome.NOT_MODIFIED
    return Outcome.PROCEED


def range_applies(if_range: str | None, etag: str, modified: datetime, now: datetime) -> bool:
    """Say whether Range counts in the face of If-Range (RFC 9110 section 13.1.5).

    An entity-tag must equal `etag` by strong comparison, a date must equal `modified` to the second. Such a date is strong enough
    (section 8.8.2.2), because the bytes behind one ETag never change, let alone twice within a second.
    """
    if if_range is None:
        return True
    if if_range.endswith('"'):
        return if_range == etag and not etag.startswith("W/")
    return parse_http_date(if_range, now) == modified.replace(microsecond=0)


def _is_newer(modified: datetime, text: str, now: datetime) -> bool | None:
    since = parse_http_date(text, now)
    return None if since is None else modified.replace(microsecond=0) > since


def _lists(field: str, etag: str, *, strong: bool) -> bool:
    """Say whether `field` is `*` or a list with a member that matches `etag` (RFC 9110 section 8.8.3.2).

    An entity-tag cannot contain a quote, so that splitting at quotes gives its opaque parts at odd places, whatever commas they
    hold; what is not an entity-tag matches nothing.
    """
    if field.strip(" \t") == "*":
        return True
    mark, _, rest = etag.partition('"')
    if strong and mark:
        return False
    if field == etag:
        return True
    opaque = rest[:-1]
    if opaque not in field:
        return False
    pieces = field.split('"')
    for before, tag in zip(pieces[:-1:2], pieces[1:-1:2], strict=False):
        if tag == opaque:
            mark = before.lstrip(" \t,")
            if not mark or (mark == "W/" and not strong):
                return True
    return False
