"""Authenticator driver `api-keys`: a few fixed keys, sent in the header X-Api-Key."""

from collections.abc import AsyncIterator, Mapping
from contextlib import asynccontextmanager
from hashlib import sha256
from hmac import compare_digest

from msgspec import Struct

from mediacdn import InvalidToken, Kit, Principal, Scope

HEADER = "x-api-key"
SHORTEST = 20


class Key(Struct, frozen=True, forbid_unknown_fields=True):
    """One caller's key; `secret` has at least 20 characters."""

    secret: str
    scopes: tuple[Scope, ...] = (Scope.READ, Scope.WRITE)

    def __post_init__(self) -> None:
        if len(self.secret) < SHORTEST:
            raise ValueError(f"a secret needs at least {SHORTEST} characters")


class ApiKeysConfig(Struct, frozen=True, forbid_unknown_fields=True):
    """The keys by the name of their caller, which becomes the principal's id and the owner of what it uploads."""

    keys: dict[str, Key]


class ApiKeys:
    """See `mediacdn.Authenticator`."""

    def __init__(self, keys: Mapping[str, Key]) -> None:
        self._keys = [(_digest(key.secret), Principal(name, frozenset(key.scopes))) for name, key in keys.items()]

    async def authenticate(self, headers: Mapping[str, str]) -> Principal | None:
        if HEADER not in headers:
            return None
        given = _digest(headers[HEADER])
        # All are compared, so that the time tells neither which key was near nor how many there are before it.
        found = [principal for digest, principal in self._keys if compare_digest(digest, given)]
        if not found:
            raise InvalidToken("The API key is not known")
        return found[0]


def _digest(secret: str) -> bytes:
    return sha256(secret.encode("utf-8", "surrogateescape")).digest()


@asynccontextmanager
async def open_api_keys(config: ApiKeysConfig, kit: Kit) -> AsyncIterator[ApiKeys]:
    """Open the authenticator; it holds nothing that needs closing."""
    yield ApiKeys(config.keys)
