"""The table [auth.jwt]: whose tokens are believed, and how far. It answers for refusing what cannot be safe before the server starts."""

from ipaddress import IPv4Network, IPv6Network, ip_network
from urllib.parse import urlsplit

from msgspec import Struct

from mediacdn import ConfigError, Scope

ALGORITHMS = frozenset({"RS256", "RS384", "RS512", "PS256", "PS384", "PS512", "ES256", "ES384", "ES512", "EdDSA"})
"""RFC 7518 section 3.1 and RFC 8037 without the symmetric ones: with HMAC, who can verify can also sign."""


class JwtConfig(Struct, frozen=True, forbid_unknown_fields=True, kw_only=True):
    """Times are seconds. Without `issuer`, `jwks_url` and `keys` the driver believes the data directory's own development key, unless `development` is false."""

    issuer: str | None = None
    """Must equal the claim `iss`."""
    audience: str | tuple[str, ...] | None = None
    """One of these must be in the claim `aud`. Without it a token that names an audience is refused (RFC 7519 section 4.1.3)."""
    jwks_url: str | None = None
    keys: dict[str, str] = {}
    """Static public keys: kid to PEM, or to the path of a PEM file."""
    algorithms: tuple[str, ...] = ("RS256", "ES256", "EdDSA", "PS256")
    leeway: float = 30.0
    """By how much clocks may differ, at most 60."""
    subject_claim: str = "sub"
    scope_claim: str = "scope"
    scope_map: dict[str, str] = {}
    """The issuer's scope to ours, several parted by spaces; a scope that is not named here is kept as it is."""
    default_scopes: tuple[str, ...] = (Scope.READ.value, Scope.WRITE.value)
    """What a token without the scope claim may do; never media:admin."""
    jwks_ttl: float = 300.0
    jwks_grace: float = 3600.0
    """How long the last good keys outlive their ttl while the Authentication Service is out."""
    jwks_timeout: float = 5.0
    jwks_allow: tuple[str, ...] = ("0.0.0.0/0", "::/0")
    """Networks that may hold the Authentication Service: any, because the operator named the host. Emptied, only public addresses and https are left."""
    unknown_kid_interval: float = 30.0
    """A token with an unknown kid has the keys fetched anew at most once in this time."""
    development: bool | None = None
    """True insists on the development key, false forbids it, None follows from the other keys."""


def is_development(config: JwtConfig) -> bool:
    return config.issuer is None and config.jwks_url is None and not config.keys


def networks(config: JwtConfig) -> tuple[IPv4Network | IPv6Network, ...]:
    """Parse `jwks_allow`. Raises: ConfigError."""
    try:
        return tuple(ip_network(text) for text in config.jwks_allow)
    except ValueError:
        raise ConfigError("auth.jwt.jwks_allow: not a list of networks such as 10.0.0.0/8") from None


def check(config: JwtConfig) -> None:
    """Refuse a table that verifies nothing, or less than it seems to. Raises: ConfigError."""
    networks(config)
    if unknown := sorted(set(config.algorithms) - ALGORITHMS):
        raise ConfigError(f"auth.jwt.algorithms: {unknown[0]} is not one of {', '.join(sorted(ALGORITHMS))}")
    if not config.algorithms:
        raise ConfigError("auth.jwt.algorithms: empty, so that no token could be accepted")
    if not 0 <= config.leeway <= 60:
        raise ConfigError("auth.jwt.leeway: 0 to 60 seconds")
    for name in ("jwks_ttl", "jwks_timeout", "unknown_kid_interval"):
        if not 0 < getattr(config, name) < float("inf"):
            raise ConfigError(f"auth.jwt.{name}: more than 0 seconds")
    if not 0 <= config.jwks_grace < float("inf"):
        raise ConfigError("auth.jwt.jwks_grace: 0 seconds or more")
    if any(Scope.ADMIN in scopes.split() for scopes in config.default_scopes):
        raise ConfigError("auth.jwt.default_scopes: a token that names no scope cannot be an administrator's")
    if "" in (config.issuer, config.subject_claim, config.scope_claim) or "" in _audiences(config) or config.audience == ():
        raise ConfigError("auth.jwt: issuer, audience and the names of claims cannot be empty")
    _check_mode(config)
    if config.jwks_url is not None:
        _check_url(config.jwks_url, config)


def _audiences(config: JwtConfig) -> tuple[str, ...]:
    return (config.audience,) if isinstance(config.audience, str) else config.audience or ()


def _check_mode(config: JwtConfig) -> None:
    if is_development(config):
        if config.development is False:
            raise ConfigError("auth.jwt: nothing to verify tokens with; set jwks_url or keys, or allow development")
    elif config.development:
        raise ConfigError("auth.jwt.development: the development key is refused where an issuer, jwks_url or keys are configured")
    elif config.jwks_url is None and not config.keys:
        raise ConfigError("auth.jwt.issuer: its keys are missing; set jwks_url or keys")


def _check_url(url: str, config: JwtConfig) -> None:
    try:
        parts, port = urlsplit(url), urlsplit(url).port
    except ValueError:
        raise ConfigError("auth.jwt.jwks_url: not a URL") from None
    if parts.scheme not in ("http", "https") or not parts.hostname or port == 0:
        raise ConfigError("auth.jwt.jwks_url: not an http or https URL")
    if parts.username is not None or parts.password is not None:
        raise ConfigError("auth.jwt.jwks_url: may not hold credentials")
    if parts.scheme == "http" and not config.jwks_allow:
        # Whoever can answer in the service's place can sign any token, so plain http is for named private networks.
        raise ConfigError("auth.jwt.jwks_url: https, or name the private network of the Authentication Service in jwks_allow")
