"""Public keys that may verify tokens: it answers for a key's strength and for which algorithms it may be used with, whatever a token says."""

from collections.abc import Iterable, Mapping
from hashlib import sha256
from typing import Any

from cryptography.exceptions import UnsupportedAlgorithm
from cryptography.hazmat.primitives.asymmetric.ec import (
    SECP256R1,
    SECP384R1,
    SECP521R1,
    EllipticCurve,
    EllipticCurvePublicKey,
    EllipticCurvePublicNumbers,
)
from cryptography.hazmat.primitives.asymmetric.ed448 import Ed448PublicKey
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PublicKey
from cryptography.hazmat.primitives.asymmetric.rsa import RSAPublicKey, RSAPublicNumbers
from cryptography.hazmat.primitives.serialization import Encoding, PublicFormat, load_pem_public_key
from msgspec import Struct

from mediacdn_jwt.strict import decode_base64url

PublicKey = RSAPublicKey | EllipticCurvePublicKey | Ed25519PublicKey | Ed448PublicKey

MIN_RSA_BITS = 2048
MAX_RSA_BITS = 8192
MAX_KID = 256
CURVES: dict[str, tuple[type[EllipticCurve], str]] = {
    "P-256": (SECP256R1, "ES256"),
    "P-384": (SECP384R1, "ES384"),
    "P-521": (SECP521R1, "ES512"),
}
RSA_ALGORITHMS = frozenset({"RS256", "RS384", "RS512", "PS256", "PS384", "PS512"})
PRIMES = tuple(number for number in range(3, 168, 2) if all(number % smaller for smaller in range(3, 13, 2) if smaller < number))
ROCA = tuple((prime, frozenset(pow(65537, power, prime) for power in range(prime))) for prime in PRIMES)
"""For each prime the residues that a modulus made by the faulty library can have (CVE-2017-15361): powers of 65537, and nothing else."""


class KeyRefused(ValueError):
    """A key that may not verify anything here; the text is for the log and names no key material."""


class Key(Struct, frozen=True):
    """A key with the algorithms that it may be used with. `identity` is equal for two keys exactly when they verify the same tokens."""

    kid: str | None
    algorithms: frozenset[str]
    public: PublicKey
    identity: str


class KeyTable:
    """Keys by kid. A kid is text to compare, nothing else."""

    def __init__(self, keys: Iterable[Key] = ()) -> None:
        self.keys = tuple(keys)
        self.identities = frozenset(key.identity for key in self.keys)
        self._by_kid: dict[str | None, list[Key]] = {}
        for key in self.keys:
            self._by_kid.setdefault(key.kid, []).append(key)

    def find(self, kid: str | None, algorithm: str) -> Key | None:
        """Give the one key of this kid that fits; without a kid, the one key that fits at all. None also when several do."""
        candidates = self.keys if kid is None else self._by_kid.get(kid, ())
        fitting = [key for key in candidates if algorithm in key.algorithms]
        return fitting[0] if len(fitting) == 1 else None


def key_from_pem(kid: str, pem: str, allowed: Iterable[str]) -> Key:
    """Admit a public key in PEM. Raises: KeyRefused."""
    if "PRIVATE KEY" in pem:
        raise KeyRefused("it is a private key; give the public one")
    try:
        public = load_pem_public_key(pem.encode())
    except (ValueError, UnsupportedAlgorithm):
        raise KeyRefused("it is not a public key in PEM") from None
    return admit(kid, public, allowed)


def key_from_jwk(jwk: Mapping[str, Any], allowed: Iterable[str]) -> Key:
    """Admit a member of a key set (RFC 7517 section 4). Certificates and URLs in it are not looked at. Raises: KeyRefused."""
    kid, use, operations, algorithm = (jwk.get(name) for name in ("kid", "use", "key_ops", "alg"))
    if kid is not None and not (isinstance(kid, str) and 0 < len(kid) <= MAX_KID):
        raise KeyRefused("its kid is not a short text")
    if jwk.get("kty") == "oct":
        raise KeyRefused("it is symmetric")
    if "d" in jwk:
        raise KeyRefused("its private part is published")
    if use not in (None, "sig"):
        raise KeyRefused("it is not for signatures")
    if operations is not None and not (isinstance(operations, list) and "verify" in operations):
        raise KeyRefused("it is not for verifying")
    try:
        public = _public_of(jwk)
    except (ValueError, OverflowError, UnsupportedAlgorithm) as error:
        raise KeyRefused(str(error) if isinstance(error, KeyRefused) else "its numbers are malformed") from None
    return admit(kid, public, allowed if algorithm is None else [each for each in allowed if each == algorithm])


def admit(kid: str | None, public: object, allowed: Iterable[str]) -> Key:
    """Check a key's strength and bind it to those of the `allowed` algorithms that it fits. Raises: KeyRefused."""
    if isinstance(public, RSAPublicKey):
        _check_rsa(public.public_numbers())
        fits = RSA_ALGORITHMS
    elif isinstance(public, EllipticCurvePublicKey):
        fits = frozenset(algorithm for curve, algorithm in CURVES.values() if isinstance(public.curve, curve))
    elif isinstance(public, Ed25519PublicKey | Ed448PublicKey):
        fits = frozenset({"EdDSA"})
    else:
        raise KeyRefused("its kind is not supported")
    algorithms = fits.intersection(allowed)
    if not algorithms:
        raise KeyRefused("no allowed algorithm fits it")
    der = public.public_bytes(Encoding.DER, PublicFormat.SubjectPublicKeyInfo)
    identity = sha256(repr((kid, sorted(algorithms))).encode() + der).hexdigest()
    return Key(kid, algorithms, public, identity)


def _check_rsa(numbers: RSAPublicNumbers) -> None:
    bits = numbers.n.bit_length()
    if bits < MIN_RSA_BITS:
        raise KeyRefused(f"its modulus has {bits} bits, fewer than {MIN_RSA_BITS} (RFC 7518 section 3.3)")
    if bits > MAX_RSA_BITS or numbers.e >= 1 << 32:
        raise KeyRefused("verifying with it would take too long")
    if numbers.e < 3 or not numbers.e & 1:
        raise KeyRefused("its exponent is not odd and 3 or more")
    if not numbers.n & 1:
        raise KeyRefused("its modulus is even")
    if all(numbers.n % prime in residues for prime, residues in ROCA):
        raise KeyRefused("it comes from a faulty generator (ROCA, CVE-2017-15361)")


def _public_of(jwk: Mapping[str, Any]) -> PublicKey:
    kind, curve = jwk.get("kty"), jwk.get("crv")
    if kind == "RSA":
        numbers = RSAPublicNumbers(_number(jwk.get("e")), _number(jwk.get("n")))
        _check_rsa(numbers)
        return numbers.public_key()
    if kind == "EC" and isinstance(curve, str) and curve in CURVES:
        return EllipticCurvePublicNumbers(_number(jwk.get("x")), _number(jwk.get("y")), CURVES[curve][0]()).public_key()
    if kind == "OKP" and curve == "Ed25519":
        return Ed25519PublicKey.from_public_bytes(_bytes(jwk.get("x")))
    if kind == "OKP" and curve == "Ed448":
        return Ed448PublicKey.from_public_bytes(_bytes(jwk.get("x")))
    raise KeyRefused("its kind is not supported")


def _bytes(value: object) -> bytes:
    if not isinstance(value, str) or len(value) > 4096:
        raise ValueError("not base64url")
    return decode_base64url(value)


def _number(value: object) -> int:
    return int.from_bytes(_bytes(value), "big")
