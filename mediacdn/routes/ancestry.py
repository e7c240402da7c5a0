"""Ancestry: the records of what a media was made of, and of what was made of it."""

from collections.abc import Awaitable, Callable
from typing import Annotated, Any

from litestar import Request, get
from litestar.params import Parameter as Param

from mediacdn.access import Access
from mediacdn.catalog.ancestry import AncestryRows, Kin
from mediacdn.errors import InvalidParameter
from mediacdn.interfaces import Clock
from mediacdn.model import Media, Scope
from mediacdn.routes.contract import READS_RECORD, WITH_TOKEN, problems
from mediacdn.routes.media import ULID, Id
from mediacdn.routes.pages import filled
from mediacdn.routes.parameters import cursor as read_cursor
from mediacdn.routes.records import Records
from mediacdn.routes.views import Addresses, Page

Asked = Request[Any, Any, Any]
Relationship = Annotated[str | None, Param(description="Only those that are this to their own source, such as thumbnail")]
Cursor = Annotated[str | None, Param(description="`next` of an earlier page", schema_extra={"pattern": ULID})]
Limit = Annotated[int, Param(ge=1, le=200)]
Listing = Callable[..., Awaitable[tuple[list[Media], str | None]]]


def ancestry_routes(records: Records, rows: AncestryRows, *, access: Access, addresses: Addresses, clock: Clock) -> list[Any]:
    """The handlers of this file."""

    async def listed(request: Asked, media_id: str, listing: Listing, relationship: str | None, cursor: str | None, limit: int) -> Page:
        caller = await records.caller(request)
        await records.allowed(caller, media_id)
        if relationship is not None and "\x00" in relationship:
            raise InvalidParameter("'relationship' cannot hold NUL")
        principal = access.needs(caller, Scope.READ)
        kin = Kin(relationship, None if access.sees_all(caller) else principal.id)
        shown, following = await filled(
            lambda most, after: listing(media_id, kin, limit=most, after=after),
            lambda media: access.lists(media.card, caller, clock.now()),
            limit=limit,
            after=read_cursor(cursor),
        )
        return Page([addresses.record(media, storage=access.sees_storage(caller)) for media in shown], following)

    @get("/v1/media/{media_id:str}/ancestors", responses=problems(*READS_RECORD), security=WITH_TOKEN, tags=["ancestry"])
    async def ancestors(request: Asked, media_id: Id, relationship: Relationship = None, cursor: Cursor = None, limit: Limit = 50) -> Page:
        """What a media was made of, the nearest first. Those that the caller may not list are left out, and so are deleted ones."""
        return await listed(request, media_id, rows.ancestors, relationship, cursor, limit)

    @get("/v1/media/{media_id:str}/descendants", responses=problems(*READS_RECORD), security=WITH_TOKEN, tags=["ancestry"])
    async def descendants(
        request: Asked, media_id: Id, relationship: Relationship = None, cursor: Cursor = None, limit: Limit = 50
    ) -> Page:
        """All that was made of a media, and of what was made of it, newest first."""
        return await listed(request, media_id, rows.descendants, relationship, cursor, limit)

    @get("/v1/media/{media_id:str}/derivatives", responses=problems(*READS_RECORD), security=WITH_TOKEN, tags=["ancestry"])
    async def derivatives(
        request: Asked, media_id: Id, relationship: Relationship = None, cursor: Cursor = None, limit: Limit = 50
    ) -> Page:
        """What was made of a media itself, newest first."""
        return await listed(request, media_id, rows.derivatives, relationship, cursor, limit)

    return [ancestors, descendants, derivatives]
