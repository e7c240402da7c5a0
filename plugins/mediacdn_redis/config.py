"""The keys of [redis], which all three drivers read, and what the broker has beside them."""

import os
import re
from typing import Annotated
from urllib.parse import urlsplit

from msgspec import Meta, Struct

Seconds = Annotated[float, Meta(gt=0, le=60)]


class RedisConfig(Struct, frozen=True, forbid_unknown_fields=True):
    """How to reach it. `url` is redis://, rediss:// (TLS) or unix://; times are seconds."""

    url: str = "redis://127.0.0.1:6379/0"
    username: str = ""
    password: str = ""
    """Beside the URL, so that it can come from a secret's file or variable."""
    ca_file: str = ""
    """The authorities that a rediss:// server's certificate must come from; empty is the system's."""
    prefix: str = "mediacdn"
    """What names of keys and channels begin with; installations that share a server need one each."""
    connect_timeout: Seconds = 1.0
    timeout: Seconds = 1.0
    """For one answer."""

    def __post_init__(self) -> None:
        parts = urlsplit(self.url)
        if parts.scheme not in ("redis", "rediss", "unix"):
            raise ValueError("url must begin with redis://, rediss:// or unix://")
        if parts.scheme != "unix" and not parts.hostname:
            raise ValueError("url must name a host")
        if self.ca_file and parts.scheme != "rediss":
            raise ValueError("ca_file is for a url that begins with rediss://")
        if self.ca_file and not os.access(self.ca_file, os.R_OK):
            raise ValueError("ca_file cannot be read")
        if not re.fullmatch(r"[A-Za-z0-9_.:-]{1,64}", self.prefix):
            raise ValueError("prefix is at most 64 letters, digits, and _ . : -")


class BrokerConfig(RedisConfig, frozen=True, forbid_unknown_fields=True):
    """The table [jobs.redis], beside those keys."""

    stream_length: Annotated[int, Meta(ge=100)] = 10_000
    """About how many rings each lane's stream keeps; those that were seen to stay until they are pushed out."""
