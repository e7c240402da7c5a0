"""Who a request comes from: its signed link, or the principal that an authenticator driver vouches for. Decides nothing about media."""

from collections.abc import Callable, Collection, Mapping, Sequence
from typing import Any

from mediacdn import signing
from mediacdn.access import Caller
from mediacdn.errors import InvalidSignature
from mediacdn.interfaces import Authenticator, Clock
from mediacdn.model import Link, Principal

Scope = Any  # the ASGI scope, which frameworks type each in their own way


def header_map(scope: Scope) -> dict[str, str]:
    """Lower-case names; repeated fields joined as RFC 9110 section 5.3 has it."""
    fields: dict[str, str] = {}
    for raw_name, raw_value in scope["headers"]:
        name, value = raw_name.decode("latin-1"), raw_value.decode("latin-1")
        fields[name] = f"{fields[name]}, {value}" if name in fields else value
    return fields


class Callers:
    """Finds the caller. Authenticators are asked in order: the first Principal wins, None passes on, an error refuses."""

    def __init__(
        self, authenticators: Sequence[Authenticator], lookup: Callable[[str], bytes | None], clock: Clock, base_path: str = ""
    ) -> None:
        self._authenticators = authenticators
        self._lookup = lookup
        self._clock = clock
        self._base = len(base_path)

    async def principal(self, headers: Mapping[str, str]) -> Principal | None:
        """Raises: InvalidToken, AuthUnavailable."""
        for each in self._authenticators:
            found = await each.authenticate(headers)
            if found is not None:
                return found
        return None

    async def by_token(self, scope: Scope) -> Caller:
        """The caller of an API request: a link never counts here. Raises: InvalidToken, AuthUnavailable."""
        principal = await self.principal(header_map(scope))
        scope["subject"] = None if principal is None else principal.id
        return Caller(principal, None, scope.get("peer"))

    def query_link(self, scope: Scope) -> Link | None:
        """The link that the query carries, verified; None when it carries none. Raises: InvalidSignature, LinkExpired."""
        query: bytes = scope["query_string"]
        if b"sig=" not in query:
            return None
        try:
            raw, path = query.decode("ascii"), scope["raw_path"][self._base :].decode("ascii")
        except UnicodeDecodeError:
            raise InvalidSignature() from None
        return signing.verify_query(self._lookup, scope["method"], path, raw, int(self._clock.now().timestamp()))

    def prefix_link(self, scope: Scope, token: str, media_id: str, rest: str, presets: Collection[str] = ()) -> Link:
        """The link of a `/s/{token}/…` path, verified and covering this path. Raises: InvalidSignature, LinkExpired."""
        link = signing.verify_prefix(self._lookup, token, scope["method"], int(self._clock.now().timestamp()))
        if not signing.link_covers(link, media_id, rest, presets):
            raise InvalidSignature()
        return link
