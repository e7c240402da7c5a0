"""Tokens before they are believed: finds the bearer token in a request's headers and reads its header. Nothing in a token is followed: a kid is compared, a URL is ignored."""

from collections.abc import Mapping

from msgspec import Struct

from mediacdn import InvalidToken
from mediacdn_jwt.keys import MAX_KID
from mediacdn_jwt.strict import decode_base64url, decode_object

MAX_TOKEN = 8192
ACCESS_TYPES = frozenset({"jwt", "at+jwt"})


class Token(Struct, frozen=True):
    """A compact JWS (RFC 7515 section 7.1) of good shape, its signature not yet checked."""

    text: str
    algorithm: str
    kid: str | None


def bearer(headers: Mapping[str, str]) -> str | None:
    """Give the bearer token (RFC 6750 section 2.1), None without credentials or with those of another scheme. Raises: InvalidToken."""
    value = headers.get("authorization")
    if value is None:
        return None
    getall = getattr(headers, "getall", None)
    fields = list(getall("authorization")) if getall is not None else [value]
    # A list of credentials is one field folded from several (RFC 9110 section 5.3): whose they are cannot be told.
    parts = [part.strip(" \t") for field in fields for part in field.split(",")]
    bearers = [part for part in parts if part.partition(" ")[0].lower() == "bearer"]
    if not bearers:
        return None
    if len(parts) > 1:
        raise InvalidToken("There is more than one Authorization header")
    token = bearers[0].partition(" ")[2].strip(" ")
    if not token or len(token) > MAX_TOKEN or not token.isascii():
        raise InvalidToken("The token is malformed")
    return token


def read(text: str, algorithms: frozenset[str]) -> Token:
    """Read a token's header and refuse what this server does not verify (RFC 8725 section 3.1). Raises: InvalidToken."""
    parts = text.split(".")
    if len(parts) != 3 or not all(parts):
        raise InvalidToken("The token is malformed")
    try:
        header = decode_object(decode_base64url(parts[0]))
        decode_base64url(parts[1])
        decode_base64url(parts[2])
    except ValueError:
        raise InvalidToken("The token is malformed") from None
    algorithm, kid, kind = header.get("alg"), header.get("kid"), header.get("typ", "JWT")
    if not isinstance(algorithm, str) or algorithm not in algorithms:
        raise InvalidToken("The token's algorithm is not accepted")
    if "crit" in header or "b64" in header:
        # RFC 7515 section 4.1.11: what is critical and not understood must be refused, and nothing is understood here.
        raise InvalidToken("The token asks for an extension that is not supported")
    if kid is not None and not (isinstance(kid, str) and 0 < len(kid) <= MAX_KID):
        raise InvalidToken("The token is malformed")
    if not isinstance(kind, str) or not _is_access(kind.lower()):
        raise InvalidToken("The token is of another kind")
    return Token(text, algorithm, kid)


def _is_access(kind: str) -> bool:
    """RFC 8725 section 3.11: a token typed for another use (logout+jwt, dpop+jwt, secevent+jwt) is no access token."""
    kind = kind.removeprefix("application/")
    return kind in ACCESS_TYPES or not kind.endswith("+jwt")
