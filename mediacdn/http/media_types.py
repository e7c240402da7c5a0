"""Media types as names to compare (RFC 9110 section 8.3.1, RFC 6838 section 4.2): normal form and ranges such as image/*."""

import re
from collections.abc import Mapping
from typing import TypeVar

T = TypeVar("T")

_NAME = r"[A-Za-z0-9][A-Za-z0-9!#$&^_.+-]{0,126}"
_TYPE = re.compile(rf"[ \t]*({_NAME}/{_NAME})[ \t]*(?:;[^\x00-\x08\x0a-\x1f\x7f]*)?")

_IN_UTF_8 = frozenset({"text/plain", "text/csv", "text/tab-separated-values"})


def normalise(value: str) -> str | None:
    """Give `type/subtype` of a Content-Type in lower case without its parameters; None when it is malformed or a range."""
    found = _TYPE.fullmatch(value)
    return None if found is None else found[1].lower()


def matches(pattern: str, media_type: str) -> bool:
    """Say whether `pattern` (`image/png`, `image/*` or `*/*`, in any case) covers a media type in normal form, whose charset, where it has one, says nothing here."""
    pattern, media_type = pattern.lower(), _essence(media_type)
    if pattern == "*/*" or pattern == media_type:
        return True
    return pattern.endswith("/*") and media_type.startswith(pattern[:-1])


def most_specific(patterns: Mapping[str, T], media_type: str) -> T | None:
    """Give the value of the narrowest pattern that covers a media type in normal form: itself, its type/*, or */*; None without one."""
    media_type = _essence(media_type)
    for candidate in (media_type, f"{media_type.partition('/')[0]}/*", "*/*"):
        for pattern, value in patterns.items():
            if pattern.lower() == candidate:
                return value
    return None


def content_type_of(media_type: str) -> str:
    """The Content-Type of a media of this type. Text that says no other charset is called so only when it is valid UTF-8; without it browsers would guess another."""
    return f"{media_type}; charset=utf-8" if media_type in _IN_UTF_8 else media_type


def _essence(media_type: str) -> str:
    return media_type.partition(";")[0] if ";" in media_type else media_type
