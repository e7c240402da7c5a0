"""Subtitles of a media: given in a language, replaced, and taken away. They are read like any other output, and listed by the manifests of streams."""

from dataclasses import dataclass
from datetime import datetime
from typing import Annotated, Any

from litestar import HttpMethod, Request, Response, delete, get, put, route
from litestar.datastructures import ResponseHeader
from litestar.openapi.spec import OpenAPIMediaType, Operation, RequestBody, Schema
from litestar.openapi.spec.enums import OpenAPIType
from litestar.params import Parameter as Param
from litestar.params import QueryParameter
from litestar.response.base import ASGIResponse
from msgspec import Struct

from mediacdn.access import Access
from mediacdn.catalog.packages import SUBTITLES, PackageRows
from mediacdn.config import Limits
from mediacdn.derivation.maker import Maker
from mediacdn.errors import (
    Conflict,
    ContentRefused,
    EncodingRefused,
    InvalidParameter,
    NotFound,
    OverLimits,
    QuotaExceeded,
    StorageFull,
    TooLarge,
    TooManyRequests,
    Undecodable,
    Unprocessable,
)
from mediacdn.http.languages import language_tag
from mediacdn.lifecycle import Lifecycle
from mediacdn.model import Media
from mediacdn.routes.bodies import raw
from mediacdn.routes.callers import header_map
from mediacdn.routes.contract import ACTS, READS_RECORD, WITH_TOKEN, WITH_TOKEN_LINK_OR_NOTHING, answers, problems
from mediacdn.routes.media import ASKED, BYTES, Id, Reads
from mediacdn.routes.records import Records
from mediacdn.routes.views import Addresses, Record
from mediacdn.terms import Terms

ACTION = "subtitles"
"""The action that reads what is given."""
Asked = Request[Any, Any, Any]
Language = Annotated[str, Param(description="A language tag (BCP 47), such as `en` or `pt-BR`")]
_MOST_LABEL = 100
_BODY = RequestBody(
    required=True,
    description="WebVTT or SubRip, in UTF-8; which of the two is told by the text itself.",
    content={name: OpenAPIMediaType(schema=Schema(type=OpenAPIType.STRING)) for name in ("text/vtt", "application/x-subrip")},
)


class SubtitlesView(Struct, frozen=True):
    """Subtitles of one language: the tag, what viewers are shown of it, and the text at `url`, below which a prefix link reads it too."""

    language: str
    label: str
    url: str
    media_type: str
    size: int
    digest: str
    created_at: datetime


class SubtitlesList(Struct, frozen=True):
    """All of them, by their tags; there are at most `limits.max_subtitles`."""

    items: list[SubtitlesView]


@dataclass
class TextBody(Operation):
    """OpenAPI of a body that the framework never parses."""

    def __post_init__(self) -> None:
        self.request_body = _BODY


