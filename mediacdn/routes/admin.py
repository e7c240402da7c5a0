"""What owners and admins do to media beyond their records: quarantine, release, revoke, purge, and asking why."""

from collections.abc import Awaitable, Callable, Mapping
from typing import Annotated, Any, Literal

from litestar import Request, Response, delete, get, post
from msgspec import UNSET, Meta, Struct, UnsetType

from mediacdn.access import Access, Caller
from mediacdn.config import Edge
from mediacdn.edge.policy import Passed, Rules, Verdict
from mediacdn.edge.tiers import EdgeStats
from mediacdn.errors import InvalidParameter, MediaError, NotFound, TooLarge
from mediacdn.http.freshness import cache_control, cdn_cache_control
from mediacdn.interfaces import CachePolicy, Clock
from mediacdn.lifecycle import Lifecycle
from mediacdn.model import Card, Principal, Scope, State
from mediacdn.routes.contract import ACTS, NEEDS_TOKEN, WITH_TOKEN, OptionalBody, problems
from mediacdn.routes.media import Id
from mediacdn.routes.records import Records
from mediacdn.storage.placement import Routing, subject
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


class Purge(Struct, frozen=True, forbid_unknown_fields=True):
    """Exactly one of the three: the ids of media, tags that media carry, or everything."""

    media: Annotated[str, Meta(min_length=1)] | Annotated[list[str], Meta(min_length=1, max_length=10_000)] | UnsetType = UNSET
    tags: Annotated[list[str], Meta(min_length=1, max_length=1000)] | UnsetType = UNSET
    all: bool | UnsetType = UNSET


class Purged(Struct, frozen=True):
    """How many media were purged, those derived from the named ones among them; null when it was everything."""

    purged: int | None


class Caching(Struct, frozen=True):
    """What the cache policy says of the original at its first request, why, and which rules before did not hold; `copies` counts the slices held in each tier
    now, null where nobody can tell. Times are seconds."""

    rule: str
    because: str | None
    passed_over: list[Passed]
    tiers: list[str]
    ttl: float
    grace: float
    pinned: bool
    copies: dict[str, int] | None


class Explanation(Struct, frozen=True):
    """Why a media answers as it does. `reads` maps kinds of callers to what their GET answers now; `freshness` is what caches are told."""

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
    cache: Caching
    freshness: dict[str, str]
    tiers: list[str]
    variants: list[str]
    jobs: list[str]


Holds = Callable[[Card, str], Awaitable[Mapping[str, int]]]
"""How many slices of a media's variant each tier holds now."""


def admin_routes(
    records: Records,
    *,
    access: Access,
    lifecycle: Lifecycle,
    clock: Clock,
    routing: Routing,
    private_read: str,
    edge: Edge,
    policy: CachePolicy,
    stats: Callable[[], EdgeStats],
    holds: Holds | None = None,
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

    @post(
        "/v1/admin/purge",
        guards=[records.known],
        status_code=200,
        responses=problems(*NEEDS_TOKEN, TooLarge),
        security=WITH_TOKEN,
        tags=["administration"],
    )
    async def purge(request: Asked, data: Purge) -> Purged:
        """Kill every copy of some media, or of all, in the edge of every server. Ids that nobody knows are passed over."""
        access.needs(await records.caller(request), Scope.ADMIN)
        if [data.media is not UNSET, data.tags is not UNSET, data.all is True].count(True) != 1 or data.all is False:
            raise InvalidParameter("Give exactly one of 'media', 'tags' and 'all'; 'all' can only be true")
        if data.all is True:
            await lifecycle.purge_all()
            return Purged(None)
        if isinstance(data.tags, list):
            return Purged(await lifecycle.purge(tags=list(dict.fromkeys(data.tags))))
        named = [data.media] if isinstance(data.media, str) else data.media or []
        return Purged(await lifecycle.purge(ids=[each for each in dict.fromkeys(named) if is_ulid(each)]))

    @get("/v1/admin/cache", responses=problems(*NEEDS_TOKEN), security=WITH_TOKEN, tags=["administration"])
    async def cache(request: Asked) -> Response[EdgeStats]:
        """What the tiers of the answering process hold and did."""
        access.needs(await records.caller(request), Scope.ADMIN)
        return Response(stats(), headers={"Cache-Control": "no-store"})

    async def caching(card: Card) -> Caching:
        verdict = policy.explain(card, "", 1) if isinstance(policy, Rules) else Verdict(policy.judge(card, "", 1), None)
        admission = verdict.admission
        copies = None if holds is None else dict(await holds(card, ""))
        return Caching(
            rule=admission.rule,
            because=verdict.because,
            passed_over=list(verdict.passed),
            tiers=list(admission.tiers),
            ttl=admission.ttl,
            grace=admission.grace,
            pinned=admission.pinned,
            copies=copies,
        )

    def freshness(card: Card) -> dict[str, str]:
        left = None if card.expires_at is None else int((card.expires_at - clock.now()).total_seconds())
        told = {"cache_control": cache_control(card.public, edge.public_max_age if card.public else edge.private_max_age, remaining=left)}
        if card.public and edge.cdn_max_age is not None:
            told["cdn_cache_control"] = cdn_cache_control(edge.cdn_max_age, edge.grace, remaining=left)
        return told

    @get("/v1/media/{media_id:str}/explain", responses=problems(*NEEDS_TOKEN, NotFound), security=WITH_TOKEN, tags=["administration"])
    async def explain(request: Asked, media_id: Id) -> Explanation:
        """Who may read a media and why, where its bytes are, and what the cache does with them."""
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
        cached = await caching(card)
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
            placement_rule=routing.place(subject(media, media.relationship or "")).rule,
            generation=media.generation,
            links_valid_from=media.links_valid_from,
            cache=cached,
            freshness=freshness(card),
            tiers=[*(tier for tier, count in (cached.copies or {}).items() if count), media.storage],
            variants=[],
            jobs=[f"{job.id} {job.code or job.kind} {job.state}" for job in await records.catalog.jobs.of_media(media.id)],
        )

    return [quarantine, release, revoke, explain, purge, cache]
