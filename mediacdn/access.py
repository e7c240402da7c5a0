"""Who may do what to one media: the core's own rules over a card and a caller. It looks nothing up; routes bring the card, drivers the principal."""

from datetime import datetime

from msgspec import Struct

from mediacdn.config import Auth, Lifecycle
from mediacdn.errors import (
    Forbidden,
    Gone,
    InsufficientScope,
    InvalidSignature,
    LinkRevoked,
    MediaError,
    MediaExpired,
    NotFound,
    ProcessingFailed,
    Quarantined,
    Unauthorized,
)
from mediacdn.http.peers import address_matches
from mediacdn.interfaces import Authorizer
from mediacdn.model import Card, Link, Principal, Scope, State, Status

# Every read asks for them, and to find a member in its enumeration takes longer than to compare it.
_LIVE = State.LIVE
_WITHOUT_BYTES = (Status.REGISTERED, Status.FETCHING, Status.CANCELLED)


class Caller(Struct, frozen=True):
    """Who asks: at most one of a verified principal and a verified link, and the address the request came from."""

    principal: Principal | None = None
    link: Link | None = None
    address: str | None = None

    def has(self, scope: Scope) -> bool:
        return self.principal is not None and scope in self.principal.scopes

    def owns(self, card: Card) -> bool:
        return self.principal is not None and self.principal.id == card.owner


def _without_bytes(status: Status) -> MediaError:
    return (
        ProcessingFailed("The media has no bytes: to fetch it failed")
        if status is Status.FAILED
        else NotFound("The media has no bytes yet")
    )


class Access:
    """The rules, bound to the configuration and, where there is one, to an authorizer driver that speaks first."""

    def __init__(self, auth: Auth, lifecycle: Lifecycle, authorizer: Authorizer | None = None) -> None:
        self._any_reads = auth.private_read == "any"
        self._owner_deletes = auth.owner_may_delete
        self._gone = lifecycle.tombstone == "gone"
        self._hide_quarantine = lifecycle.quarantine_answer == "not_found"
        self._authorizer = authorizer

    @property
    def asks_a_driver(self) -> bool:
        """Whether an authorizer driver has a say, which has to be awaited."""
        return self._authorizer is not None

    async def verdict(self, card: Card | None, caller: Caller, action: str) -> bool | None:
        """Ask the authorizer driver, where it has a say: a known private media and a principal. Raises: AuthUnavailable."""
        if self._authorizer is None or card is None or caller.principal is None or (action == "read" and card.public):
            return None
        return await self._authorizer.allows(caller.principal, action, card)

    def read(self, card: Card | None, caller: Caller, now: datetime, verdict: bool | None = None, *, bytes_only: bool = True) -> Card:
        """Give the card back when its bytes (or, without `bytes_only`, its record) may be read.

        An unknown id and a private one answer alike to those who may not read. Raises: Unauthorized, InsufficientScope, LinkRevoked,
        InvalidSignature, NotFound, Gone, MediaExpired, Quarantined.
        """
        if caller.link is not None:
            card = self._by_link(card, caller.link, caller.address)
        elif card is None or not card.public:
            card = self._by_token(card, caller, verdict)
        return self.present(card, now, admin=not bytes_only and caller.has(Scope.ADMIN), bytes_only=bytes_only)

    def present(self, card: Card, now: datetime, *, admin: bool = False, bytes_only: bool = True) -> Card:
        """Refuse what is deleted, withheld, expired or has no bytes yet; an admin still sees the record of withheld and expired media."""
        expired = card.expires_at is not None and card.expires_at <= now
        if card.state is not _LIVE or expired:
            self._refuse(card.state, expired, admin)
        if bytes_only and (not card.digest or card.status in _WITHOUT_BYTES):
            raise _without_bytes(card.status)
        return card

    def act(self, card: Card | None, caller: Caller, now: datetime, action: str, verdict: bool | None = None) -> Card:
        """Give the card back when the caller may do `action`: "write" is the owner's or an admin's, "delete" by `auth.owner_may_delete`, "admin" an admin's.

        Raises: Unauthorized, InsufficientScope, Forbidden, NotFound, Gone.
        """
        if caller.principal is None:
            raise Unauthorized()
        admin = caller.has(Scope.ADMIN)
        if action == "admin" and not admin:
            raise InsufficientScope(f"This needs the scope {Scope.ADMIN}")
        if not admin and not caller.has(Scope.WRITE):
            raise InsufficientScope(f"This needs the scope {Scope.WRITE}")
        if card is None:
            raise NotFound()
        if verdict is None and not admin:
            if not caller.owns(card):
                readable = card.public or self._any_reads
                raise Forbidden() if readable else NotFound()
            if action == "delete" and not self._owner_deletes:
                raise InsufficientScope(f"This needs the scope {Scope.ADMIN}")
        elif verdict is False:
            raise Forbidden()
        return self.present(card, now, admin=admin, bytes_only=False)

    def needs(self, caller: Caller, scope: Scope) -> Principal:
        """The principal, when its token carries `scope` (admin carries all). Raises: Unauthorized, InsufficientScope."""
        if caller.principal is None:
            raise Unauthorized()
        if scope not in caller.principal.scopes and Scope.ADMIN not in caller.principal.scopes:
            raise InsufficientScope(f"This needs the scope {scope}")
        return caller.principal

    def sees_all(self, caller: Caller) -> bool:
        """Whether listings show everybody's media to this caller."""
        return self._any_reads or caller.has(Scope.ADMIN)

    async def lists(self, card: Card, caller: Caller, now: datetime) -> bool:
        """Whether a listing shows this media to the caller: an authorizer driver is asked of each, without one the query has already chosen."""
        if self._authorizer is None:
            return True
        try:
            self.read(card, caller, now, await self.verdict(card, caller, "read"), bytes_only=False)
        except (Forbidden, NotFound):
            return False
        return True

    def sees_storage(self, caller: Caller) -> bool:
        """Whether records tell this caller where bytes lie. Under owner-only reading twins of two owners share bytes, and the key would tell one of the other."""
        return self._any_reads or caller.has(Scope.ADMIN)

    def dedupe_owner(self, owner: str) -> str:
        """The part of a duplicate's key that the owner is: where not every token reads everything, twins of two owners stay two media."""
        return "" if self._any_reads and self._authorizer is None else owner

    def _refuse(self, state: State, expired: bool, admin: bool) -> None:
        if state is State.DELETED:
            # The sweep took the bytes of what had expired; the answer stays what it was.
            raise MediaExpired() if expired else Gone() if self._gone else NotFound()
        if admin:
            return
        if state is State.QUARANTINED:
            raise NotFound() if self._hide_quarantine else Quarantined()
        raise MediaExpired()

    def _by_link(self, card: Card | None, link: Link, address: str | None) -> Card:
        if card is None:
            raise NotFound()
        if link.iat < card.links_valid_from:
            raise LinkRevoked()
        if link.ip is not None and (address is None or not address_matches(address, link.ip)):
            raise InvalidSignature("The link is bound to another address")
        return card

    def _by_token(self, card: Card | None, caller: Caller, verdict: bool | None) -> Card:
        if caller.principal is None:
            raise Unauthorized()
        admin = Scope.ADMIN in caller.principal.scopes
        if not admin and Scope.READ not in caller.principal.scopes:
            raise InsufficientScope(f"This needs the scope {Scope.READ}")
        if card is None or verdict is False:
            raise NotFound()
        if verdict is None and not admin and not self._any_reads and not caller.owns(card):
            raise NotFound()
        return card
