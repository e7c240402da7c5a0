"""The driver's table in the configuration."""

import re
from typing import Literal
from urllib.parse import urlsplit

from msgspec import Struct

MIB = 1 << 20
LEAST_PART = 5 * MIB
LARGEST_PART = 512 * MIB
_PREFIX = re.compile(r"(?!.*(?:^|/)\.{1,2}(?:/|$))[A-Za-z0-9._-]+(?:/[A-Za-z0-9._-]+)*")


class S3Config(Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """Which bucket, by whose leave, and how much at once."""

    bucket: str
    prefix: str = ""
    """What the key of every object begins with in the bucket, as a folder: "media" makes media/originals/…"""
    endpoint: str | None = None
    """Address of an S3 service that is not Amazon's; None asks AWS_ENDPOINT_URL_S3, AWS_ENDPOINT_URL and the profile."""
    public_endpoint: str | None = None
    """Address by which clients reach the same service, for presigned URLs; None is `endpoint`."""
    region: str | None = None
    """None asks AWS_REGION, AWS_DEFAULT_REGION and the profile, and then takes us-east-1."""
    addressing: Literal["auto", "path", "virtual"] = "auto"
    """Whether the bucket stands in the path or in the host name."""
    access_key: str | None = None
    secret_key: str | None = None
    session_token: str | None = None
    """Credentials. Without them the usual chain is asked: variables, the shared files with `profile`, containers, the instance's role."""
    profile: str | None = None
    storage_class: str | None = None
    encryption: Literal["AES256", "aws:kms", "aws:kms:dsse"] | None = None
    """Server-side encryption asked for with each object; None leaves it to the bucket."""
    kms_key: str | None = None
    checksum: Literal["crc32", "md5", "none"] = "crc32"
    """By what the service verifies each body: the CRC-32 that it keeps with the object; Content-MD5, which every service knows and which costs five times as much."""
    overwrite: bool = True
    """False sends If-None-Match with each put, so that an object that is there is never replaced; the service must know that."""
    part_size: int = 8 * MIB
    parts_in_flight: int = 4
    parallel_reads: int = 4
    """Parts of one large read that are fetched at once, 1 for none beside the other; all reads together hold at most `read_ahead` bytes for that."""
    read_ahead: int = 64 * MIB
    connections: int = 64
    connect_timeout: float = 2.0
    read_timeout: float = 20.0
    """Seconds without a byte in either direction after which a request has failed."""
    proxy: str | None = None
    """An HTTP proxy; without this key there is none, whatever the environment says."""
    verify: bool | str = True
    """Whether certificates are verified, or the path of a bundle of authorities to do it by."""

    def __post_init__(self) -> None:
        if not re.fullmatch(r"[A-Za-z0-9][A-Za-z0-9._-]{2,254}", self.bucket):
            raise ValueError("bucket is no name of a bucket")
        if self.prefix.strip("/") and (len(self.prefix) > 400 or not _PREFIX.fullmatch(self.prefix.strip("/"))):
            raise ValueError("prefix is a path of A-Z a-z 0-9 . _ - and /, at most 400 characters")
        for name in ("endpoint", "public_endpoint", "proxy"):
            address = getattr(self, name)
            if address is not None and (urlsplit(address).scheme not in ("http", "https") or not urlsplit(address).hostname):
                raise ValueError(f"{name} is an address such as https://s3.example.org")
        if (self.access_key is None) != (self.secret_key is None) or (self.session_token is not None and self.access_key is None):
            raise ValueError("access_key and secret_key belong together, and session_token to them")
        if self.kms_key is not None and self.encryption not in ("aws:kms", "aws:kms:dsse"):
            raise ValueError('kms_key needs encryption = "aws:kms"')
        if not LEAST_PART <= self.part_size <= LARGEST_PART:
            raise ValueError(f"part_size is from {LEAST_PART} (5 MiB) to {LARGEST_PART} bytes")
        for name, highest in (("parts_in_flight", 64), ("parallel_reads", 64), ("connections", 1000)):
            if not 1 <= getattr(self, name) <= highest:
                raise ValueError(f"{name} is from 1 to {highest}")
        if self.read_ahead < 0 or min(self.connect_timeout, self.read_timeout) <= 0:
            raise ValueError("read_ahead is not negative, and the timeouts are positive")
