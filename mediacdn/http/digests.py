"""SHA-256 digests in HTTP fields: Repr-Digest and Content-Digest (RFC 9530), the plain X-Content-SHA256, and the ETag made of a digest."""

import re
from base64 import b64encode
from binascii import Error, a2b_base64

from mediacdn.errors import InvalidParameter

# Structured-field grammar, RFC 9651 sections 3.1 to 3.3. Groups are atomic and quantifiers possessive: no input makes them backtrack.
_KEY = r"[a-z*][a-z0-9_.*-]*+"
_BARE = (
    r"(?>"
    r":[A-Za-z0-9+/=]*+:"
    r'|"(?:[ !#-\[\]-~]|\\["\\])*+"'
    r"|-?(?:[0-9]{1,12}\.[0-9]{1,3}|[0-9]{1,15})"
    r"|@-?[0-9]{1,15}"
    r"|\?[01]"
    r'|%"(?:[ !#$&-~]|%[0-9a-f]{2})*+"'
    r"|[A-Za-z*][!#$%&'*+.^_`|~0-9A-Za-z:/-]*+"
    r")"
)
_PARAMETERS = rf"(?:; *+{_KEY}(?:={_BARE})?+)*+"
_INNER_LIST = rf"\((?: *+{_BARE}{_PARAMETERS}(?=[ )]))*+ *+\)"
_MEMBER = re.compile(rf"({_KEY})(?:=(?:({_BARE})|{_INNER_LIST}))?+{_PARAMETERS}")
_COMMA = re.compile(r"[ \t]*+,[ \t]*+")

_MAX_FIELD = 8192

_HEX = re.compile("[0-9a-fA-F]{64}")


def parse_sha256(value: str) -> str | None:
    """Give the sha-256 member of a Repr-Digest or Content-Digest field as lower-case hexadecimal, None when it has no such member.

    Other algorithms are skipped; of members with one key the last counts (RFC 9651 section 4.2.2), which is also how repeated
    fields are joined. Raises InvalidParameter when the field is no structured dictionary (then all of it must be ignored, and a
    client that meant to protect its bytes deserves to hear of it) or has more than 8 KiB, or when the sha-256 member is not a byte sequence of 32 bytes.
    """
    if len(value) > _MAX_FIELD:
        raise InvalidParameter("The digest field is too long")
    text = value.strip(" \t")
    found: str | None = None
    present = False
    position, end = 0, len(text)
    while position < end:
        member = _MEMBER.match(text, position)
        if member is None:
            raise InvalidParameter("The digest field is not a structured dictionary")
        if member[1] == "sha-256":
            present, found = True, member[2]
        position = member.end()
        if position == end:
            break
        comma = _COMMA.match(text, position)
        if comma is None or comma.end() == end:
            raise InvalidParameter("The digest field is not a structured dictionary")
        position = comma.end()
    return _decoded(found) if present else None


def parse_hex_sha256(value: str) -> str:
    """Give a digest of 64 hexadecimal digits in lower case. Raises InvalidParameter for anything else."""
    if _HEX.fullmatch(value) is None:
        raise InvalidParameter("A SHA-256 digest has 64 hexadecimal digits")
    return value.lower()


def repr_digest(hex_digest: str) -> str:
    """Write the Repr-Digest of a hexadecimal SHA-256, `sha-256=:base64:` (RFC 9530 section 3)."""
    return f"sha-256=:{b64encode(bytes.fromhex(hex_digest)).decode('ascii')}:"


def etag(hex_digest: str) -> str:
    """Write the strong entity-tag of content with this SHA-256, quotes included (RFC 9110 section 8.8.3)."""
    return f'"sha256:{hex_digest}"'


def _decoded(item: str | None) -> str:
    if item is None or item[0] != ":":
        raise InvalidParameter("The sha-256 digest is not a byte sequence")
    text = item[1:-1].rstrip("=")
    try:
        # missing padding is no error (RFC 9651 section 4.2.7)
        raw = a2b_base64(text + "=" * (-len(text) % 4), strict_mode=True)
    except Error:
        raise InvalidParameter("The sha-256 digest is not base64") from None
    if len(raw) != 32:
        raise InvalidParameter("The sha-256 digest does not have 32 bytes")
    return raw.hex()
