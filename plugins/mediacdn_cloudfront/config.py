"""The driver's table in the configuration."""

import re
from typing import Literal

from msgspec import Struct

_URL = re.compile(r"https?://[A-Za-z0-9.-]+(?::[0-9]{1,5})?(?:/[A-Za-z0-9._~-]+)*")
_KEY_ID = re.compile(r"[A-Za-z0-9]{8,64}")


class CloudFrontConfig(Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """Which distribution, and the key that its trusted key group knows."""

    url: str
    """What stands before a path there, without a slash at the end: the distribution's host, and `server.base_path` where its origin is this server."""
    key_id: str
    """The id of the public key in CloudFront."""
    private_key: str
    """The private key, PEM: RSA of 2048 bits."""
    origin: Literal["mediacdn", "storage"] = "mediacdn"
    """Where the distribution fetches: from this server, which then sees our own signed link in the query, or from the storages' bucket."""
    storages: tuple[str, ...] = ()
    """The storages whose bucket it is, for `origin = "storage"`; media of others have our own links."""
    prefix: str = ""
    """What stands before a storage's keys in that bucket, such as "media/"."""
    policy: Literal["canned", "custom"] = "canned"
    """A custom policy also says from when a URL is good; a canned one makes shorter URLs."""
    cookie_domain: str = ""
    """The domain that this server and the distribution share, such as "example.org"; without one there are no cookies."""

    def __post_init__(self) -> None:
        if not _URL.fullmatch(self.url):
            raise ValueError("url must be such as https://d111111abcdef8.cloudfront.net, without a slash at its end")
        if not _KEY_ID.fullmatch(self.key_id):
            raise ValueError("key_id must be the id that CloudFront gave the public key, such as K2JCJMDEHXQW5F")
        if self.origin == "storage" and not self.storages:
            raise ValueError('storages must name those whose bucket the distribution serves, for origin = "storage"')
        if self.prefix.startswith("/") or not re.fullmatch(r"[A-Za-z0-9._/-]*", self.prefix):
            raise ValueError("prefix must be the beginning of a key, such as media/")
