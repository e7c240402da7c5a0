"""Links that CloudFront would verify: the signature undone with the public key by hand, the policy read back, and botocore's own URL beside them."""

import hashlib
import json
from base64 import b64decode
from collections.abc import AsyncIterator
from contextlib import AbstractAsyncContextManager
from datetime import UTC, datetime, timedelta
from typing import Any
from urllib.parse import parse_qsl, urlsplit

import pytest
from botocore.signers import CloudFrontSigner
from cryptography.hazmat.primitives import hashes
from cryptography.hazmat.primitives.asymmetric import padding

from mediacdn import Card, ConfigError, Kit, LinkCookies, State, Status
from mediacdn.config import decode_driver
from mediacdn.testing import LinksConformance
from mediacdn_cloudfront import CloudFront, CloudFrontConfig, open_cloudfront
from tests.services.tokens import SetClock, private_key, private_pem

pytestmark = pytest.mark.anyio

URL = "https://d111111abcdef8.cloudfront.net/cdn"
KEY_ID = "K2JCJMDEHXQW5F"
NOW = datetime(2026, 3, 1, 12, 0, tzinfo=UTC)
STAMP = int(NOW.timestamp())
ID = "01ARZ3NDEKTSV4RRFFQ69G5FAV"
PATH = f"/v1/media/{ID}?disposition=attachment&exp=1&iat=1&kid=k&sig=s"
DISPOSITION = "attachment; filename=\"a b.png\"; filename*=UTF-8''%C3%A4%20b.png"
CARD = Card(ID, "o", False, State.LIVE, Status.READY, 1, 0, None, "bucket", f"originals/{ID}.png", 9, "0" * 64, "image/png", NOW)
SHA1_IN_DER = bytes.fromhex("3021300906052b0e03021a05000414")


def opened(**config: Any) -> AbstractAsyncContextManager[Any]:
    table = {"url": URL, "key_id": KEY_ID, "private_key": private_pem("rsa"), **config}
    return open_cloudfront(decode_driver(CloudFrontConfig, table, "links.cloudfront"), Kit("", None, None, SetClock()))


def undone(text: str) -> bytes:
    """CloudFront's base64."""
    return b64decode(text.replace("-", "+").replace("_", "=").replace("~", "/"), validate=True)


def verified(signature: bytes, policy: bytes) -> bool:
    """RSASSA-PKCS1-v1_5 (RFC 8017 section 8.2.2) of SHA-1, from the numbers of the public key alone."""
    numbers = private_key("rsa").public_key().public_numbers()
    size = (numbers.n.bit_length() + 7) // 8
    found = pow(int.from_bytes(signature, "big"), numbers.e, numbers.n).to_bytes(size, "big")
    tail = SHA1_IN_DER + hashlib.sha1(policy).digest()
    return len(signature) == size and found == b"\x00\x01" + b"\xff" * (size - len(tail) - 3) + b"\x00" + tail


def as_cloudfront_does(url: str, at: int) -> tuple[bool, str]:
    """Whether CloudFront would let this URL pass at that time; and what it then asks of the origin."""
    parts = urlsplit(url)
    pairs = parse_qsl(parts.query, keep_blank_values=True, strict_parsing=True)
    raw = [each for each in parts.query.split("&") if each.split("=")[0] not in ("Expires", "Policy", "Signature", "Key-Pair-Id")]
    base = f"{parts.scheme}://{parts.netloc}{parts.path}" + ("?" + "&".join(raw) if raw else "")
    told = dict(pairs)
    assert len(told) == len(pairs)
    assert told["Key-Pair-Id"] == KEY_ID
    if "Policy" in told:
        policy = undone(told["Policy"])
    else:
        policy = b'{"Statement":[{"Resource":"%b","Condition":{"DateLessThan":{"AWS:EpochTime":%b}}}]}' % (
            base.encode(),
            told["Expires"].encode(),
        )
    (statement,) = json.loads(policy)["Statement"]
    condition = statement["Condition"]
    good = (
        verified(undone(told["Signature"]), policy)
        and statement["Resource"] == base
        and at < condition["DateLessThan"]["AWS:EpochTime"]
        and at > condition.get("DateGreaterThan", {"AWS:EpochTime": 0})["AWS:EpochTime"]
    )
    return good, base


class TestCloudFront(LinksConformance):
    @pytest.fixture(params=["mediacdn", "storage"])
    async def links(self, request: pytest.FixtureRequest) -> AsyncIterator[CloudFront]:
        async with opened(origin=request.param, storages=["default"], cookie_domain="example.org") as driver:
            yield driver


