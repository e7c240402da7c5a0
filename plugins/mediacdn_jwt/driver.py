"""The driver: from headers to a Principal. It answers for the order of the checks, and for remembering tokens that passed them."""

import asyncio
from collections import OrderedDict
from collections.abc import AsyncIterator, Mapping
from contextlib import asynccontextmanager
from datetime import timedelta
from hashlib import sha256
from pathlib import Path
from typing import Any

import jwt
from anyio import to_thread
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey
from cryptography.hazmat.primitives.serialization import load_pem_private_key
from msgspec import Struct
from msgspec.structs import replace

from mediacdn import Clock, ConfigError, InvalidParameter, InvalidToken, Kit, Principal, development_key
from mediacdn_jwt.claims import is_subject, principal_of
from mediacdn_jwt.config import JwtConfig, check, is_development
from mediacdn_jwt.keys import Key, KeyRefused, KeyTable, admit, key_from_pem
from mediacdn_jwt.keyset import KeySet
from mediacdn_jwt.strict import decode_object
from mediacdn_jwt.tokens import bearer, read

MAX_REMEMBERED = 4096
DEVELOPMENT_ISSUER = "mediacdn-development"
DEVELOPMENT_AUDIENCE = "mediacdn"
DEVELOPMENT_KID = "development"


class _Seen(Struct, frozen=True):
    principal: Principal
    until: float
    key: Key


class JwtAuthenticator:
    """Verifies bearer tokens. A token that passed is remembered by its digest until it expires or its key leaves the set."""

    def __init__(self, config: JwtConfig, keys: KeySet, clock: Clock, logger: Any) -> None:
        self._config = config
        self._keys = keys
        self._clock = clock
        self._logger = logger
        self._algorithms = frozenset(config.algorithms)
        self._jws = jwt.PyJWS(algorithms=list(config.algorithms))
        self._seen: OrderedDict[bytes, _Seen] = OrderedDict()

    async def authenticate(self, headers: Mapping[str, str]) -> Principal | None:
        """Give the caller that the bearer token speaks for, None without one. Raises: InvalidToken, AuthUnavailable."""
        try:
            text = bearer(headers)
            if text is None:
                return None
            return await self._verified(text)
        except InvalidToken as refusal:
            self._logger.debug("token_refused", reason=refusal.detail)
            raise

    def recall(self, headers: Mapping[str, str]) -> Principal | None:
        """Give the caller of a token that has passed before and is still good."""
        try:
            text = bearer(headers)
        except InvalidToken:
            return None
        return None if text is None else self._remembered(sha256(text.encode()).digest())

    async def check(self) -> None:
        """Raises: AuthUnavailable while tokens cannot be verified; for the readiness probe."""
        self._keys.check()

    async def _verified(self, text: str) -> Principal:
        digest = sha256(text.encode()).digest()
        if (principal := self._remembered(digest)) is not None:
            return principal
        token = read(text, self._algorithms)
        key = await self._keys.find(token.kid, token.algorithm)
        try:
            # Only the signature is PyJWT's: it would judge the times by the machine's clock, and let a name occur twice.
            payload: bytes = self._jws.decode(text, key.public, algorithms=[token.algorithm])
        except (jwt.PyJWTError, ValueError):
            raise InvalidToken("The token's signature does not verify") from None
        try:
            claims = decode_object(payload)
        except ValueError:
            raise InvalidToken("The token is malformed") from None
        principal = principal_of(claims, self._config, self._clock.now().timestamp())
        assert principal.expires_at is not None
        self._seen[digest] = _Seen(principal, principal.expires_at.timestamp() + self._config.leeway, key)
        if len(self._seen) > MAX_REMEMBERED:
            self._seen.popitem(last=False)
        return principal

    def _remembered(self, digest: bytes) -> Principal | None:
        seen = self._seen.get(digest)
        if seen is None:
            return None
        if self._clock.now().timestamp() < seen.until and self._keys.holds(seen.key):
            self._seen.move_to_end(digest)
            return seen.principal
        del self._seen[digest]
        return None


class DevelopmentAuthenticator(JwtAuthenticator):
    """Verifies tokens of the data directory's own key, and issues them (the TokenMinter power)."""

    def __init__(self, config: JwtConfig, private: Ed25519PrivateKey, clock: Clock, logger: Any) -> None:
        config = replace(
            config, issuer=DEVELOPMENT_ISSUER, audience=DEVELOPMENT_AUDIENCE, algorithms=("EdDSA",), subject_claim="sub", scope_map={}
        )
        table = KeyTable([admit(DEVELOPMENT_KID, private.public_key(), config.algorithms)])
        super().__init__(config, KeySet(table, config, logger), clock, logger)
        self._private = private

    async def mint(self, subject: str, scopes: frozenset[str], lifetime: timedelta) -> str:
        """Give a token with exactly these scopes. Raises: InvalidParameter for a subject or lifetime that `authenticate` would refuse."""
        if not is_subject(subject):
            raise InvalidParameter("The subject is not a short printable text")
        if not timedelta(0) < lifetime <= timedelta(days=3650):
            raise InvalidParameter("The lifetime is not between 0 and 10 years")
        now = self._clock.now()
        claims = {
            "iss": DEVELOPMENT_ISSUER,
            "aud": DEVELOPMENT_AUDIENCE,
            "sub": subject,
            "iat": int(now.timestamp()),
            "exp": (now + lifetime).timestamp(),
            self._config.scope_claim: " ".join(sorted(scopes)),
        }
        return jwt.encode(claims, self._private, algorithm="EdDSA", headers={"kid": DEVELOPMENT_KID})


@asynccontextmanager
async def open_authenticator(config: JwtConfig, kit: Kit) -> AsyncIterator[JwtAuthenticator]:
    """Open the driver for a table that `check` accepts, and keep its keys fresh meanwhile. Raises: ConfigError."""
    check(config)
    if is_development(config):
        private = await to_thread.run_sync(_load_development_key, Path(kit.data))
        yield DevelopmentAuthenticator(config, private, kit.clock, kit.logger)
        return
    if config.issuer is None:
        kit.logger.warning("issuer_not_checked", hint="set auth.jwt.issuer")
    keys = KeySet(await to_thread.run_sync(_load_static_keys, config), config, kit.logger)
    # A task and not a task group: a group would wrap the errors of everything that is opened after this driver.
    refresher = asyncio.create_task(keys.keep_fresh()) if config.jwks_url is not None else None
    try:
        yield JwtAuthenticator(config, keys, kit.clock, kit.logger)
    finally:
        if refresher is not None:
            refresher.cancel()
            await asyncio.wait([refresher])


def _load_development_key(data: Path) -> Ed25519PrivateKey:
    try:
        private = load_pem_private_key(development_key(data), None)
    except (TypeError, ValueError):
        private = None
    if not isinstance(private, Ed25519PrivateKey):
        raise ConfigError("The development key is not an Ed25519 key; remove keys/development.pem to have a new one made")
    return private


def _load_static_keys(config: JwtConfig) -> KeyTable:
    keys = []
    for kid, text in config.keys.items():
        try:
            pem = text if "-----BEGIN" in text else Path(text).read_text("ascii")
            keys.append(key_from_pem(kid, pem, config.algorithms))
        except OSError as error:
            raise ConfigError(f"auth.jwt.keys.{kid}: {text} cannot be read: {error.strerror}") from None
        except (KeyRefused, UnicodeDecodeError) as refusal:
            raise ConfigError(f"auth.jwt.keys.{kid}: {refusal if isinstance(refusal, KeyRefused) else 'it is not PEM'}") from None
    return KeyTable(keys)
