"""Decoders that accept one spelling: what two readers could read differently is refused. It raises ValueError and leaves the answer to the caller."""

import json
import re
from base64 import urlsafe_b64decode, urlsafe_b64encode
from typing import Any, NoReturn

_BASE64URL = re.compile(rb"[A-Za-z0-9_-]*")


def decode_base64url(text: str) -> bytes:
    """Decode RFC 7515 section 2 base64url: no padding, no other alphabet, and the unused bits of the last character zero."""
    raw = text.encode("ascii")
    if not _BASE64URL.fullmatch(raw) or len(raw) % 4 == 1:
        raise ValueError("not base64url")
    decoded = urlsafe_b64decode(raw + b"=" * (-len(raw) % 4))
    if urlsafe_b64encode(decoded).rstrip(b"=") != raw:
        raise ValueError("not canonical base64url")
    return decoded


def decode_object(data: bytes) -> dict[str, Any]:
    """Decode a JSON object of I-JSON (RFC 7493): UTF-8, unique names, numbers that are numbers, no lone surrogates."""
    text = data.decode("utf-8")
    try:
        found = json.loads(text, object_pairs_hook=_unique, parse_constant=_no_constant)
        if "\\u" in text:
            json.dumps(found, ensure_ascii=False).encode("utf-8")
    except RecursionError:
        raise ValueError("nested too deeply") from None
    if not isinstance(found, dict):
        raise ValueError("not an object")  # of the data, not of a caller's argument
    return found


def _unique(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    found = dict(pairs)
    if len(found) != len(pairs):
        raise ValueError("a name occurs twice")
    return found


def _no_constant(name: str) -> NoReturn:
    raise ValueError(f"{name} is not JSON")
