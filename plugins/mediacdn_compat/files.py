"""A service of MediaFiles: an upload as a form, whose answer comes before anything is transcoded, and a status with the stream's URL."""

from collections.abc import Mapping
from dataclasses import dataclass
from datetime import timedelta
from mimetypes import guess_type
from typing import Annotated, Any

from litestar import Request, get, post
from litestar.openapi.spec import OpenAPIMediaType, Operation, RequestBody, Schema
from litestar.openapi.spec.enums import OpenAPIFormat, OpenAPIType
from litestar.params import Parameter as Param
from msgspec import Struct

from mediacdn import Core, Scope, UnsupportedType, contract

Id = Annotated[str, Param(description="The media's ULID, upper case", schema_extra={"pattern": "^[0-7][0-9A-HJKMNP-TV-Z]{25}$"})]


class Uploaded(Struct, frozen=True, rename="camel"):
    """`status` is UPLOADED where work is to be done that the media waits for, READY where there is none, and what it is by now of bytes that were here already;
    FAILED at once where a file is named as a film or sound and is neither."""

    media_file_id: str
    status: str


class MediaFile(Struct, frozen=True, rename="camel", omit_defaults=True):
    """`manifestUrl` is null until the stream is there. That of a private media opens by itself and ends after a while: ask again for another."""

    id: str
    status: str
    manifest_url: str | None
    error_message: str | None = None


@dataclass
class FormOperation(Operation):
    """OpenAPI of the upload, whose body the framework never parses."""

    def __post_init__(self) -> None:
        file = Schema(type=OpenAPIType.STRING, format=OpenAPIFormat.BINARY)
        text = Schema(type=OpenAPIType.STRING)
        fields: dict[str, Any] = {
            "file": file,
            "title": text,
            "public": Schema(type=OpenAPIType.STRING, enum=["true", "false"]),
            "sha256": text,
        }
        form = Schema(type=OpenAPIType.OBJECT, required=["file"], properties=fields)
        said = "A form with one part `file`; other fields as `POST /v1/media` has them."
        self.request_body = RequestBody(required=True, description=said, content={"multipart/form-data": OpenAPIMediaType(schema=form)})


def _lasting(duration: float | None) -> timedelta:
    """How long a player may need a stream's link, which its segments need as well: the film three times over, and an hour."""
    return timedelta(hours=1, seconds=3 * (duration or 3600))


def _seen(record: Mapping[str, Any]) -> tuple[str, str | None]:
    """The status and what went wrong, for clients that know films only: what is named as one and is none has failed, though it is kept and can be read."""
    said = guess_type(record["filename"] or "")[0] or ""
    if record["kind"] in ("video", "audio") or not said.startswith(("video/", "audio/")):
        return record["status"], record["error_message"]
    what = f"its bytes are {record['media_type']}" if record["size"] else "it is empty"
    return "FAILED", f"Its name says {said}, but {what}: there is nothing to play"


def file_routes(core: Core) -> list[Any]:
    """The handlers of this file."""

    @post(
        "/media/upload",
        status_code=200,
        operation_class=FormOperation,
        request_max_body_size=None,
        responses=contract.problems(*contract.UPLOADS),
        security=contract.WITH_TOKEN,
        tags=["compat"],
    )
    async def upload_file(request: Request[Any, Any, Any]) -> Uploaded:
        """Store the part `file` of a form, of any size that the limits allow, as it streams in."""
        if not request.headers.get("content-type", "").strip().lower().startswith("multipart/form-data"):
            core.needs(await core.authenticate(dict(request.headers)), Scope.WRITE)
            raise UnsupportedType("A form is expected: multipart/form-data with one part 'file'")
        record = await core.upload(request)
        return Uploaded(record["id"], _seen(record)[0])

    @get(
        "/media-files/{media_id:str}",
        responses=contract.problems(*contract.READS_RECORD),
        security=contract.WITH_TOKEN_OR_NOTHING,
        tags=["compat"],
    )
    async def media_file(request: Request[Any, Any, Any], media_id: Id) -> MediaFile:
        """How far a media is, and where its stream is: of a public one to anybody."""
        principal = await core.authenticate(dict(request.headers))
        card = await core.authorize(principal, "read", media_id)
        record = await core.record(card.id)
        manifest = None
        if (record["urls"]["manifest"] or "").endswith("/hls/master.m3u8"):
            begin = core.url("/")
            if not card.public:
                link = await core.link(principal, card.id, prefix=True, expires=_lasting(record["duration"]))
                begin = link.removesuffix(f"v1/media/{card.id}")
            manifest = f"{begin}stream/hls/{card.id}/master.m3u8"
        status, wrong = _seen(record)
        return MediaFile(card.id, status, manifest, wrong)

    return [upload_file, media_file]
