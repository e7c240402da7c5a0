"""The driver: botocore's CloudFrontSigner over the configured key, off the event loop because a signature takes a millisecond."""

from base64 import b64encode
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from datetime import datetime, timedelta
from typing import Any
from urllib.parse import quote

import anyio.to_thread

from mediacdn import Card, Clock, ConfigError, Cookies, Kit
from mediacdn_cloudfront.config import CloudFrontConfig

EARLY = timedelta(seconds=60)
"""How far CloudFront's clock may be behind ours where a policy says from when it holds."""
Sign = Callable[[bytes], bytes]


class CloudFront:
    """Signs for one distribution. `sign` is RSASSA-PKCS1-v1_5 with SHA-1, the only signature of RSA keys that CloudFront takes."""

    def __init__(self, config: CloudFrontConfig, sign: Sign, signer: Any, clock: Clock) -> None:
        self._config = config
        self._sign = sign
        self._signer = signer
        self._clock = clock

    async def link(self, card: Card, path: str, expires: timedelta, *, media_type: str, disposition: str) -> str | None:
        url = self._url(card, path, media_type, disposition)
        return None if url is None else await anyio.to_thread.run_sync(self._signed, url, expires)

    async def cookies(self, card: Card, path: str, expires: timedelta) -> Cookies | None:
        if self._config.origin != "mediacdn" or not self._config.cookie_domain:
            return None
        url = self._config.url + path
        values = await anyio.to_thread.run_sync(self._cookies, f"{url}*", expires)
        return Cookies(url, values, self._config.cookie_domain, "/" + url.split("/", 3)[3])

    def _url(self, card: Card, path: str, media_type: str, disposition: str) -> str | None:
        config = self._config
        if config.origin == "mediacdn":
            return config.url + path
        if card.storage not in config.storages:
            return None
        # S3 answers with these where CloudFront asks in its own name (origin access control) and passes the query on.
        query = f"response-content-disposition={quote(disposition, safe='')}&response-content-type={quote(media_type, safe='')}"
        return f"{config.url}/{config.prefix}{card.key}?{query}"

    def _signed(self, url: str, expires: timedelta) -> str:
        now = self._clock.now()
        if self._config.policy == "canned":
            signed: str = self._signer.generate_presigned_url(url, date_less_than=now + expires)
        else:
            signed = self._signer.generate_presigned_url(url, policy=self._policy(url, now, expires))
        return signed

    def _policy(self, resource: str, now: datetime, expires: timedelta) -> str:
        policy: str = self._signer.build_policy(resource, now + expires, date_greater_than=now - EARLY)
        return policy

    def _cookies(self, resource: str, expires: timedelta) -> dict[str, str]:
        policy = self._policy(resource, self._clock.now(), expires).encode()
        return {
            "CloudFront-Policy": _encoded(policy),
            "CloudFront-Signature": _encoded(self._sign(policy)),
            "CloudFront-Key-Pair-Id": self._config.key_id,
        }


def _encoded(data: bytes) -> str:
    """CloudFront's base64 for URLs and cookies."""
    return b64encode(data).decode().replace("+", "-").replace("=", "_").replace("/", "~")


@asynccontextmanager
async def open_cloudfront(config: CloudFrontConfig, kit: Kit) -> AsyncIterator[CloudFront]:
    """Read the key, and try it. Raises: ConfigError for one that is no RSA key of 2048 bits or more."""
    yield await anyio.to_thread.run_sync(_made, config, kit.clock)  # botocore takes a while to import


def _made(config: CloudFrontConfig, clock: Clock) -> CloudFront:
    from botocore.signers import CloudFrontSigner
    from cryptography.hazmat.primitives import hashes
    from cryptography.hazmat.primitives.asymmetric import padding, rsa
    from cryptography.hazmat.primitives.serialization import load_pem_private_key

    try:
        key = load_pem_private_key(config.private_key.encode(), password=None)
    except (ValueError, TypeError) as error:
        raise ConfigError("links.cloudfront.private_key is no private key in PEM without a passphrase") from error
    if not isinstance(key, rsa.RSAPrivateKey) or key.key_size < 2048:
        raise ConfigError("links.cloudfront.private_key must be an RSA key of 2048 bits")

    def sign(message: bytes) -> bytes:
        return key.sign(message, padding.PKCS1v15(), hashes.SHA1())  # noqa: S303

    signer = CloudFrontSigner(config.key_id, sign)
    return CloudFront(config, sign, signer, clock)
