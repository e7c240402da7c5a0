"""Records: what is known of media, listed, read, changed and deleted."""

from collections.abc import Awaitable, Callable
from datetime import datetime
from functools import partial
from typing import Annotated, Any

from litestar import Request, Response, delete, get, patch
from litestar.params import QueryParameter
from msgspec import UNSET, Struct, UnsetType
from msgspec.structs import replace

from mediacdn.access import Access, Caller
from mediacdn.catalog.card import CardCache
from mediacdn.catalog.database import Catalog
from mediacdn.config import Limits
from mediacdn.errors import DuplicateExists, InvalidParameter, MediaHeld, NotFound, PreconditionFailed, TooLarge, Unauthorized
from mediacdn.http.conditionals import Outcome, evaluate
from mediacdn.http.digests import etag
from mediacdn.ingest import Ingest
from mediacdn.interfaces import Clock
from mediacdn.lifecycle import Lifecycle
from mediacdn.model import Card, Media, Scope, Status
from mediacdn.routes import parameters
from mediacdn.routes.callers import Callers, header_map
from mediacdn.routes.contract import ACTS, CONDITIONS, IF_MATCH, NEEDS_TOKEN, READS_RECORD, WITH_TOKEN, answers, problems, reading
from mediacdn.routes.media import ULID, Id
from mediacdn.routes.pages import filled
from mediacdn.routes.views import Addresses, Page, Record, record_etag
from mediacdn.ulids import is_ulid

Asked = Request[Any, Any, Any]
Direct = Callable[[Media, Caller], Awaitable[str | None]]
_FILTERS = {"cursor", "limit", "owner", "tag", "type", "status", "created_after", "quarantined"}


class Patch(Struct, frozen=True, forbid_unknown_fields=True):
    """Changes to a record; what is absent stays, null clears."""

    title: str | UnsetType | None = UNSET
    tags: list[str] | UnsetType = UNSET
    public: bool | UnsetType = UNSET
    expires_at: datetime | UnsetType | None = UNSET
    metadata: dict[str, Any] | UnsetType = UNSET


class Records:
    """The rights and look-ups that every route about one record shares."""

    def __init__(self, *, catalog: Catalog, cards: CardCache, callers: Callers, access: Access, clock: Clock) -> None:
        self.catalog = catalog
        self._cards = cards
        self._callers = callers
        self._access = access
        self._clock = clock

    async def known(self, connection: Any, _: Any) -> None:
        """A guard: who asks is found out before the framework reads a body. Raises: Unauthorized, InvalidToken, AuthUnavailable."""
        caller = await self._callers.by_token(connection.scope)
        if caller.principal is None:
            raise Unauthorized()
        connection.scope["caller"] = caller

    async def caller(self, request: Asked) -> Caller:
        known = request.scope.get("caller")
        return known if isinstance(known, Caller) else await self._callers.by_token(request.scope)

    async def readable(self, caller: Caller, media_id: str) -> Media:
        """The row, when the caller's token may read its record. Raises: what `allowed` raises."""
        await self.allowed(caller, media_id)
        return await self._row(media_id)

    async def allowed(self, caller: Caller, media_id: str) -> None:
        """Whether the caller's token may read a media's record. Raises: Unauthorized, InsufficientScope, NotFound, Gone, MediaExpired, Quarantined."""
        self._access.needs(caller, Scope.READ)
        card = await self._card(media_id)
        verdict = await self._access.verdict(card, caller, "read")
        self._access.read(card, caller, self._clock.now(), verdict, bytes_only=False)

    async def actionable(self, caller: Caller, media_id: str, action: str) -> Media:
        """The row, when the caller may do `action` ("write", "delete", "admin") to it. Raises: what Access.act raises."""
        if caller.principal is None:
            self._access.needs(caller, Scope.WRITE)
        card = await self._card(media_id)
        verdict = await self._access.verdict(card, caller, "write" if action == "delete" else action)
        self._access.act(card, caller, self._clock.now(), action, verdict)
        return await self._row(media_id)

    async def _card(self, media_id: str) -> Card | None:
        if not is_ulid(media_id):
            raise NotFound()
        return await self._cards.get(media_id)

    async def _row(self, media_id: str) -> Media:
        media = await self.catalog.media.get(media_id)
        if media is None:
            raise NotFound()
        return media


