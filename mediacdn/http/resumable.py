"""The header fields of resumable uploads as the IETF's draft has them (draft-ietf-httpbis-resumable-upload-10, interop version 8); pure.

What is not of a field's type has the whole field ignored (section 4.1 there).
"""

import re
from collections.abc import Mapping

INTEROP = 8
CONTENT_TYPE = "application/partial-upload"
PROBLEMS = "https://iana.org/assignments/http-problem-types#"

_INTEGER = re.compile(r"[0-9]{1,15}")


def boolean(fields: Mapping[str, str], name: str) -> bool | None:
    """A field of a structured boolean (RFC 9651 section 3.3.6)."""
    return {"?1": True, "?0": False}.get(fields.get(name, "").strip(" "))


def integer(fields: Mapping[str, str], name: str) -> int | None:
    """A field of a non-negative structured integer (RFC 9651 section 3.3.1)."""
    text = fields.get(name, "").strip(" ")
    return int(text) if _INTEGER.fullmatch(text) else None


def announces(fields: Mapping[str, str]) -> bool:
    """Whether the client understands interim answers of this version (appendix on draft versions)."""
    return integer(fields, "upload-draft-interop-version") == INTEROP


def limit(largest: int, age: int | None = None) -> str:
    """Upload-Limit: the largest size in bytes, and the seconds that the upload still has."""
    return f"max-size={largest}" + ("" if age is None else f", max-age={max(0, age)}")
