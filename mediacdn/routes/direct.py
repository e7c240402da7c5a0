"""Uploads past us: asking for presigned URLs, and saying that all was sent."""

from datetime import datetime
from typing import Annotated, Any

from litestar import Request, Response, post
from msgspec import Meta, Struct

from mediacdn.access import Access, Caller
from mediacdn.config import Limits
from mediacdn.errors import (
    Conflict,
    DigestMismatch,
    DirectUploadsOff,
    InvalidParameter,
    InvalidToken,
    NotFound,
    PartsMissing,
    QuotaExceeded,
    TooLarge,
    TooManyRequests,
    TypeNotAllowed,
    Unavailable,
    UploadGone,
)
from mediacdn.http.digests import parse_hex_sha256
from mediacdn.http.disposition import clean_filename
from mediacdn.http.media_types import normalise
from mediacdn.interfaces import Clock
from mediacdn.model import Part, Principal, Scope
from mediacdn.routes import parameters
from mediacdn.routes.callers import Callers
from mediacdn.routes.contract import NEEDS_TOKEN, WITH_TOKEN, WITH_TOKEN_OR_NOTHING, answers, problems
from mediacdn.routes.records import Records
from mediacdn.routes.views import Addresses, Record
from mediacdn.terms import Intake
from mediacdn.uploads.direct import Direct, Offer
from mediacdn.uploads.sessions import Uploads

Asked = Request[Any, Any, Any]


class Wish(Struct, frozen=True, forbid_unknown_fields=True, kw_only=True):
    """What is to be uploaded. `digest` is its SHA-256 in hexadecimal; the rest is as of POST /v1/media."""

    size: Annotated[int, Meta(ge=0, le=2**53)]
    media_type: str | None = None
    digest: str | None = None
    filename: str | None = None
    title: str | None = None
    tags: list[str] = []
    public: bool = False
    metadata: dict[str, Any] = {}
    expires_at: datetime | None = None


class SentPart(Struct, frozen=True, forbid_unknown_fields=True):
    """A part that was sent; `etag` is what the storage answered to it, where the client can see that."""

    number: int
    etag: str | None = None


class Sent(Struct, frozen=True, forbid_unknown_fields=True):
    """The parts that were sent. What is there is asked of the storage; this names what the client means to be there."""

    parts: list[SentPart] = []


def direct_routes(
    direct: Direct,
    uploads: Uploads,
    *,
    records: Records,
    callers: Callers,
    access: Access,
    limits: Limits,
    addresses: Addresses,
    clock: Clock,
) -> list[Any]:
    """The handlers of this file."""

    @post(
        "/v1/uploads/presigned",
        guards=[records.known],
        responses=problems(*NEEDS_TOKEN, DirectUploadsOff, TooLarge, TypeNotAllowed, QuotaExceeded, TooManyRequests),
        security=WITH_TOKEN,
        tags=["uploads"],
    )
    async def presigned(request: Asked, data: Wish) -> Response[Offer]:
        """Get URLs by which the bytes go to the storage without passing through this server."""
        principal = access.needs(await records.caller(request), Scope.WRITE)
        media_type = None if data.media_type is None else normalise(data.media_type)
        if data.media_type is not None and media_type is None:
            raise InvalidParameter("The declared media type is malformed")
        intake = Intake(
            public=data.public,
            title=parameters.title(data.title) if data.title else None,
            filename=clean_filename(data.filename) if data.filename else None,
            tags=parameters.tags(data.tags, limits),
            metadata=parameters.bounded(data.metadata, limits),
            expires_at=parameters.future(data.expires_at, clock.now()) if data.expires_at else None,
            media_type=media_type,
            sha256=parse_hex_sha256(data.digest) if data.digest else None,
        )
        return Response(await direct.begin(principal, intake, data.size), headers={"Cache-Control": "no-store"})

    @post(
        "/v1/uploads/{token:str}/complete",
        status_code=202,
        responses={
            **answers(Record, "It was promoted before"),
            **problems(PartsMissing, NotFound, UploadGone, Conflict, DigestMismatch, Unavailable),
        },
        security=WITH_TOKEN_OR_NOTHING,
        tags=["uploads"],
    )
    async def complete(request: Asked, token: str, data: Sent) -> Response[Record]:
        """Say that all was sent. The media is registered; it can be read once a job has verified its bytes."""
        if b"%" in request.scope["raw_path"]:
            raise NotFound("There is no such upload")
        try:
            principal: Principal | None = (await callers.by_token(request.scope)).principal
        except (InvalidToken, Unavailable):
            principal = None
        upload = await uploads.find(token, principal)
        media = await direct.complete(upload, [Part(part.number, part.etag or "") for part in data.parts])
        record = addresses.record(media, storage=access.sees_storage(Caller(principal)))
        return Response(
            record, status_code=200 if media.digest else 202, headers={"Location": record.urls.original, "Upload-Media-Id": media.id}
        )

    return [presigned, complete]
