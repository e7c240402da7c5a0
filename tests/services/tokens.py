"""An issuer for tests: keys of every kind, and tokens put together by hand so that each part can be wrong."""

import hashlib
import hmac
import json
from base64 import urlsafe_b64encode
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from datetime import UTC, datetime, timedelta
from functools import cache
from typing import Any

from cryptography.hazmat.primitives import hashes
from cryptography.hazmat.primitives.asymmetric import ec, ed25519, padding, rsa
from cryptography.hazmat.primitives.asymmetric.utils import decode_dss_signature
from cryptography.hazmat.primitives.serialization import Encoding, NoEncryption, PrivateFormat, PublicFormat

from mediacdn import Kit
from mediacdn_jwt import JwtConfig, open_driver

ISSUER = "https://auth.example"
AUDIENCE = "media"
NOW = datetime(2026, 3, 1, 12, 0, tzinfo=UTC)


@cache
def private_key(kind: str) -> Any:
    """Give a key by kind (rsa, rsa1024, p256, p384, p521, ed25519), or a further one of the kind by a suffix: "p256/other"."""
    name = kind.partition("/")[0]
    if name.startswith("rsa"):
        return rsa.generate_private_key(65537, int(name[3:] or 2048))
    if name == "ed25519":
        return ed25519.Ed25519PrivateKey.generate()
    return ec.generate_private_key({"p256": ec.SECP256R1, "p384": ec.SECP384R1, "p521": ec.SECP521R1}[name]())


def public_pem(kind: str) -> str:
    return private_key(kind).public_key().public_bytes(Encoding.PEM, PublicFormat.SubjectPublicKeyInfo).decode()  # type: ignore[no-any-return]


def private_pem(kind: str) -> str:
    return private_key(kind).private_bytes(Encoding.PEM, PrivateFormat.PKCS8, NoEncryption()).decode()  # type: ignore[no-any-return]


def b64(data: bytes) -> str:
    return urlsafe_b64encode(data).rstrip(b"=").decode()


def number(value: int) -> str:
    return b64(value.to_bytes((value.bit_length() + 7) // 8, "big"))


def jwk(kind: str, kid: str | None = None, **members: Any) -> dict[str, Any]:
    """Give the public key as a member of a key set."""
    public = private_key(kind).public_key()
    found: dict[str, Any]
    if isinstance(public, rsa.RSAPublicKey):
        numbers = public.public_numbers()
        found = {"kty": "RSA", "n": number(numbers.n), "e": number(numbers.e)}
    elif isinstance(public, ec.EllipticCurvePublicKey):
        point = public.public_numbers()
        size = (public.curve.key_size + 7) // 8
        curve = {"secp256r1": "P-256", "secp384r1": "P-384", "secp521r1": "P-521"}[public.curve.name]
        found = {"kty": "EC", "crv": curve, "x": b64(point.x.to_bytes(size, "big")), "y": b64(point.y.to_bytes(size, "big"))}
    else:
        found = {"kty": "OKP", "crv": "Ed25519", "x": b64(public.public_bytes(Encoding.Raw, PublicFormat.Raw))}
    return {**found, **({"kid": kid} if kid is not None else {}), **members}


def signature(signed: bytes, algorithm: str, secret: Any) -> bytes:
    """Sign as `algorithm` says with whatever `secret` is: a private key, or bytes for HMAC and for a signature given ready."""
    if algorithm.upper().startswith("HS"):
        return hmac.new(secret, signed, {"256": hashlib.sha256, "384": hashlib.sha384, "512": hashlib.sha512}[algorithm[2:]]).digest()
    if isinstance(secret, bytes):
        return secret
    digest = {"256": hashes.SHA256, "384": hashes.SHA384, "512": hashes.SHA512}.get(algorithm[2:], hashes.SHA256)()
    if isinstance(secret, rsa.RSAPrivateKey):
        if algorithm.startswith("PS"):
            return secret.sign(signed, padding.PSS(padding.MGF1(digest), digest.digest_size), digest)
        return secret.sign(signed, padding.PKCS1v15(), digest)
    if isinstance(secret, ec.EllipticCurvePrivateKey):
        size = (secret.curve.key_size + 7) // 8
        r, s = decode_dss_signature(secret.sign(signed, ec.ECDSA(digest)))
        return r.to_bytes(size, "big") + s.to_bytes(size, "big")
    assert isinstance(secret, ed25519.Ed25519PrivateKey)
    return secret.sign(signed)


def claims(**changes: Any) -> dict[str, Any]:
    """Give good claims with changes; None takes one away."""
    stamp = int(NOW.timestamp())
    found = {"iss": ISSUER, "aud": AUDIENCE, "sub": "ann", "iat": stamp, "exp": stamp + 600, **changes}
    return {name: value for name, value in found.items() if value is not None}


def compact(header: dict[str, Any] | bytes, payload: dict[str, Any] | bytes, secret: Any, algorithm: str | None = None) -> str:
    """Put a token together; bytes are taken as they are. `algorithm` is how it is signed where that is not what the header says."""
    raw = [part if isinstance(part, bytes) else json.dumps(part).encode() for part in (header, payload)]
    signed = f"{b64(raw[0])}.{b64(raw[1])}"
    how = algorithm or (header["alg"] if isinstance(header, dict) else "ES256")
    return f"{signed}.{b64(signature(signed.encode(), how, secret))}"


def token(
    kind: str = "p256", kid: str | None = "one", algorithm: str = "ES256", header: dict[str, Any] | None = None, **changes: Any
) -> str:
    """Give a good token, with changes to its claims and further members of its header."""
    named = {} if kid is None else {"kid": kid}
    return compact({"alg": algorithm, "typ": "JWT", **named, **(header or {})}, claims(**changes), private_key(kind))


def authorization(text: str) -> dict[str, str]:
    return {"authorization": f"Bearer {text}"}


class Journal:
    """A logger that remembers, so that a test can read what was said."""

    def __init__(self) -> None:
        self.entries: list[tuple[str, str, dict[str, Any]]] = []

    def __getattr__(self, level: str) -> Any:
        def say(event: str, **details: Any) -> None:
            self.entries.append((level, event, details))

        return say

    def events(self, *levels: str) -> list[str]:
        return [event for level, event, _ in self.entries if not levels or level in levels]


class SetClock:
    def __init__(self) -> None:
        self.time = NOW

    def now(self) -> datetime:
        return self.time

    def step(self, seconds: float) -> None:
        self.time += timedelta(seconds=seconds)


@asynccontextmanager
async def opened(data: Any = "", journal: Journal | None = None, clock: SetClock | None = None, **config: Any) -> AsyncIterator[Any]:
    """Open the driver with these keys of its table."""
    kit = Kit(str(data), journal or Journal(), None, clock or SetClock())
    async with open_driver(JwtConfig(**config), kit) as driver:
        yield driver


def static(*kinds: str, **config: Any) -> dict[str, Any]:
    """Give a table of static keys (kid "one", "two", …) with our issuer and audience."""
    kids = ("one", "two", "three")
    return {
        "issuer": ISSUER,
        "audience": AUDIENCE,
        "keys": {kid: public_pem(kind) for kid, kind in zip(kids, kinds or ("p256",), strict=False)},
        **config,
    }