def subtitle_routes(
    records: Records,
    *,
    reads: Reads,
    terms: Terms,
    maker: Maker,
    lifecycle: Lifecycle,
    rows: PackageRows,
    limits: Limits,
    access: Access,
    addresses: Addresses,
) -> list[Any]:
    """The handlers of this file."""
    methods = [HttpMethod.GET, HttpMethod.HEAD]
    location = ResponseHeader(name="Location", description="Where they are read", documentation_only=True)

    async def body(request: Asked) -> bytes:
        headers, most = header_map(request.scope), limits.max_subtitles_size
        if headers.get("content-encoding", "identity").strip().lower() not in ("identity", ""):
            raise EncodingRefused()
        content = bytearray()
        async for chunk in raw(request.receive):
            content += chunk
            if len(content) > most:
                raise TooLarge(f"Subtitles have at most {most} bytes", max_upload_size=most)
        return bytes(content)

    def tag(language: str) -> str:
        found = language_tag(language)
        if found is None:
            raise InvalidParameter(f"{language[:60]!r} is no language tag, such as en or pt-BR")
        return found

    @get("/v1/media/{media_id:str}/subtitles", responses=problems(*READS_RECORD), security=WITH_TOKEN, tags=["streams"])
    async def listed(request: Asked, media_id: Id) -> SubtitlesList:
        """The languages in which a media has subtitles, and where they are read."""
        await records.allowed(await records.caller(request), media_id)
        return SubtitlesList([view(each, media_id) for each in await rows.subtitles(media_id)])  # theirs are the rights of the media

    def view(each: Media, media_id: str) -> SubtitlesView:
        assert each.relationship is not None
        language = each.relationship.removeprefix(SUBTITLES)
        where = addresses.url(f"/v1/media/{media_id}/subtitles/{language}")
        label = str(each.facts.get("label", language))
        return SubtitlesView(language, label, where, each.media_type, each.size, each.digest, each.created_at)

    @put(
        "/v1/media/{media_id:str}/subtitles/{language:str}",
        operation_class=TextBody,
        status_code=201,
        request_max_body_size=None,
        guards=[records.known],
        responses={
            **answers(Record, "The record of those that took the place of others, or were there"),
            **problems(
                *ACTS, Conflict, ContentRefused, EncodingRefused, OverLimits, QuotaExceeded, StorageFull, TooLarge, TooManyRequests, Undecodable, Unprocessable
            ),
        },
        response_headers=[location],
        security=WITH_TOKEN,
        tags=["streams"],
    )  # fmt: skip
    async def give(
        request: Asked,
        media_id: Id,
        language: Language,
        label: Annotated[
            str | None, QueryParameter(name="label", description="What viewers are shown; by default the tag", max_length=_MOST_LABEL)
        ] = None,
    ) -> Response[Record]:
        """Give a film its subtitles in a language, or others in their place: 201, or 200 where there were some."""
        caller = await records.caller(request)
        source = await records.actionable(caller, media_id, "write")
        assert caller.principal is not None
        written = tag(language)
        if source.kind not in ("video", "audio"):
            raise Unprocessable(f"A media of the type {source.media_type} has no subtitles")
        if label is not None and not (label.strip() and label.isprintable() and '"' not in label):
            raise InvalidParameter("A label is printable text without quotation marks")
        await terms.admit(caller.principal, None)
        content = await body(request)
        relationship = SUBTITLES + written
        there = {each.relationship for each in await rows.subtitles(source.id)}
        if relationship not in there and len(there) >= limits.max_subtitles:
            raise Conflict(f"A media has subtitles in at most {limits.max_subtitles} languages")
        spec = {"language": written, "label": (label or written).strip()}
        made = await maker.attach(source, content, ACTION, spec, relationship, limits.quota_per_owner)
        for old in await rows.before(made):
            await lifecycle.delete(old)
        shown = addresses.record(made, storage=access.sees_storage(caller))
        where = addresses.url(f"/v1/media/{source.id}/subtitles/{written}")
        return Response(shown, status_code=200 if relationship in there else 201, headers={"Location": where})

    @delete("/v1/media/{media_id:str}/subtitles/{language:str}", responses=problems(*ACTS), security=WITH_TOKEN, tags=["streams"])
    async def take(request: Asked, media_id: Id, language: Language) -> None:
        """Take the subtitles of a language away; manifests list them no more."""
        source = await records.actionable(await records.caller(request), media_id, "write")
        found = [each.id for each in await rows.subtitles(source.id) if each.relationship == SUBTITLES + tag(language)]
        if not found:
            raise NotFound("There are no subtitles in this language")
        for each in found:
            await lifecycle.delete(each)

    @route(
        "/v1/media/{media_id:str}/subtitles/{language:str}",
        http_method=methods, responses=BYTES, operation_class=ASKED, security=WITH_TOKEN_LINK_OR_NOTHING, tags=["streams"],
    )  # fmt: skip
    async def read(request: Asked, media_id: Id, language: Language) -> ASGIResponse:
        """The subtitles of a language, as WebVTT."""
        return await reads.answer(request.scope, media_id, rest=f"/subtitles/{language}")  # type: ignore[no-any-return]

    @route(
        "/s/{token:str}/v1/media/{media_id:str}/subtitles/{language:str}",
        http_method=methods, responses=BYTES, operation_class=ASKED, tags=["streams"],
    )  # fmt: skip
    async def read_by_prefix(request: Asked, token: str, media_id: Id, language: Language) -> ASGIResponse:
        """The same below a prefix token."""
        return await reads.answer(request.scope, media_id, token, rest=f"/subtitles/{language}")  # type: ignore[no-any-return]

    return [listed, give, take, read, read_by_prefix]
