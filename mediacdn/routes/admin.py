"""What owners and admins do to media beyond their records: quarantine, release, revoke, and asking why."""

from typing import Annotated, Any, Literal

from litestar import Request, delete, get, post
from msgspec import Meta, Struct

from mediacdn.access import Access, Caller
from mediacdn.config import Rule
from mediacdn.errors import MediaError, NotFound, TooLarge
from mediacdn.interfaces import Clock
from mediacdn.lifecycle import Lifecycle
from mediacdn.model import Principal, Scope, State
from mediacdn.routes.contract import ACTS, NEEDS_TOKEN, WITH_TOKEN, OptionalBody, problems
from mediacdn.routes.media import Id
from mediacdn.routes.records import Records
from mediacdn.storage.placement import place
from mediacdn.ulids import is_ulid

Asked = Request[Any, Any, Any]


class Quarantine(Struct, frozen=True, forbid_unknown_fields=True):
    """`scope` "digest" also withholds twins and descendants and refuses new uploads of these bytes."""

    reason: Annotated[str, Meta(max_length=1000)] | None = None
    scope: Literal["media", "digest"] = "digest"


class Affected(Struct, frozen=True):
    ids: list[str]
    quarantined: bool


class Revoked(Struct, frozen=True):
    id: str
    links_valid_from: int


class Explanation(Struct, frozen=True):
    """Why a media answers as it does. `reads` maps kinds of callers to what their GET answers now."""

    id: str
    owner: str
    public: bool
    state: State
    quarantine_reason: str | None
    private_read: str
    reads: dict[str, str]
    storage: str
    storage_key: str
    placement_rule: int | None
    generation: int
    links_valid_from: int
    tiers: list[str]
    variants: list[str]
    jobs: list[str]


def admin_routes(
    records: Records, *, access: Access, lifecycle: Lifecycle, clock: Clock, routing: tuple[Rule, ...], private_read: str
) -> list[Any]:
    """The handlers of this file."""

    @post(
        "/v1/media/{media_id:str}/quarantine",
        guards=[records.known],
        status_code=200,
        operation_class=OptionalBody,
        responses=problems(*ACTS, TooLarge),
        security=WITH_TOKEN,
        tags=["administration"],
    )
    async def quarantine(request: Asked, media_id: Id, data: Quarantine | None = None) -> Affected:
        """Withhold a media at once, also from every link."""
        await records.actionable(await records.caller(request), media_id, "admin")
        wish = data or Quarantine()
        return Affected(await lifecycle.quarantine(media_id, scope=wish.scope, reason=wish.reason), True)

    @delete("/v1/media/{media_id:str}/quarantine", status_code=200, responses=problems(*ACTS), security=WITH_TOKEN, tags=["administration"])
    async def release(request: Asked, media_id: Id) -> Affected:
        """Lift a quarantine, of the media and of its digest."""
        access.needs(await records.caller(request), Scope.ADMIN)
        if not is_ulid(media_id):
            raise NotFound()
        return Affected(await lifecycle.release(media_id), False)

    @post("/v1/media/{media_id:str}/revoke", status_code=200, responses=problems(*ACTS), security=WITH_TOKEN, tags=["administration"])
    async def revoke(request: Asked, media_id: Id) -> Revoked:
        """Kill every link to this media that was issued up to now."""
        await records.actionable(await records.caller(request), media_id, "write")
        media = await lifecycle.revoke(media_id)
        return Revoked(media.id, media.links_valid_from)

    @get("/v1/media/{media_id:str}/explain", responses=problems(*NEEDS_TOKEN, NotFound), security=WITH_TOKEN, tags=["administration"])
    async def explain(request: Asked, media_id: Id) -> Explanation:
        """Who may read a media and why, and where its bytes are."""
        caller = await records.caller(request)
        access.needs(caller, Scope.ADMIN)
        media = await records.catalog.media.get(media_id)
        if media is None:
            raise NotFound()
        card = media.card

        def answer(of: Caller) -> str:
            try:
                access.read(card, of, clock.now())
            except MediaError as error:
                return f"{error.status} {error.code}"
            return "200"

        stranger = Caller(Principal("", frozenset({Scope.READ})))
        owner = Caller(Principal(media.owner, frozenset({Scope.READ})))
        _, rule = place(
            routing, media.storage, media_type=media.media_type, size=media.size, tags=media.tags, owner=media.owner, public=media.public
        )
        return Explanation(
            id=media.id,
            owner=media.owner,
            public=media.public,
            state=media.state,
            quarantine_reason=media.quarantine_reason,
            private_read=private_read,
            reads={"anonymous": answer(Caller()), "any_token": answer(stranger), "owner": answer(owner), "admin": answer(caller)},
            storage=media.storage,
            storage_key=media.storage_key,
            placement_rule=None if rule is None else routing.index(rule),
            generation=media.generation,
            links_valid_from=media.links_valid_from,
            tiers=[media.storage],
            variants=[],
            jobs=[],
        )

    return [quarantine, release, revoke, explain]
