"""The header fields of tus 1.0 (tus.io, protocol 1.0.0 with its extensions), read and written; pure."""

import hashlib
import re
from base64 import b64decode
from binascii import Error
from collections.abc import Mapping

from msgspec import Struct

from mediacdn.errors import InvalidParameter

VERSION = "1.0.0"
EXTENSIONS = "creation,creation-with-upload,creation-defer-length,checksum,termination,expiration,concatenation"
CHECKSUMS = ("sha256", "sha1", "md5")
CONTENT_TYPE = "application/offset+octet-stream"
LARGEST = 2**63 - 1

_COUNT = re.compile(r"[0-9]{1,19}")
_KEY = re.compile(r"[\x21-\x2b\x2d-\x7e]+")


class Checksum(Struct, frozen=True):
    """What the bytes of one request must have (extension checksum)."""

    algorithm: str
    digest: bytes

    def started(self) -> "hashlib._Hash":
        return hashlib.new(self.algorithm, usedforsecurity=False)


def count(fields: Mapping[str, str], name: str) -> int | None:
    """A field of a non-negative integer; None where it is missing. Raises: InvalidParameter."""
    text = fields.get(name)
    if text is None:
        return None
    if _COUNT.fullmatch(text) is None or int(text) > LARGEST:
        raise InvalidParameter(f"{name} is a non-negative integer")
    return int(text)


def metadata(text: str) -> dict[str, str]:
    """Upload-Metadata: pairs of a key and a value in Base64, separated by commas; a value may be left out (extension creation). Raises: InvalidParameter."""
    found: dict[str, str] = {}
    for pair in filter(None, (each.strip(" ") for each in text.split(","))):
        key, _, value = pair.partition(" ")
        if _KEY.fullmatch(key) is None or key in found:
            raise InvalidParameter("Upload-Metadata has a key that is malformed or given twice")
        try:
            found[key] = b64decode(value, validate=True).decode()
        except (Error, UnicodeDecodeError):
            raise InvalidParameter(f"Upload-Metadata: the value of {key[:60]!r} is not text in Base64") from None
    return found


def checksum(text: str) -> Checksum:
    """Upload-Checksum: the algorithm's name and the digest in Base64. Raises: InvalidParameter, also for an algorithm that is not offered."""
    algorithm, _, value = text.strip(" ").partition(" ")
    if algorithm not in CHECKSUMS:
        raise InvalidParameter(f"Upload-Checksum: the algorithms are {', '.join(CHECKSUMS)}")
    try:
        digest = b64decode(value, validate=True)
    except Error:
        raise InvalidParameter("Upload-Checksum: the digest is not Base64") from None
    if len(digest) != hashlib.new(algorithm, usedforsecurity=False).digest_size:
        raise InvalidParameter("Upload-Checksum: the digest has another length than the algorithm's")
    return Checksum(algorithm, digest)


def concat(text: str) -> tuple[str, list[str]]:
    """Upload-Concat: ("partial", []), or ("final", the URLs of the partial uploads). Raises: InvalidParameter."""
    if text == "partial":
        return "partial", []
    kind, separator, rest = text.partition(";")
    urls = rest.split()
    if kind != "final" or not separator or not urls:
        raise InvalidParameter('Upload-Concat is "partial" or "final;" and URLs')
    return "final", urls


def fields(largest: int) -> dict[str, str]:
    """What OPTIONS tells of the server."""
    return {
        "Tus-Resumable": VERSION,
        "Tus-Version": VERSION,
        "Tus-Extension": EXTENSIONS,
        "Tus-Max-Size": str(largest),
        "Tus-Checksum-Algorithm": ",".join(CHECKSUMS),
    }
