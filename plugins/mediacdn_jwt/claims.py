"""Claims of a token whose signature holds: whether they are for us and for now (RFC 7519 section 4.1), and whom they make the caller."""

from collections.abc import Mapping
from datetime import UTC, datetime
from typing import Any, TypeGuard

from mediacdn import InvalidToken, Principal
from mediacdn_jwt.config import JwtConfig

MAX_SUBJECT = 256
LATEST = 253402300799
"""The last second of the year 9999: what stands beyond it is not a date."""


def principal_of(claims: dict[str, Any], config: JwtConfig, now: float) -> Principal:
    """Turn claims into a principal; `now` is in unix seconds. Raises: InvalidToken."""
    if config.issuer is not None and claims.get("iss") != config.issuer:
        raise InvalidToken("The token comes from another issuer")
    _check_audience(claims.get("aud"), config.audience)
    expires = _moment(claims, "exp")
    if expires is None:
        raise InvalidToken("The token never expires")
    if now >= expires + config.leeway:
        raise InvalidToken("The token has expired")
    for name in ("nbf", "iat"):
        moment = _moment(claims, name)
        if moment is not None and now < moment - config.leeway:
            raise InvalidToken("The token is not valid yet")
    subject = claims.get(config.subject_claim)
    if not is_subject(subject):
        raise InvalidToken("The token names no subject that could be used")
    return Principal(subject, scopes_of(claims, config), datetime.fromtimestamp(expires, UTC), claims)


def is_subject(subject: object) -> TypeGuard[str]:
    """An owner's name ends up in records and logs: short, and without control characters or halves of characters."""
    return isinstance(subject, str) and 0 < len(subject) <= MAX_SUBJECT and subject.isprintable() and not subject.isspace()


def scopes_of(claims: Mapping[str, Any], config: JwtConfig) -> frozenset[str]:
    """Give our scopes for a claim that is a text (RFC 8693 section 4.2) or a list; the default ones without the claim. Raises: InvalidToken."""
    claim = claims.get(config.scope_claim)
    if claim is None:
        return frozenset(config.default_scopes)
    named = claim.split(" ") if isinstance(claim, str) else claim
    if not isinstance(named, list) or not all(isinstance(scope, str) for scope in named):
        raise InvalidToken("The token's scopes are malformed")
    return frozenset(ours for scope in named if scope for ours in config.scope_map.get(scope, scope).split())


def _check_audience(claim: object, expected: str | tuple[str, ...] | None) -> None:
    if claim is None and expected is None:
        return
    ours = {expected} if isinstance(expected, str) else set(expected or ())
    named = [claim] if isinstance(claim, str) else claim
    if not isinstance(named, list) or not all(isinstance(each, str) for each in named) or not ours.intersection(named):
        raise InvalidToken("The token is for another audience")


def _moment(claims: Mapping[str, Any], name: str) -> float | None:
    value = claims.get(name)
    if value is None and name not in claims:
        return None
    # The comparison is also what refuses NaN and infinity (1e999).
    if isinstance(value, bool) or not isinstance(value, int | float) or not 0 <= value <= LATEST:
        raise InvalidToken("The token's times are malformed")
    return float(value)
