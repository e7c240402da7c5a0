"""The record under other names, and a download by redirect: of what was made to be handed out, where something was."""

from datetime import datetime
from typing import Annotated, Any

from litestar import Request, Response, get
from litestar.datastructures import ResponseHeader
from litestar.params import Parameter as Param
from msgspec import Struct

from mediacdn import Core, Forbidden, Scope, contract

Id = Annotated[str, Param(description="The media's ULID, upper case", schema_extra={"pattern": "^[0-7][0-9A-HJKMNP-TV-Z]{25}$"})]
PROCESSED = "mp4"
"""The relationship of what is handed out in place of the original."""
READY = "READY"


class MediaMetadata(Struct, frozen=True, kw_only=True):
    """A media's metadata. `media_type` is "video", "image" and so on, `status` "uploaded", "processing", "processed" or "failed".

    What these names call S3's URLs are this server's, wherever the bytes lie: read them with the token that this was asked with.
    """

    media_id: str
    user_id: str
    title: str | None
    media_type: str
    upload_time: datetime
    status: str
    temp_s3_url: str
    processed_s3_url: str | None
    thumbnail_s3_url: str | None
    etag: str
    file_size: int


def record_routes(core: Core) -> list[Any]:
    """The handlers of this file."""

    @get("/api/media/{media_id:str}", responses=contract.problems(*contract.READS_RECORD), security=contract.WITH_TOKEN, tags=["compat"])
    async def metadata(request: Request[Any, Any, Any], media_id: Id) -> MediaMetadata:
        """One media's metadata."""
        principal = core.needs(await core.authenticate(dict(request.headers)), Scope.READ)
        card = await core.authorize(principal, "read", media_id)
        record = await core.record(card.id)
        original, status = record["urls"]["original"], record["status"]
        made = await core.output(card.id, PROCESSED)
        return MediaMetadata(
            media_id=record["id"],
            user_id=record["owner"],
            title=record["title"],
            media_type=record["kind"],
            upload_time=record["upload_time"],
            status="processed" if status == READY else status.lower(),
            temp_s3_url=original,
            processed_s3_url=f"{original}/{PROCESSED}" if made is not None else original if status == READY else None,
            thumbnail_s3_url=record["urls"]["thumb"],
            etag=record["etag"],
            file_size=record["size"],
        )

    @get(
        "/api/media/download/{media_id:str}",
        status_code=302,
        media_type="text/plain",
        responses=contract.problems(*contract.READS_RECORD, Forbidden),
        response_headers=[ResponseHeader(name="Location", description="The signed link", documentation_only=True)],
        security=contract.WITH_TOKEN,
        tags=["compat"],
    )
    async def download_processed(request: Request[Any, Any, Any], media_id: Id) -> Response[bytes]:
        """Redirect to a fresh signed link: of the MP4 that was made of a film, where one was, else of the original."""
        principal = core.needs(await core.authenticate(dict(request.headers)), Scope.READ)
        card = await core.authorize(principal, "read", media_id)
        url = await core.link(principal, await core.output(card.id, PROCESSED) or card.id)
        return Response(b"", status_code=302, media_type="text/plain", headers={"Location": url, "Cache-Control": "no-store"})

    return [metadata, download_processed]