@pytest.mark.parametrize("policy", ["canned", "custom"])
@pytest.mark.parametrize("origin", ["mediacdn", "storage"])
async def test_urls(policy: str, origin: str) -> None:
    async with opened(policy=policy, origin=origin, storages=["bucket"], prefix="media/") as driver:
        url = await driver.link(CARD, PATH, timedelta(seconds=300), media_type="image/png", disposition=DISPOSITION)
    good, base = as_cloudfront_does(url, STAMP + 299)
    assert good
    assert not as_cloudfront_does(url, STAMP + 300)[0]
    if policy == "custom":
        assert not as_cloudfront_does(url, STAMP - 61)[0]
    if origin == "mediacdn":
        assert base == URL + PATH
    else:
        parts = urlsplit(base)
        assert f"{parts.scheme}://{parts.netloc}{parts.path}" == f"{URL}/media/originals/{ID}.png"
        assert dict(parse_qsl(parts.query)) == {"response-content-disposition": DISPOSITION, "response-content-type": "image/png"}
    for at in (url.index("Signature=") + 15, url.index(ID) + 3, url.index(".cloudfront")):
        changed = url[:at] + ("A" if url[at] != "A" else "B") + url[at + 1 :]
        assert not as_cloudfront_does(changed, STAMP)[0]
    longer = url.replace(f"Expires={STAMP + 300}", f"Expires={STAMP + 3000}")
    assert policy == "custom" or not as_cloudfront_does(longer, STAMP)[0]


async def test_it_is_what_botocore_signs() -> None:
    def sign(message: bytes) -> bytes:
        return private_key("rsa").sign(message, padding.PKCS1v15(), hashes.SHA1())  # type: ignore[no-any-return]

    reference = CloudFrontSigner(KEY_ID, sign)
    async with opened() as driver:
        url = await driver.link(CARD, "/v1/media/x", timedelta(seconds=60), media_type="image/png", disposition="inline")
    assert url == reference.generate_presigned_url(f"{URL}/v1/media/x", date_less_than=NOW + timedelta(seconds=60))
    assert url.startswith(f"{URL}/v1/media/x?Expires={STAMP + 60}&Signature=")
    async with opened(policy="custom") as driver:
        url = await driver.link(CARD, "/v1/media/x", timedelta(seconds=60), media_type="image/png", disposition="inline")
    policy = reference.build_policy(f"{URL}/v1/media/x", NOW + timedelta(seconds=60), NOW - timedelta(seconds=60))
    assert url == reference.generate_presigned_url(f"{URL}/v1/media/x", policy=policy)


async def test_a_storage_that_the_distribution_does_not_serve() -> None:
    async with opened(origin="storage", storages=["other"]) as driver:
        assert await driver.link(CARD, PATH, timedelta(seconds=60), media_type="image/png", disposition="inline") is None


async def test_cookies() -> None:
    path = f"/s/p1.{ID}.2.1.k..x/v1/media/{ID}"
    async with opened(cookie_domain="example.org") as driver:
        assert isinstance(driver, LinkCookies)
        found = await driver.cookies(CARD, path, timedelta(seconds=300))
    assert found is not None
    assert (found.url, found.domain, found.path) == (URL + path, "example.org", f"/cdn{path}")
    assert set(found.values) == {"CloudFront-Policy", "CloudFront-Signature", "CloudFront-Key-Pair-Id"}
    policy = undone(found.values["CloudFront-Policy"])
    assert verified(undone(found.values["CloudFront-Signature"]), policy)
    assert not verified(undone(found.values["CloudFront-Signature"]), policy + b" ")
    assert json.loads(policy) == {
        "Statement": [
            {
                "Resource": f"{URL}{path}*",
                "Condition": {"DateLessThan": {"AWS:EpochTime": STAMP + 300}, "DateGreaterThan": {"AWS:EpochTime": STAMP - 60}},
            }
        ]
    }
    for table in ({}, {"cookie_domain": "example.org", "origin": "storage", "storages": ["bucket"]}):
        async with opened(**table) as driver:
            assert await driver.cookies(CARD, path, timedelta(seconds=300)) is None


@pytest.mark.parametrize(
    ("table", "problem"),
    [
        ({"url": "d111.cloudfront.net"}, "url must be"),
        ({"url": "https://a.cloudfront.net/"}, "without a slash"),
        ({"url": "https://a.cloudfront.net/*"}, "url must be"),
        ({"key_id": "no/id"}, "key_id must be"),
        ({"origin": "storage"}, "storages must name"),
        ({"origin": "else"}, "expected one of"),
        ({"prefix": "/media"}, "prefix must be"),
        ({"private_key": "no key"}, "no private key in PEM"),
        ({"private_key": private_pem("p256")}, "must be an RSA key"),
        ({"private_key": private_pem("rsa1024")}, "must be an RSA key"),
        ({"secret": "x"}, "is not a key"),
    ],
)
async def test_what_cannot_work_refuses_the_start(table: dict[str, Any], problem: str) -> None:
    with pytest.raises(ConfigError, match=problem) as refused:
        async with opened(**table):
            pass
    assert "PRIVATE" not in str(refused.value)