def record_routes(
    records: Records,
    *,
    access: Access,
    ingest: Ingest,
    lifecycle: Lifecycle,
    limits: Limits,
    addresses: Addresses,
    direct: Direct,
    clock: Clock,
) -> list[Any]:
    """The handlers of this file. `direct` gives a record that is read its link elsewhere, None where it has none."""

    def shown(media: Media, caller: Caller) -> Response[Record]:
        record = addresses.record(media, storage=access.sees_storage(caller))
        return Response(record, headers={"ETag": record_etag(media), "Cache-Control": "private, no-cache"})

    @get("/v1/media", responses=problems(*NEEDS_TOKEN), security=WITH_TOKEN, tags=["records"])
    async def listed(
        request: Asked,
        cursor: Annotated[
            str | None, QueryParameter(name="cursor", description="`next` of an earlier page", schema_extra={"pattern": ULID})
        ] = None,
        limit: Annotated[int, QueryParameter(name="limit", ge=1, le=200)] = 50,
        owner: str | None = None,
        tag: str | None = None,
        media_type: Annotated[str | None, QueryParameter(name="type", description="A media type, or a range such as image/*")] = None,
        status: Status | None = None,
        created_after: Annotated[str | None, QueryParameter(name="created_after", schema_extra={"format": "date-time"})] = None,
        quarantined: Annotated[
            bool, QueryParameter(name="quarantined", description="What is withheld, and nothing else, with the reason; for admins")
        ] = False,
    ) -> Page:
        """Live media, newest first; with `quarantined`, what is withheld, also where it has expired. A page may be shorter than `limit`: only `next` says where the list ends."""
        caller = await records.caller(request)
        principal = access.needs(caller, Scope.ADMIN if quarantined else Scope.READ)
        if unknown := sorted(set(request.query_params) - _FILTERS):
            raise InvalidParameter(f"{unknown[0][:60]!r} is not a filter; there are {', '.join(sorted(_FILTERS))}")
        if any(text is not None and "\x00" in text for text in (owner, tag, media_type)):
            raise InvalidParameter("A filter cannot hold NUL")
        read = partial(
            records.catalog.media.page,
            owner=owner,
            tag=tag,
            media_type=media_type,
            status=status,
            created_after=parameters.time("created_after", created_after) if created_after is not None else None,
            visible_to=None if access.sees_all(caller) else principal.id,
            quarantined=quarantined,
        )
        shown, following = await filled(
            lambda most, after: read(limit=most, after=after),
            lambda media: access.lists(media.card, caller, clock.now()),
            limit=limit,
            after=parameters.cursor(cursor),
        )
        storage = access.sees_storage(caller)
        return Page([addresses.record(media, storage=storage, reason=quarantined) for media in shown], following)

    @get(
        "/v1/media/{media_id:str}/record",
        operation_class=reading(CONDITIONS),
        responses={**answers(None, "Not modified", status=304), **problems(*READS_RECORD, PreconditionFailed)},
        security=WITH_TOKEN,
        tags=["records"],
    )
    async def read(request: Asked, media_id: Id) -> Response[Record | None]:
        """One record."""
        caller = await records.caller(request)
        media = await records.readable(caller, media_id)
        outcome = evaluate("GET", header_map(request.scope), record_etag(media), media.updated_at, clock.now())
        if outcome is Outcome.FAILED:
            raise PreconditionFailed()
        record = addresses.record(media, storage=access.sees_storage(caller))
        if (away := await direct(media, caller)) is not None:  # which dies before what it stands in: no 304 may keep it
            record = replace(record, urls=replace(record.urls, original=away))
        elif outcome is Outcome.NOT_MODIFIED:
            return Response(None, status_code=304, media_type="text/plain", headers={"ETag": record_etag(media)})
        return Response(record, headers={"ETag": record_etag(media), "Cache-Control": "private, no-cache"})

    @patch(
        "/v1/media/{media_id:str}/record",
        guards=[records.known],
        operation_class=reading(IF_MATCH),
        responses=problems(*ACTS, DuplicateExists, PreconditionFailed, TooLarge),
        security=WITH_TOKEN,
        tags=["records"],
    )
    async def change(request: Asked, media_id: Id, data: Patch) -> Response[Record]:
        """Change title, tags, visibility, expiry or metadata; `If-Match` with the record's ETag guards against lost updates.

        What has expired is 410 `media_expired` also to its owner. An admin may still change it, and with a later `expires_at` bring it back, until the sweep has taken its
        bytes (`lifecycle.sweep_every`); 409 where the same bytes were uploaded anew meanwhile.
        """
        caller = await records.caller(request)
        media = await records.actionable(caller, media_id, "write")
        headers = header_map(request.scope)
        if evaluate("PATCH", headers, record_etag(media), media.updated_at, clock.now()) is not Outcome.PROCEED:
            raise PreconditionFailed(headers={"ETag": record_etag(media)})
        changes: dict[str, Any] = {}
        if data.title is not UNSET:
            changes["title"] = parameters.title(data.title) if data.title else None
        if data.tags is not UNSET:
            changes["tags"] = parameters.tags(data.tags, limits)
        if data.public is not UNSET:
            changes["public"] = data.public
        if data.expires_at is not UNSET:
            changes["expires_at"] = parameters.future(data.expires_at, clock.now()) if data.expires_at else None
        if data.metadata is not UNSET:
            changes["metadata"] = parameters.bounded(data.metadata, limits)
        if not changes:
            return shown(media, caller)
        key = ingest.dedupe_key(replace(media, public=changes.get("public", media.public)))
        version = media.version if "if-match" in headers else None
        return shown(await lifecycle.change(media_id, changes, dedupe_key=key, version=version), caller)

    @delete(
        "/v1/media/{media_id:str}",
        operation_class=reading(IF_MATCH),
        responses=problems(*ACTS, PreconditionFailed, MediaHeld),
        security=WITH_TOKEN,
        tags=["records"],
    )
    async def remove(request: Asked, media_id: Id, with_title: bool = False) -> None:
        """Delete a media for good; 409 while a movie or an episode holds it, unless that is to go `with_title`."""
        media = await records.actionable(await records.caller(request), media_id, "delete")
        if evaluate("DELETE", header_map(request.scope), etag(media.digest), media.created_at, clock.now()) is not Outcome.PROCEED:
            raise PreconditionFailed(headers={"ETag": etag(media.digest)})
        await lifecycle.delete(media_id, "remove" if with_title else "refuse")

    return [listed, read, change, remove]
